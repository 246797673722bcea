"""A config is accepted whole or refused with the key, what was expected and what was found."""

import contextlib
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import ContentRefused
from appliance.training import config as module
from appliance.training.config import KEYS, PRESETS, TrainConfig, parse_config

MINIMAL = b'[data]\ncorpus = "docs"\n'


def test_a_name_alone_gives_the_tiny_preset():
    config = parse_config(MINIMAL)
    assert config == parse_config(b'preset = "tiny"\n' + MINIMAL)
    assert PRESETS["tiny"] == {}
    for table, part in (("model", config.model), ("train", config.train)):
        for name, key in KEYS[table].items():
            default = 0 if key.default == "all" else key.default
            assert getattr(part, name) == default, name
    assert config.data.corpus == (("docs", 1.0),)
    assert config.data.tokenizer == "bytes"


def test_a_model_without_words_is_the_default_of_every_key():
    values = {name: key.default for name, key in KEYS["model"].items()}
    named = {name: values[name] for name in ("layers", "width", "heads", "context")}
    assert module.ModelConfig(**named) == module.ModelConfig(**values)


def test_single_keys_override_the_preset_and_integers_serve_as_numbers():
    config = parse_config(MINIMAL + b"[train]\nclip = 2\nsteps = 70\nwarmup_steps = 7\n[model]\nheads = 2\n")
    assert (config.train.clip, config.train.steps, config.model.heads) == (2.0, 70, 2)
    assert type(config.train.clip) is float


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[model]\ndepth = 3", r"key model\.depth: expected only layers, .*found an unknown key"),
        (
            "[modle]\nlayers = 3",
            r"key modle: expected only the tables model, train, data.*an unknown key",
        ),
        ("model = 3", r"key model: expected a table, found 3"),
        (
            "[model]\nlayers = -4",
            r"key model\.layers: expected an integer from 1 to 256 \(blocks\), found -4",
        ),
        ("[model]\nlayers = 0", r"key model\.layers: .*found 0"),
        ("[model]\nlayers = 2.0", r"key model\.layers: expected an integer .*found 2\.0"),
        ("[model]\nlayers = true", r"key model\.layers: expected an integer .*found True"),
        ('[model]\nlayers = "2"', r"key model\.layers: expected an integer .*found '2'"),
        ("[model]\nlayers = [2]", r"key model\.layers: expected an integer .*found \[2\]"),
        ("[train]\nlearning_rate = nan", r"key train\.learning_rate: expected a number from .*found nan"),
        ("[train]\nlearning_rate = inf", r"key train\.learning_rate: .*found inf"),
        ("[train]\nlearning_rate = -1e-3", r"key train\.learning_rate: .*found -0\.001"),
        ("[train]\nclip = false", r"key train\.clip: expected a number .*found False"),
        ("[model]\nheads = 5", r"key model\.heads: expected a divisor of model\.width = 128, found 5"),
        (
            "[train]\nmin_learning_rate = 0.9",
            r"key train\.min_learning_rate: expected at most train\.learning_rate = .*found 0\.9",
        ),
        (
            "[train]\nsteps = 10\nwarmup_steps = 10",
            r"key train\.warmup_steps: expected less than train\.steps = 10, found 10",
        ),
        ('preset = "huge"', r"key preset: expected one of gpt2-124m, .*tiny, found 'huge'"),
        ("preset = 3", r"key preset: expected one of .*tiny, found 3"),
        (
            '[model]\npositions = "none"',
            r"""key model\.positions: expected "learned" or "rotary", found 'none'""",
        ),
        ("[model]\nnorm = 1", r"""key model\.norm: expected "layernorm" or "rmsnorm", found 1"""),
        ("[model]\ntied_head = 1", r"key model\.tied_head: expected true or false, found 1"),
        ("[model]\ndropout = 1.0", r"key model\.dropout: expected a number from 0\.0 to 0\.9, found 1\.0"),
        (
            '[model]\nwidth = 20\nheads = 4\npositions = "rotary"',
            r"key model\.heads: expected a head of an even width for rotary positions",
        ),
        (
            "[model]\nvocabulary = 300",
            r'key model\.vocabulary: expected 256, since data\.tokenizer is "bytes"',
        ),
        (
            '[model]\nvocabulary = 256\n[data]\ncorpus="a"\ntokenizer = "words"',
            r"key model\.vocabulary: expected more than 256 for the tokenizer 'words', found 256",
        ),
        ("[train]\nspike = 0.5", r"key train\.spike: expected 0, or a factor above 1, found 0\.5"),
        (
            "[train]\nbatch = 65536\naccumulate = 65536",
            r"key train\.accumulate: expected batch · accumulate · context below 4294967296 tokens",
        ),
        (
            "[train]\nthreads = 0",
            r'key train\.threads: expected an integer from 1 to 1024 or "all" \(threads\), found 0',
        ),
        ("[train]\nthreads = 2000", r"key train\.threads: expected an integer from 1 to 1024 .*found 2000"),
        ('[train]\nthreads = "many"', r"key train\.threads: .*found 'many'"),
        ("[model", r"expected TOML, found a syntax error"),
        ("[model]\nlayers = 2\nlayers = 3", r"expected TOML, found a syntax error"),
    ],
)
def test_a_bad_value_is_refused_with_key_expected_and_found(text, message):
    with pytest.raises(ContentRefused, match=message):
        parse_config(
            text.encode() + b"\n" + (MINIMAL if not text.endswith("[model") and "[data]" not in text else b"")
        )


