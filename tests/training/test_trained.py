"""Headers of trained weights: one for each model, and no room for anything else."""

from __future__ import annotations

import io
import itertools
import json

import numpy as np
import pytest

from appliance.bundle.content import SafetensorsChecker
from appliance.errors import ContentRefused
from appliance.training.config import ModelConfig
from appliance.training.safetensors import PREFIX, encode_header, header_bytes
from appliance.training.trained import demand_trained, header_of, shapes_of
from appliance.worker import pack
from appliance.worker.verify import checker_of

MODEL = ModelConfig(layers=2, width=16, heads=2, context=8, vocabulary=300)
TEXT = "a line of the corpus " * 1000


def size_of(shapes):
    return 4 * sum(int(np.prod(shape)) for shape in shapes.values())


def written(document, spacing=(",", ":")):
    text = json.dumps(document, separators=spacing).encode("ascii")
    text += b" " * (-len(text) % 8)
    return PREFIX.pack(len(text)) + text


def whole():
    head = header_of(shapes_of(MODEL), "12")
    return json.loads(head[PREFIX.size :])


def data_size():
    return size_of(shapes_of(MODEL))


def judge(head, more=0, model=None):
    return demand_trained(bytearray(head), len(head) + data_size() + more, model)


@pytest.mark.parametrize(
    ("positions", "norm", "activation", "tied_head"),
    [*itertools.product(("learned", "rotary"), ("layernorm", "rmsnorm"), ("gelu", "swiglu"), (True, False))],
)
def test_the_header_of_each_kind_of_decoder_is_accepted_with_and_without_its_config(
    positions, norm, activation, tied_head
):
    model = ModelConfig(3, 16, 2, 8, 300, positions, norm, activation, tied_head)
    shapes = shapes_of(model)
    head = header_of(shapes, "0")
    tensors = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    assert head == encode_header(tensors, {"step": "0"})
    for known in (None, model):
        header = demand_trained(head, len(head) + size_of(shapes), known)
        assert header.tensors.keys() == shapes.keys()


@pytest.mark.parametrize(
    "metadata",
    [{}, {"step": "12", "note": TEXT}, {"step": TEXT}, {"step": "012"}, {"step": "1" * 13}, {"note": "12"}],
    ids=["none", "more", "text", "zeros", "long", "other"],
)
def test_text_in_the_metadata_is_refused(metadata):
    document = {**whole(), "__metadata__": metadata}
    with pytest.raises(ContentRefused, match="expected a count of steps and nothing else as metadata"):
        judge(written(document))


def test_tensors_that_the_model_does_not_have_are_refused():
    document = whole()
    end = data_size()
    extra = {"dtype": "F32", "shape": [0], "data_offsets": [end, end]}
    more = {"dtype": "F32", "shape": [2], "data_offsets": [end, end + 8]}
    for name, entry, size in (("a line of the corpus", extra, 0), ("h.2.ln_1.weight", more, 8)):
        with pytest.raises(ContentRefused, match="expected exactly the tensors of the model"):
            judge(written({**document, name: entry}), size)
    renamed = {name.replace("ln_f", "corpus"): entry for name, entry in document.items()}
    with pytest.raises(ContentRefused, match="expected exactly the tensors of the model"):
        judge(written(renamed))
    without = {
        "a line of the corpus" if name == "wte.weight" else name: told for name, told in document.items()
    }
    with pytest.raises(ContentRefused, match=r"expected a table wte\.weight"):
        judge(written(without))


def test_another_model_than_the_configs_is_refused():
    other = ModelConfig(layers=1, width=16, heads=2, context=8, vocabulary=300)
    with pytest.raises(ContentRefused, match="expected exactly the tensors of the model"):
        judge(written(whole()), model=other)


def test_other_spacing_order_or_types_are_refused():
    document = whole()
    names = [name for name in document if name != "__metadata__"]
    other_order = {name: document[name] for name in ("__metadata__", *reversed(names))}
    integers = {name: {**told, "dtype": "I32"} if name in names else told for name, told in document.items()}
    padded = json.dumps(document, separators=(",", ":")).encode("ascii") + b" \t" * 400
    for head in (
        written(document, (", ", ":")),
        written(other_order),
        written(integers),
        PREFIX.pack(len(padded)) + padded,
    ):
        with pytest.raises(ContentRefused, match="expected the header byte for byte as training writes it"):
            judge(head)
    swapped = dict(document)
    first, last = "h.0.ln_1.bias", "h.0.ln_1.weight"  # of one shape: only the names change places
    swapped[first], swapped[last] = document[last], document[first]
    with pytest.raises(ContentRefused, match="byte for byte"):
        judge(written(swapped))


@pytest.mark.parametrize("chunk", [1, 7, 1 << 16])
def test_the_second_reader_refuses_text_in_trained_weights_and_takes_strangers_as_they_are(chunk):
    document = {**whole(), "__metadata__": {"step": "12", "note": TEXT}}
    data = written(document) + bytes(data_size())

    def read(checker):
        for start in range(0, len(data), chunk):
            checker.feed(memoryview(data)[start : start + chunk])
        checker.finish()

    read(checker_of("weights", len(data), trained=False))
    with pytest.raises(ContentRefused, match="nothing else as metadata"):
        read(checker_of("weights", len(data), trained=True))
    with pytest.raises(ContentRefused, match="nothing else as metadata"):
        read(SafetensorsChecker("model/model.safetensors", len(data), demand_trained))


def test_a_header_is_as_long_as_its_prefix_says():
    head = header_of(shapes_of(MODEL), "12")
    assert header_bytes(head[: PREFIX.size]) + PREFIX.size == len(head)
    with pytest.raises(ContentRefused, match="cut off"):
        judge(head[:-8])


def test_weights_of_another_header_are_not_packed():
    class Reader(io.BytesIO):
        @property
        def size(self):
            return len(self.getbuffer())

    class Sealed:
        def __init__(self, data):
            self.data = data

        def reader(self):
            return Reader(self.data)

    pack._demand_header(Sealed(header_of(shapes_of(MODEL), "12") + bytes(data_size())), MODEL)
    document = {**whole(), "__metadata__": {"step": "12", "note": TEXT}}
    with pytest.raises(ContentRefused, match="nothing else as metadata"):
        pack._demand_header(Sealed(written(document) + bytes(data_size())), MODEL)
