"""Named starting points: each gives the keys in which it differs from the defaults.

`tiny` is the defaults, and the demo. The `laptop-` ones are meant for minutes to hours on a few cores;
`gpt2-124m` is the published shape (Radford et al. 2019) with the batch and rates of nanoGPT's run of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from appliance.training.keys import BPE, Value

Preset = Mapping[str, Mapping[str, Value]]

_MODERN: Mapping[str, Value] = {"positions": "rotary", "norm": "rmsnorm", "activation": "swiglu"}

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "tiny": {},
        "laptop-1m": {
            "model": {"layers": 4, "width": 144, "heads": 4, "context": 128, **_MODERN},
            "train": {"steps": 10_000, "batch": 16, "warmup_steps": 200, "beta2": 0.99},
        },
        "laptop-12m": {
            "model": {"layers": 6, "width": 384, "heads": 6, "context": 256, "vocabulary": 4096, **_MODERN},
            "train": {
                "steps": 20_000,
                "batch": 8,
                "accumulate": 4,
                "learning_rate": 1e-3,
                "warmup_steps": 500,
                "eval_every": 500,
                "schedule": "stable",
            },
            "data": {"tokenizer": BPE},
        },
        "gpt2-124m": {
            "model": {"layers": 12, "width": 768, "heads": 12, "context": 1024, "vocabulary": 50257},
            "train": {
                "steps": 600_000,
                "batch": 12,
                "accumulate": 40,
                "learning_rate": 6e-4,
                "min_learning_rate": 6e-5,
                "warmup_steps": 2000,
                "beta2": 0.95,
                "eval_every": 1000,
                "checkpoint_every": 1000,
                "validation_fraction": 0.01,
            },
            "data": {"tokenizer": BPE},
        },
    }
)
DEFAULT_PRESET = "tiny"
