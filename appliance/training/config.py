"""One training run as a frozen value, read from TOML by a strict parser.

Guarantees: what `parse_config` returns can be trained as it stands. Anything else (an unknown key, a wrong
type, a value out of range, two keys that contradict each other) is refused with the key, what was expected
and what was found. `appliance.training.keys` is the whole vocabulary. A config is an algorithmic secret: the
appliance guards it as it guards weights.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from appliance.errors import ContentRefused
from appliance.training.keys import BYTES, KEYS, MAX_CORPORA, MAX_NAME, NAME_CHARACTERS, Key
from appliance.training.presets import DEFAULT_PRESET, PRESETS

MAX_CONFIG_BYTES = 64 * 1024
BYTE_VOCABULARY = 256
_MAX_ROWS = 1 << 32  # of one step: the counter of a dropout mask numbers them
_MIN_SHARE = 1 / 256  # of a corpus among several: a quarter of what one block of the mixture can tell apart


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Shape of the decoder; `context` counts tokens. What has a default is GPT-2's choice."""

    layers: int
    width: int
    heads: int
    context: int
    vocabulary: int = BYTE_VOCABULARY
    positions: Literal["learned", "rotary"] = "learned"
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    activation: Literal["gelu", "swiglu"] = "gelu"
    tied_head: bool = True
    dropout: float = 0.0


@dataclass(frozen=True, slots=True)
class RunConfig:
    """How it is trained: counts of steps and sequences, AdamW's constants, and the seed of every draw.

    `threads` is 0 for all cores.
    """

    steps: int
    batch: int
    accumulate: int
    precision: Literal["fp32", "bf16"]
    recompute: bool
    threads: int
    memory: int
    learning_rate: float
    min_learning_rate: float
    schedule: Literal["cosine", "linear", "stable"]
    warmup_steps: int
    decay_fraction: float
    weight_decay: float
    clip: float
    beta1: float
    beta2: float
    spike: float
    seed: int
    init_from: str
    eval_every: int
    eval_tokens: int
    patience: int
    checkpoint_every: int
    validation_fraction: float

    @property
    def sequences(self) -> int:
        """Sequences of one step."""
        return self.batch * self.accumulate


@dataclass(frozen=True, slots=True)
class DataConfig:
    """What it is trained on: names of sealed corpora with their weights, and how text becomes tokens."""

    corpus: tuple[tuple[str, float], ...]
    tokenizer: str
    memory: int


@dataclass(frozen=True, slots=True)
class KeepConfig:
    """Which checkpoints stay in the vault; one that no key keeps is removed, the newest two never are."""

    last: int
    best: int
    every: int


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Everything that decides a run; equal configs and corpora give equal weights."""

    model: ModelConfig
    train: RunConfig
    data: DataConfig
    keep: KeepConfig

    def canonical(self) -> bytes:
        """One byte string per value: ASCII JSON with sorted keys."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode("ascii")

    def digest(self) -> str:
        """Hex SHA-256 of `canonical()`: a checkpoint belongs to exactly one config."""
        return hashlib.sha256(self.canonical()).hexdigest()


def parse_config(data: bytes) -> TrainConfig:
    """Parse TOML into a config; raise `ContentRefused` naming key, expected and found.

    `preset` (default `"tiny"`) gives every key but `data.corpus`; tables override single keys.
    """
    document = _document(data)
    preset = document.pop("preset", DEFAULT_PRESET)
    if not isinstance(preset, str) or preset not in PRESETS:
        raise _refused("preset", f"one of {', '.join(sorted(PRESETS))}", preset)
    for name, table in document.items():
        if name not in KEYS:
            raise _refused(name, f"only the tables {', '.join(KEYS)} and the key preset", "an unknown key")
        if not isinstance(table, dict):
            raise _refused(name, "a table", table)
    tables = {name: _table(name, document.get(name, {}), PRESETS[preset].get(name, {})) for name in KEYS}
    config = TrainConfig(
        ModelConfig(**tables["model"]),
        RunConfig(**tables["train"]),
        DataConfig(**tables["data"]),
        KeepConfig(**tables["keep"]),
    )
    _check_together(config)
    return config


