"""The vocabulary of a configuration: every key with type, unit, range, default and meaning.

A closed range for numbers, a closed list for words. The parser, the page on training and `appliance config
explain` read this one table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Kind = Literal["int", "float", "bool", "word", "name", "corpus"]
Value = int | float | str | None

NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")
MAX_NAME = 64
MAX_CORPORA = 16

BYTES, BPE = "bytes", "bpe"  # the words that `data.tokenizer` knows beside the names of sealed tokenizers
ALL_CORES = "all"
NOTHING = "none"


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the TOML. `words` are the values allowed instead of, or as well as, those of `kind`."""

    kind: Kind
    default: Value  # None: it must be given
    meaning: str
    unit: str = ""
    low: float = 0
    high: float = 0
    words: tuple[str, ...] = ()

    @property
    def range(self) -> str:
        """What may stand here, in words."""
        choices = " or ".join(f'"{word}"' for word in self.words)
        if self.kind == "bool":
            return "true or false"
        if self.kind == "word":
            return choices
        if self.kind == "name":
            return f"{choices} or a name" if choices else "a name"
        if self.kind == "corpus":
            return "a name, or names with weights"
        return f"{self.low} to {self.high}" + (f" or {choices}" if choices else "")


def _int(low: int, high: int, default: int, unit: str, meaning: str) -> Key:
    return Key("int", default, meaning, unit, low, high)


def _float(low: float, high: float, default: float, unit: str, meaning: str) -> Key:
    return Key("float", default, meaning, unit, low, high)


def _word(words: tuple[str, ...], meaning: str) -> Key:
    return Key("word", words[0], meaning, words=words)


_MODEL = {
    "layers": _int(1, 256, 4, "blocks", "depth of the decoder"),
    "width": _int(8, 32768, 128, "channels", "size of the residual stream"),
    "heads": _int(1, 512, 4, "heads", "attention heads; divides the width"),
    "context": _int(2, 65536, 64, "tokens", "how far back a prediction sees"),
    "vocabulary": _int(2, 1 << 20, 256, "tokens", "that of the tokenizer; 256 for bytes"),
    "positions": _word(("learned", "rotary"), "a table of positions, or queries and keys turned by them"),
    "norm": _word(("layernorm", "rmsnorm"), "how the input of a branch is normalised"),
    "activation": _word(("gelu", "swiglu"), "hidden width 4·width, or 8/3·width in two halves"),
    "tied_head": Key("bool", True, "whether the head is the token table"),
    "dropout": _float(0.0, 0.9, 0.0, "", "chance to drop an element behind the tables and each branch"),
}

_TRAIN = {
    "steps": _int(1, 10**9, 2500, "steps", "length of the run"),
    "batch": _int(1, 65536, 16, "sequences", "sequences of one context computed at once"),
    "accumulate": _int(1, 65536, 1, "batches", "batches whose gradients make one step"),
    "precision": _word(("fp32", "bf16"), "of activations; the weights that are kept are float32"),
    "recompute": Key(
        "bool", False, "blocks keep their input alone and are computed again backwards: less memory"
    ),
    "threads": Key(
        "int", ALL_CORES, "threads that compute; bits may depend on it", "threads", 1, 1024, (ALL_CORES,)
    ),
    "memory": _int(0, 1 << 24, 0, "MiB", "the run is refused beyond it; 0: what the machine has"),
    "learning_rate": _float(1e-9, 1.0, 4e-3, "per step", "peak, after the warm-up"),
    "min_learning_rate": _float(0.0, 1.0, 1e-4, "per step", "where the schedule ends"),
    "schedule": _word(("cosine", "linear", "stable"), "how the rate falls; stable: at the end only"),
    "warmup_steps": _int(0, 10**9, 100, "steps", "linear rise from zero to the peak"),
    "decay_fraction": _float(0.0, 1.0, 0.2, "of the steps", "how long a stable rate falls at the end"),
    "weight_decay": _float(0.0, 10.0, 0.1, "per unit of rate", "decoupled; matrices only"),
    "clip": _float(1e-6, 1e6, 1.0, "gradient norm", "longer gradients are shortened to this"),
    "beta1": _float(0.0, 0.99999, 0.9, "", "AdamW's memory of the gradient"),
    "beta2": _float(0.0, 0.999999, 0.99, "", "AdamW's memory of its square"),
    "spike": _float(0.0, 1e6, 0.0, "times", "a loss this far above its running mean stops the run; 0: none"),
    "seed": _int(0, 2**63 - 1, 1, "", "of the first weights, of every batch and every mask"),
    "init_from": Key(
        "name", NOTHING, "sealed weights to begin with; none: drawn from the seed", words=(NOTHING,)
    ),
    "eval_every": _int(1, 10**9, 250, "steps", "between two looks at the held-out text"),
    "eval_tokens": _int(1, 10**9, 1 << 20, "tokens", "how much of the held-out text is looked at"),
    "patience": _int(0, 10**6, 0, "evaluations", "without a gain, then the run ends early; 0: never"),
    "checkpoint_every": _int(1, 10**9, 500, "steps", "between two sealed checkpoints"),
    "validation_fraction": _float(0.001, 0.5, 0.1, "of the text", "held out, by document"),
}

_DATA = {
    "corpus": Key("corpus", None, "a sealed corpus, or {name = weight, …} of several"),
    "tokenizer": Key("name", BYTES, "a sealed tokenizer; bpe: train one on this corpus", words=(BYTES, BPE)),
    "memory": _int(1, 1 << 24, 256, "MiB", "a larger corpus is decrypted in slices as it is needed"),
}

_KEEP = {
    "last": _int(2, 10**6, 3, "checkpoints", "the newest stay in the vault"),
    "best": _int(0, 10**6, 1, "checkpoints", "with the lowest held-out bits per byte stay too"),
    "every": _int(0, 10**9, 0, "steps", "checkpoints at multiples of this stay too; 0: none"),
}

KEYS: Mapping[str, Mapping[str, Key]] = MappingProxyType(
    {
        "model": MappingProxyType(_MODEL),
        "train": MappingProxyType(_TRAIN),
        "data": MappingProxyType(_DATA),
        "keep": MappingProxyType(_KEEP),
    }
)
