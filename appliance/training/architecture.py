"""The public description of a model's shape, for the folder of an exported model.

Only what is needed to run the weights, in the keys of GPT-2's published configuration, because names and
shapes of the tensors are GPT-2's too; nothing of how it was trained. Whether the shape may leave at all is
the policy's decision.
"""

from __future__ import annotations

import json

from appliance.training.config import VOCABULARY, ModelConfig
from kernels.reference import LAYERNORM_EPSILON


def architecture_json(model: ModelConfig) -> bytes:
    """ASCII JSON with sorted keys; equal shapes give equal bytes."""
    document = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": VOCABULARY,
        "n_positions": model.context,
        "n_embd": model.width,
        "n_layer": model.layers,
        "n_head": model.heads,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": LAYERNORM_EPSILON,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "torch_dtype": "float32",
    }
    return json.dumps(document, indent=2, sort_keys=True).encode("ascii") + b"\n"