def _document(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_CONFIG_BYTES:
        raise ContentRefused(f"config: expected at most {MAX_CONFIG_BYTES} bytes, found {len(data)}")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ContentRefused(
            f"config: expected UTF-8 text, found another byte at offset {error.start}"
        ) from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ContentRefused(f"config: expected TOML, found a syntax error: {error}") from error


def _table(name: str, given: Mapping[str, object], preset: Mapping[str, object]) -> dict[str, Any]:
    for key in given:
        if key not in KEYS[name]:
            raise _refused(f"{name}.{key}", f"only {', '.join(KEYS[name])}", "an unknown key")
    values: dict[str, object] = {}
    for key, rule in KEYS[name].items():
        found = given.get(key, preset.get(key, rule.default))
        if found is None:
            raise _refused(f"{name}.{key}", _expected(rule), "nothing: the key is missing")
        values[key] = _value(f"{name}.{key}", rule, found)
    return values


def _value(path: str, rule: Key, found: object) -> object:
    if rule.kind in ("int", "float"):
        return _number(path, rule, found)
    if rule.kind == "corpus":
        return _corpora(path, rule, found)
    if rule.kind == "bool":
        valid = isinstance(found, bool)
    elif rule.kind == "word":
        valid = found in rule.words
    else:
        valid = _is_name(found)
    if not valid:
        raise _refused(path, _expected(rule), found)
    return found


def _number(path: str, rule: Key, found: object) -> int | float:
    if isinstance(found, str) and found in rule.words:
        return 0
    allowed = int if rule.kind == "int" else (int, float)
    if isinstance(found, bool) or not isinstance(found, allowed):
        raise _refused(path, _expected(rule), found)
    if not rule.low <= found <= rule.high:  # NaN fails this too
        raise _refused(path, _expected(rule), found)
    return int(found) if rule.kind == "int" else float(found)


def _corpora(path: str, rule: Key, found: object) -> tuple[tuple[str, float], ...]:
    """One name, or a table of names and weights, which are brought to a sum of one."""
    if _is_name(found):
        return ((str(found), 1.0),)
    if not isinstance(found, dict) or not 1 <= len(found) <= MAX_CORPORA or not all(map(_is_name, found)):
        raise _refused(path, _expected(rule), found)
    weight = Key("float", None, "", "weight", 1e-6, 1e6)
    weights = {name: _number(f"{path}.{name}", weight, value) for name, value in found.items()}
    total = sum(weights.values())
    for name, value in weights.items():
        if value / total < _MIN_SHARE:
            raise _refused(f"{path}.{name}", f"at least a 256th of all weights, {total}", value)
    return tuple((name, weights[name] / total) for name in sorted(weights))


def _is_name(found: object) -> bool:
    return isinstance(found, str) and 1 <= len(found) <= MAX_NAME and set(found) <= NAME_CHARACTERS


def _expected(rule: Key) -> str:
    if rule.kind in ("int", "float"):
        kind = "an integer" if rule.kind == "int" else "a number"
        return f"{kind} from {rule.range}" + (f" ({rule.unit})" if rule.unit else "")
    name = f"a name of 1 to {MAX_NAME} characters out of a-z 0-9 - _ ."
    if rule.kind == "corpus":
        return f"{name}, or a table of at most {MAX_CORPORA} names and weights"
    return name if rule.kind == "name" else rule.range


def _check_together(config: TrainConfig) -> None:
    """Refuse values that are each in range and contradict each other."""
    model, run, data = config.model, config.train, config.data
    if model.width % model.heads:
        raise _refused("model.heads", f"a divisor of model.width = {model.width}", model.heads)
    if model.positions == "rotary" and model.width // model.heads % 2:
        expected = f"a head of an even width for rotary positions (model.width = {model.width})"
        raise _refused("model.heads", expected, model.heads)
    if run.min_learning_rate > run.learning_rate:
        expected = f"at most train.learning_rate = {run.learning_rate}"
        raise _refused("train.min_learning_rate", expected, run.min_learning_rate)
    if run.warmup_steps >= run.steps and run.warmup_steps > 0:
        raise _refused("train.warmup_steps", f"less than train.steps = {run.steps}", run.warmup_steps)
    if 0.0 < run.spike <= 1.0:
        raise _refused("train.spike", "0, or a factor above 1", run.spike)
    if run.sequences * model.context >= _MAX_ROWS:
        expected = f"batch · accumulate · context below {_MAX_ROWS} tokens of a step"
        raise _refused("train.accumulate", expected, run.sequences * model.context)
    if data.tokenizer == BYTES and model.vocabulary != BYTE_VOCABULARY:
        expected = f'{BYTE_VOCABULARY}, since data.tokenizer is "{BYTES}" (or name a tokenizer)'
        raise _refused("model.vocabulary", expected, model.vocabulary)
    if data.tokenizer != BYTES and model.vocabulary <= BYTE_VOCABULARY:
        expected = f"more than {BYTE_VOCABULARY} for the tokenizer {data.tokenizer!r}"
        raise _refused("model.vocabulary", expected, model.vocabulary)


def _refused(path: str, expected: str, found: object) -> ContentRefused:
    shown = found if isinstance(found, str) and found.startswith(("an ", "nothing")) else repr(found)[:80]
    return ContentRefused(
        f"config key {path}: expected {expected}, found {shown}; correct the key and try again"
    )
