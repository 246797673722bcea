"""One training run as a frozen value, read from TOML by a strict parser.

Guarantees: what `parse_config` returns can be trained as it stands. Anything else (an unknown key, a wrong
type, a value out of range, two keys that contradict each other) is refused with the key, what was expected
and what was found. `KEYS` is the whole vocabulary, each key with unit, range and meaning. A config is an
algorithmic secret: the appliance guards it as it guards weights.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from appliance.errors import ContentRefused

MAX_CONFIG_BYTES = 64 * 1024
VOCABULARY = 256  # tokens are bytes


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Shape of the decoder; `context` counts tokens."""

    layers: int
    width: int
    heads: int
    context: int


@dataclass(frozen=True, slots=True)
class RunConfig:
    """How it is trained: counts of steps and sequences, AdamW's constants, and the seed of every draw."""

    steps: int
    batch: int
    learning_rate: float
    min_learning_rate: float
    warmup_steps: int
    weight_decay: float
    clip: float
    beta1: float
    beta2: float
    seed: int
    eval_every: int
    checkpoint_every: int
    validation_fraction: float


@dataclass(frozen=True, slots=True)
class DataConfig:
    """What it is trained on: the name of a sealed corpus."""

    corpus: str


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


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the TOML: its type, the closed range of its values, its unit and its meaning."""

    kind: type[int | float | str]
    low: float
    high: float
    unit: str
    meaning: str


KEYS: Mapping[str, Mapping[str, Key]] = MappingProxyType(
    {
        "model": MappingProxyType(
            {
                "layers": Key(int, 1, 256, "blocks", "depth of the decoder"),
                "width": Key(int, 8, 32768, "channels", "size of the residual stream"),
                "heads": Key(int, 1, 512, "heads", "attention heads; divides the width"),
                "context": Key(int, 2, 65536, "tokens", "how far back a prediction sees"),
            }
        ),
        "train": MappingProxyType(
            {
                "steps": Key(int, 1, 10**9, "steps", "length of the run"),
                "batch": Key(int, 1, 65536, "sequences", "sequences of one context per step"),
                "learning_rate": Key(float, 1e-9, 1.0, "per step", "peak, after the warm-up"),
                "min_learning_rate": Key(float, 0.0, 1.0, "per step", "where the cosine ends"),
                "warmup_steps": Key(int, 0, 10**9, "steps", "linear rise from zero to the peak"),
                "weight_decay": Key(float, 0.0, 10.0, "per unit of rate", "decoupled; matrices only"),
                "clip": Key(float, 1e-6, 1e6, "gradient norm", "longer gradients are shortened to this"),
                "beta1": Key(float, 0.0, 0.99999, "", "AdamW's memory of the gradient"),
                "beta2": Key(float, 0.0, 0.999999, "", "AdamW's memory of its square"),
                "seed": Key(int, 0, 2**63 - 1, "", "of the first weights and of every batch"),
                "eval_every": Key(int, 1, 10**9, "steps", "between two looks at the held-out text"),
                "checkpoint_every": Key(int, 1, 10**9, "steps", "between two sealed checkpoints"),
                "validation_fraction": Key(float, 0.001, 0.5, "of the text", "held out, by document"),
            }
        ),
        "data": MappingProxyType(
            {"corpus": Key(str, 1, 64, "characters", "name of the sealed corpus: a-z 0-9 - _ .")}
        ),
        "keep": MappingProxyType(
            {
                "last": Key(int, 2, 10**6, "checkpoints", "the newest stay in the vault"),
                "best": Key(int, 0, 10**6, "checkpoints", "with the lowest held-out bits per byte stay too"),
                "every": Key(int, 0, 10**9, "steps", "checkpoints at multiples of this stay too; 0: none"),
            }
        ),
    }
)

_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")

# Every key but data.corpus has its default here. `tiny` is the demo; docs/training.md says what it reaches.
PRESETS: Mapping[str, Mapping[str, Mapping[str, int | float]]] = MappingProxyType(
    {
        "tiny": {
            "model": {"layers": 4, "width": 128, "heads": 4, "context": 64},
            "train": {
                "steps": 2500,
                "batch": 16,
                "learning_rate": 4e-3,
                "min_learning_rate": 1e-4,
                "warmup_steps": 100,
                "weight_decay": 0.1,
                "clip": 1.0,
                "beta1": 0.9,
                "beta2": 0.99,
                "seed": 1,
                "eval_every": 250,
                "checkpoint_every": 500,
                "validation_fraction": 0.1,
            },
            "keep": {"last": 3, "best": 1, "every": 0},
        }
    }
)
DEFAULT_PRESET = "tiny"


def parse_config(data: bytes) -> TrainConfig:
    """Parse TOML into a config; raise `ContentRefused` naming key, expected and found.

    `preset = "tiny"` (the default) gives every key but `data.corpus`; tables override single keys.
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


def _table(name: str, given: Mapping[str, object], defaults: Mapping[str, int | float]) -> dict[str, Any]:
    for key in given:
        if key not in KEYS[name]:
            raise _refused(f"{name}.{key}", f"only {', '.join(KEYS[name])}", "an unknown key")
    values: dict[str, object] = {}
    for key, rule in KEYS[name].items():
        if key not in given and key not in defaults:
            raise _refused(f"{name}.{key}", _expected(rule), "nothing: the key is missing")
        values[key] = _value(f"{name}.{key}", rule, given[key] if key in given else defaults[key])
    return values


def _value(path: str, rule: Key, found: object) -> int | float | str:
    if rule.kind is str:
        if (
            not isinstance(found, str)
            or not 1 <= len(found) <= rule.high
            or not set(found) <= _NAME_CHARACTERS
        ):
            raise _refused(path, _expected(rule), found)
        return found
    allowed = int if rule.kind is int else (int, float)
    if isinstance(found, bool) or not isinstance(found, allowed):
        raise _refused(path, _expected(rule), found)
    if not rule.low <= found <= rule.high:  # NaN fails this too
        raise _refused(path, _expected(rule), found)
    return rule.kind(found)


def _expected(rule: Key) -> str:
    if rule.kind is str:
        return f"a name of 1 to {rule.high} characters out of a-z 0-9 - _ ."
    kind = "an integer" if rule.kind is int else "a number"
    return f"{kind} from {rule.low} to {rule.high}" + (f" ({rule.unit})" if rule.unit else "")


def _check_together(config: TrainConfig) -> None:
    """Refuse values that are each in range and contradict each other."""
    model, run = config.model, config.train
    if model.width % model.heads:
        raise _refused("model.heads", f"a divisor of model.width = {model.width}", model.heads)
    if run.min_learning_rate > run.learning_rate:
        expected = f"at most train.learning_rate = {run.learning_rate}"
        raise _refused("train.min_learning_rate", expected, run.min_learning_rate)
    if run.warmup_steps >= run.steps and run.warmup_steps > 0:
        raise _refused("train.warmup_steps", f"less than train.steps = {run.steps}", run.warmup_steps)


def _refused(path: str, expected: str, found: object) -> ContentRefused:
    shown = found if isinstance(found, str) and found.startswith(("an ", "nothing")) else repr(found)[:80]
    return ContentRefused(
        f"config key {path}: expected {expected}, found {shown}; correct the key and try again"
    )
