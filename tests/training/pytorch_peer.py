"""A decoder in PyTorch, by autograd, from weights and batches in a file: writes the loss of every step.

Run by `test_pytorch.py` with an interpreter that has PyTorch; it imports nothing of ours. The formulas are
those of the papers that `kernels/reference.py` names, so that a mistake in ours is not repeated here.
"""

import json
import math
import sys

import numpy as np
import torch
from torch.nn import functional


def normal(x, p, name, config):
    if config["norm"] == "layernorm":
        return functional.layer_norm(x, x.shape[-1:], p[name + ".weight"], p[name + ".bias"], 1e-5)
    return functional.rms_norm(x, x.shape[-1:], p[name + ".weight"], 1e-5)


def turned(x):
    T, D = x.shape[-2:]
    angles = torch.outer(torch.arange(T).double(), 10000.0 ** (-2 * torch.arange(D // 2).double() / D))
    cosines, sines = angles.cos().float(), angles.sin().float()
    first, second = x[..., : D // 2], x[..., D // 2 :]
    return torch.cat([first * cosines - second * sines, first * sines + second * cosines], -1)


def loss_of(p, config, tokens, targets):
    B, T = tokens.shape
    C, heads = config["width"], config["heads"]

    def linear(x, name):
        return x @ p[name + ".weight"] + p[name + ".bias"]

    h = p["wte.weight"][tokens]
    if config["positions"] == "learned":
        h = h + p["wpe.weight"][:T]
    for layer in range(config["layers"]):
        at = f"h.{layer}."
        qkv = linear(normal(h, p, at + "ln_1", config), at + "attn.c_attn")
        q, k, v = (part.view(B, T, heads, C // heads).transpose(1, 2) for part in qkv.split(C, 2))
        if config["positions"] == "rotary":
            q, k = turned(q), turned(k)
        out = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + linear(out.transpose(1, 2).reshape(B, T, C), at + "attn.c_proj")
        wide = linear(normal(h, p, at + "ln_2", config), at + "mlp.c_fc")
        if config["activation"] == "gelu":
            hidden = functional.gelu(wide, approximate="tanh")
        else:
            gate, up = wide.chunk(2, -1)
            hidden = functional.silu(gate) * up
        h = h + linear(hidden, at + "mlp.c_proj")
    head = p["wte.weight"] if config["tied_head"] else p["lm_head.weight"]
    logits = normal(h, p, "ln_f", config) @ head.T
    return functional.cross_entropy(logits.view(B * T, -1), targets.reshape(-1))


def rate(run, step):
    if step < run["warmup_steps"]:
        return run["learning_rate"] * (step + 1) / (run["warmup_steps"] + 1)
    progress = (step - run["warmup_steps"]) / (run["steps"] - 1 - run["warmup_steps"])
    low, high = run["min_learning_rate"], run["learning_rate"]
    return low + (high - low) * 0.5 * (1 + math.cos(math.pi * progress))


def main():
    torch.set_num_threads(2)
    with np.load(sys.argv[1], allow_pickle=False) as data:
        config, run = json.loads(str(data["model"])), json.loads(str(data["run"]))
        tokens, targets = torch.from_numpy(data["tokens"]), torch.from_numpy(data["targets"])
        p = {
            name.removeprefix("p:"): torch.from_numpy(data[name]).requires_grad_()
            for name in data.files
            if name.startswith("p:")
        }
    groups = [
        {"params": [t for t in p.values() if t.dim() == 2], "weight_decay": run["weight_decay"]},
        {"params": [t for t in p.values() if t.dim() != 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(run["beta1"], run["beta2"]), eps=1e-8)
    losses = []
    for step in range(run["steps"]):
        for group in optimizer.param_groups:
            group["lr"] = rate(run, step)
        optimizer.zero_grad()
        loss = loss_of(p, config, tokens[step], targets[step])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(p.values()), run["clip"])
        optimizer.step()
        losses.append(loss.item())
    print(json.dumps(losses))


main()