def test_several_corpora_have_weights_that_are_brought_to_a_sum_of_one():
    config = parse_config(b"[data]\ncorpus = {prose = 3, code = 1.0}\n")
    assert config.data.corpus == (("code", 0.25), ("prose", 0.75))
    assert config.digest() == parse_config(b"[data.corpus]\ncode = 0.5\nprose = 1.5\n").digest()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "{}",
            r"key data\.corpus: expected a name .*, or a table of at most 16 names and weights, found \{\}",
        ),
        ("{A = 1}", r"key data\.corpus: expected a name"),
        ("{a = 0}", r"key data\.corpus\.a: expected a number from .* \(weight\), found 0"),
        ("{a = true}", r"key data\.corpus\.a: expected a number .*found True"),
        ('{a = "1"}', r"key data\.corpus\.a: expected a number .*found '1'"),
        ("{a = nan}", r"key data\.corpus\.a: expected a number .*found nan"),
        (
            "{a = 1, b = 1000}",
            r"key data\.corpus\.a: expected at least a 256th of all weights, 1001\.0, found",
        ),
        ("{" + ",".join(f"c{n} = 1" for n in range(17)) + "}", r"a table of at most 16 names"),
    ],
)
def test_a_mixture_is_refused_with_what_is_wrong(value, message):
    with pytest.raises(ContentRefused, match=message):
        parse_config(f"[data]\ncorpus = {value}\n".encode())


@pytest.mark.parametrize(
    "name", ['""', '"../secret"', '"Docs"', '"a b"', '"' + "a" * 65 + '"', "3", '"a\\u0000"']
)
def test_a_corpus_is_a_plain_name(name):
    with pytest.raises(ContentRefused, match=r"key data\.corpus: expected a name of 1 to 64 characters"):
        parse_config(f"[data]\ncorpus = {name}\n".encode())


def test_a_missing_corpus_is_named():
    with pytest.raises(ContentRefused, match=r"key data\.corpus: .*found nothing: the key is missing"):
        parse_config(b"")


def test_size_and_encoding_are_bounded_before_anything_is_parsed():
    with pytest.raises(ContentRefused, match="at most 65536 bytes, found 65537"):
        parse_config(b"#" * (module.MAX_CONFIG_BYTES + 1))
    with pytest.raises(ContentRefused, match="expected UTF-8 text, found another byte at offset 2"):
        parse_config(b"# \xff")
    with pytest.raises(ContentRefused, match="expected TOML"):
        parse_config(b"a = " + b"[" * 20_000)


def test_every_preset_parses_and_every_key_has_a_field_and_the_reverse():
    for name in PRESETS:
        parse_config(f'preset = "{name}"\n'.encode() + MINIMAL)
    for table in dataclasses.fields(TrainConfig):
        cls = getattr(module, str(table.type))
        assert list(KEYS[table.name]) == [field.name for field in dataclasses.fields(cls)]


def test_the_digest_follows_every_value_and_nothing_else():
    base = parse_config(MINIMAL)
    assert parse_config(b"# a remark\n" + MINIMAL).digest() == base.digest()
    digests = {base.digest()}
    for table, keys in KEYS.items():
        part = getattr(base, table)
        for key, rule in keys.items():
            value = getattr(part, key)
            if rule.kind == "word":
                changed = next(word for word in rule.words if word != value)
            elif rule.kind == "corpus":
                changed = (*value, ("other", 1.0))
            else:
                changed = value + "x" if isinstance(value, str) else value + 1
            digests.add(
                dataclasses.replace(base, **{table: dataclasses.replace(part, **{key: changed})}).digest()
            )
    assert len(digests) == 1 + sum(map(len, KEYS.values()))


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused_or_parsed_never_worse(data):
    with contextlib.suppress(ContentRefused):
        assert isinstance(parse_config(data), TrainConfig)


@given(st.integers(0, len(MINIMAL) - 1), st.integers(1, 255))
def test_a_flipped_byte_never_escapes_the_parser(place, flip):
    data = bytearray(MINIMAL)
    data[place] ^= flip
    with contextlib.suppress(ContentRefused):
        assert isinstance(parse_config(bytes(data)), TrainConfig)
