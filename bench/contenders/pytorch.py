"""PyTorch's side of `bench/train.py`: the same GPT and step, eager or compiled, float32 or bf16 autocast.

Needs the packages of bench/.venv only; `bench/contenders/ours.py` says what a line on standard input asks.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  PyTorch's own name for it

PRODUCTS = ((2048, 2048, 2048), (4096, 1024, 1024), (2048, 1536, 1536), (2048, 1536, 384))


class Block(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Both branches."""
        B, T, C = x.shape
        parts = self.qkv(self.ln_1(x)).split(C, -1)
        q, k, v = (part.view(B, T, self.heads, C // self.heads).transpose(1, 2) for part in parts)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(attended.transpose(1, 2).reshape(B, T, C))
        return x + self.narrow(F.gelu(self.wide(self.ln_2(x)), approximate="tanh"))


class Decoder(nn.Module):
    """GPT-2's shape, head tied to the token table."""

    def __init__(self, shape: dict[str, int]) -> None:
        super().__init__()
        C = shape["width"]
        self.tokens, self.positions = (
            nn.Embedding(shape["vocabulary"], C),
            nn.Parameter(torch.zeros(shape["time"], C)),
        )
        self.blocks = nn.ModuleList(Block(C, shape["heads"]) for _ in range(shape["layers"]))
        self.norm = nn.LayerNorm(C)
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean loss in nats."""
        x = self.tokens(tokens) + self.positions
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.tokens.weight)
        return F.cross_entropy(logits.float().view(-1, logits.shape[-1]), targets.view(-1))

    def take(self, weights: dict[str, np.ndarray]) -> None:
        """Copy GPT-2's tensors in: its matrices act from the right, those of nn.Linear from the left."""
        for name, parameter in self.named_tensors():
            value = torch.from_numpy(weights[name])
            parameter.data.copy_(
                value.T if name.split(".")[-2].startswith("c_") and value.dim() == 2 else value
            )

    def named_tensors(self) -> list[tuple[str, nn.Parameter]]:
        """Our name of each tensor."""
        found = [("wte.weight", self.tokens.weight), ("wpe.weight", self.positions)]
        for layer, block in enumerate(self.blocks):
            parts = {
                "ln_1": block.ln_1,
                "ln_2": block.ln_2,
                "attn.c_attn": block.qkv,
                "attn.c_proj": block.proj,
            }
            parts |= {"mlp.c_fc": block.wide, "mlp.c_proj": block.narrow}
            for name, part in parts.items():
                found += [(f"h.{layer}.{name}.weight", part.weight), (f"h.{layer}.{name}.bias", part.bias)]
        return [*found, ("ln_f.weight", self.norm.weight), ("ln_f.bias", self.norm.bias)]


class Run:
    """A model, its optimizer and one batch after the other."""

    def __init__(self, shape: dict[str, int], precision: str, *, compiled: bool) -> None:
        self.shape = shape
        self.model = Decoder(shape)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=1e-3, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1, fused=True
        )
        self.function = torch.compile(self.model) if compiled else self.model
        self.precision = precision
        self.count = 0

    def loss(self, tokens: np.ndarray, targets: np.ndarray) -> torch.Tensor:
        """Mean loss of one batch."""
        half = self.precision == "bf16"
        with torch.autocast("cpu", dtype=torch.bfloat16) if half else contextlib.nullcontext():
            return self.function(torch.from_numpy(tokens), torch.from_numpy(targets))

    def step(self) -> float:
        """Take one step; returns the loss."""
        loss = self.loss(*batch(self.shape, self.count))
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.count += 1
        return loss.item()


def batch(shape: dict[str, int], step: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the batches of `ours.py`."""
    random = np.random.default_rng(step % 8)
    stream = np.empty((shape["batch"], shape["time"] + 1), np.int64)
    stream[:, 0] = random.integers(0, shape["vocabulary"], shape["batch"])
    noise = random.integers(0, 4, stream.shape)
    for t in range(shape["time"]):
        stream[:, t + 1] = (3 * stream[:, t] + noise[:, t]) % shape["vocabulary"]
    return np.ascontiguousarray(stream[:, :-1]), np.ascontiguousarray(stream[:, 1:])


def steps(run: Run, seconds: float, clock: str) -> dict[str, object]:
    now = time.process_time if clock == "cpu" else time.perf_counter
    took, loss, stop = [], 0.0, time.perf_counter() + seconds
    while len(took) < 3 or time.perf_counter() < stop:
        start = now()
        loss = run.step()
        took.append((now() - start) * 1e3)
    return {"ms": took, "loss": loss}


def products(precision: str) -> dict[str, float]:
    found = {}
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    for rows, inputs, outputs in PRODUCTS:
        x, weight = torch.randn(rows, inputs).to(kind), torch.randn(inputs, outputs).to(kind)
        best = 1e9
        for _ in range(20):
            start = time.perf_counter()
            x @ weight
            best = min(best, time.perf_counter() - start)
        found[f"{rows}x{inputs}x{outputs}"] = 2e-9 * rows * inputs * outputs / best
    return found


def gradient(run: Run, folder: Path) -> dict[str, object]:
    """Gradient of one batch from the weights that `bench/train.py` wrote, in our names and layout."""
    run.model.take(dict(np.load(folder / "weights.npz")))
    given = np.load(folder / "batch.npz")
    loss = run.loss(given["tokens"], given["targets"])
    loss.backward()
    found = {}
    for name, parameter in run.model.named_tensors():
        value = parameter.grad.numpy()
        found[name] = value.T if name.split(".")[-2].startswith("c_") and value.ndim == 2 else value
    np.savez(folder / "torch.npz", **found)
    return {"loss": loss.item()}


def main() -> None:
    setting = json.loads(sys.argv[1])
    torch.set_num_threads(setting["threads"])
    run = Run(setting["shape"], setting["precision"], compiled=setting["compiled"])
    for _ in range(setting["warm"]):
        run.step()
    print(json.dumps({"ready": f"torch {torch.__version__}"}), flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        if task["do"] == "steps":
            answer: object = steps(run, task["seconds"], task["clock"])
        elif task["do"] == "gradient":
            answer = gradient(run, Path(task["folder"]))
        else:
            answer = products(setting["precision"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
