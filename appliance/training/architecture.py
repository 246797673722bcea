"""The public description of a model's shape, for the folder of an exported model.

Only what is needed to run the weights; nothing of how it was trained. A decoder of GPT-2's own choices is
described in the keys of GPT-2's published configuration, because names and shapes of its tensors are GPT-2's
too, so that public tools load it. Any other says its choices under a model type of our own, which they do not
know and therefore refuse instead of computing something else. Whether the shape may leave at all is the
policy's decision.
"""

from __future__ import annotations

import json

from appliance.training.config import ModelConfig
from appliance.training.layout import hidden_width
from appliance.training.model import ROTARY_BASE
from kernels.reference import LAYERNORM_EPSILON, RMSNORM_EPSILON

OTHER_TYPE = "appliance-decoder"


def architecture_json(model: ModelConfig) -> bytes:
    """ASCII JSON with sorted keys; equal shapes give equal bytes."""
    document = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": model.vocabulary,
        "n_positions": model.context,
        "n_embd": model.width,
        "n_layer": model.layers,
        "n_head": model.heads,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": LAYERNORM_EPSILON,
        "resid_pdrop": model.dropout,
        "embd_pdrop": model.dropout,
        "attn_pdrop": 0.0,
        "tie_word_embeddings": model.tied_head,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "torch_dtype": "float32",
    }
    if (model.positions, model.norm, model.activation) != ("learned", "layernorm", "gelu"):
        document |= {
            "model_type": OTHER_TYPE,
            "architectures": [],
            "activation_function": "gelu_new" if model.activation == "gelu" else model.activation,
            "n_inner": hidden_width(model),
            "positions": model.positions,
            "norm": model.norm,
        }
    if model.positions == "rotary":
        document["rope_theta"] = ROTARY_BASE
    if model.norm == "rmsnorm":
        document["rms_norm_eps"] = RMSNORM_EPSILON
        del document["layer_norm_epsilon"]
    return json.dumps(document, indent=2, sort_keys=True).encode("ascii") + b"\n"
