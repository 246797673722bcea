"""Export: hash the files of a model folder, then stream them into encrypted parts.

Two passes over the sealed weights. In the first the custodian learns names, sizes and hashes, signs them and
sends back the signature and lineage; in the second everything is packed. Plaintext exists only in this
process's memory, chunk by chunk.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from appliance.bundle.create import Plan, plan, write_content
from appliance.bundle.manifest import Label
from appliance.bundle.names import JSON_TEXT, SAFETENSORS, media_type_of
from appliance.bundle.parts import PartOutput, PartWriter
from appliance.bundle.stream import Member, Readable, bytes_member, digest_member
from appliance.export.form import EXACT, Form
from appliance.messages import Channel
from appliance.training.architecture import architecture_json
from appliance.training.bpe import BytePairs
from appliance.training.config import ModelConfig, parse_config
from appliance.training.safetensors import PREFIX, header_bytes
from appliance.training.tokenizer import Tokenizer, check_vocabulary
from appliance.training.trained import demand_trained
from appliance.worker.corpora import open_tokenizer
from appliance.worker.port import Port, SealedInput, read_key
from appliance.worker.rounding import Rounded
from appliance.worklink import Begin, Finished, GivePart, MemberHashed, PartDone

BYTES = {"type": "bytes", "vocabulary": 256}


def run(channel: Channel, begin: Begin) -> None:
    """Carry out one export."""
    form = Form.of({name: str(word) for name, word in begin.numbers.items()})
    port = Port(channel)
    inputs = port.inputs()
    members = _model_folder(inputs, form) if inputs else []  # figures alone come from the custodian
    digests = {member.name: digest_member(member) for member in members}
    for digest in digests.values():
        port.send(MemberHashed(digest.name, digest.media_type, digest.size, digest.sha256))
    files = port.files()
    label = _label(files.pop("label"))
    made = [bytes_member(name, media_type_of(name), data) for name, data in files.items()]
    planned = plan(label, (*digests.values(), *(digest_member(member) for member in made)))
    _write(port, planned, [*members, *made])
    port.send(Finished(0, stopped=False))


def _model_folder(inputs: dict[str, SealedInput], form: Form) -> list[Member]:
    """Return the files that the sealed objects become; the rest is the custodian's to make."""
    weights, config = inputs["weights"], inputs["config"]
    with contextlib.closing(config.reader()) as reader:
        parsed = parse_config(reader.read())
    tokenizer = open_tokenizer(inputs.get("tokenizer"))
    check_vocabulary(tokenizer, parsed.model)
    _demand_header(weights, parsed.model)

    @contextlib.contextmanager
    def plaintext() -> Iterator[Readable]:
        reader = weights.reader()
        yield reader if form.rounding == EXACT else Rounded(reader, reader.size)

    made = [
        Member("model/model.safetensors", SAFETENSORS, weights.reader().size, plaintext),
        bytes_member("model/config.json", JSON_TEXT, architecture_json(parsed.model)),
        bytes_member("model/tokenizer.json", JSON_TEXT, _public(tokenizer)),
    ]
    return [member for member in made if member.name.removeprefix("model/") in form.files]


def _demand_header(weights: SealedInput, model: ModelConfig) -> None:
    """Refuse weights whose header says anything but this model; raises ContentRefused."""
    with contextlib.closing(weights.reader()) as reader:
        head = bytearray(reader.read(PREFIX.size))
        head += reader.read(header_bytes(head))
        demand_trained(head, reader.size, model)


def _public(tokenizer: Tokenizer) -> bytes:
    """Return `tokenizer.json`: byte pairs as the public `tokenizers` library reads them."""
    if isinstance(tokenizer, BytePairs):
        return tokenizer.public_json()
    return json.dumps(BYTES, sort_keys=True).encode("ascii")


def _label(data: bytes) -> Label:
    """Read the label that the custodian made; JSON knows no tuples."""
    fields: dict[str, Any] = json.loads(data)
    for name in ("recipients", "signers"):
        fields[name] = tuple(fields[name])
    return Label(**fields)


def _write(port: Port, planned: Plan, members: list[Member]) -> None:
    """Stream everything into the parts that the custodian opens, one after the other."""
    sizes = planned.part_sizes

    def next_part(index: int) -> PartOutput:
        if index > 0:
            port.send(PartDone(index - 1, sizes[index - 1]))
        _, (descriptor, key_pipe) = port.expect(GivePart)
        return PartOutput(descriptor, read_key(key_pipe), b"")

    write_content(planned, members, PartWriter(sizes, next_part))
    port.send(PartDone(len(sizes) - 1, sizes[-1]))
