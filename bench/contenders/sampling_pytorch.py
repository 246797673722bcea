"""The peer of bench/sample.py: a plain PyTorch loop with a cache of keys and values, batch 1.

Reads weights as .npz, answers each line of JSON on standard input with one on standard output. As one writes
it today: inference mode, buffers for the cache made once, scaled_dot_product_attention, the products of a
block fused as GPT-2 has them, the choice of a token by topk and multinomial.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812  its usual name


class Model:
    """GPT-2 by its published tensors."""

    def __init__(self, path: str, heads: int) -> None:
        arrays = np.load(path)
        self.w = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        # nn.Linear's layout, (outputs, inputs), is what F.linear is fastest on.
        for name in [name for name in self.w if name.endswith("weight") and ".c_" in name]:
            self.w[name] = self.w[name].T.contiguous()
        self.layers = sum(name.endswith("ln_1.weight") for name in self.w)
        self.context, self.width = self.w["wpe.weight"].shape
        self.heads = heads
        shape = (self.layers, 1, heads, self.context, self.width // heads)
        self.keys, self.values = torch.zeros(shape), torch.zeros(shape)

    def step(self, token: torch.Tensor, position: int) -> torch.Tensor:
        """Logits after one token."""
        w, C = self.w, self.width
        x = w["wte.weight"][token] + w["wpe.weight"][position]
        for layer in range(self.layers):
            at = f"h.{layer}."
            h = F.layer_norm(x, (C,), w[at + "ln_1.weight"], w[at + "ln_1.bias"])
            qkv = F.linear(h, w[at + "attn.c_attn.weight"], w[at + "attn.c_attn.bias"])
            q, k, v = qkv.view(1, 3, self.heads, C // self.heads).unbind(1)
            self.keys[layer, :, :, position] = k
            self.values[layer, :, :, position] = v
            seen = slice(0, position + 1)
            a = F.scaled_dot_product_attention(
                q.unsqueeze(2), self.keys[layer, :, :, seen], self.values[layer, :, :, seen]
            )
            x = x + F.linear(a.view(1, C), w[at + "attn.c_proj.weight"], w[at + "attn.c_proj.bias"])
            h = F.layer_norm(x, (C,), w[at + "ln_2.weight"], w[at + "ln_2.bias"])
            h = F.gelu(F.linear(h, w[at + "mlp.c_fc.weight"], w[at + "mlp.c_fc.bias"]), approximate="tanh")
            x = x + F.linear(h, w[at + "mlp.c_proj.weight"], w[at + "mlp.c_proj.bias"])
        x = F.layer_norm(x, (C,), w["ln_f.weight"], w["ln_f.bias"])
        return F.linear(x, w["wte.weight"])


def generate(model: Model, length: int, top_k: int, temperature: float) -> tuple[list[float], float]:
    """Seconds of a run of `length` tokens, and the logits' sum at its end as a check."""
    token = torch.tensor([1])
    began = time.perf_counter()
    for position in range(length):
        logits = model.step(token, position)
        best, index = torch.topk(logits, top_k)
        chances = torch.softmax(best / temperature, dim=-1)
        token = index[0, torch.multinomial(chances, 1)[0]]
        token.item()
    return [time.perf_counter() - began], float(logits.sum())


def main() -> None:
    """Answer until standard input ends."""
    setting = json.loads(sys.argv[1])
    torch.set_num_threads(setting["threads"])
    with torch.inference_mode():
        model = Model(setting["weights"], setting["heads"])
        print(json.dumps({"ready": torch.__version__}), flush=True)
        for line in sys.stdin:
            task = json.loads(line)
            if "tokens" in task:  # forced ones: how far apart the two are
                for position, token in enumerate(task["tokens"]):
                    logits = model.step(torch.tensor([token]), position)
                print(json.dumps({"logits": logits[0].tolist()}), flush=True)
                continue
            seconds, _ = generate(model, task["length"], task["top_k"], task["temperature"])
            print(json.dumps({"seconds": seconds[0]}), flush=True)


main()
