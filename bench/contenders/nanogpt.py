"""nanoGPT's recipe for a CPU in PyTorch: its README's shape, batch, rates and schedule, on bytes.

    python nanogpt.py FOLDER BUDGET_S LIMIT_S wall|processor

4 layers of width 128, context 64, batch 12, AdamW (0.9, 0.99), decay 0.1, peak 1e-3 after 100 steps falling
along a cosine to 1e-4 at the last step, clipped at 1, no dropout, float32, not compiled. It trains for at
most LIMIT_S seconds per call, BUDGET_S in all, and then writes facts.json with the bits per byte of
FOLDER/held_out.
"""

import json
import math
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

LAYERS, HEADS, WIDTH, CONTEXT, BATCH, VOCABULARY = 4, 4, 128, 64, 12, 256
RESERVE = 30  # one part in so many of the budget is not planned for
PEAK, LOWEST, WARMUP, DECAY, CLIP = 1e-3, 1e-4, 100, 0.1, 1.0


class Block(nn.Module):
    """Attention and MLP, each behind a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(WIDTH, bias=False), nn.LayerNorm(WIDTH, bias=False)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.wide, self.narrow = (
            nn.Linear(WIDTH, 4 * WIDTH, bias=False),
            nn.Linear(4 * WIDTH, WIDTH, bias=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        B, T, C = x.shape
        split = self.qkv(self.norm_1(x)).split(C, 2)
        q, k, v = (part.view(B, T, HEADS, C // HEADS).transpose(1, 2) for part in split)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(B, T, C))
        return x + self.narrow(functional.gelu(self.wide(self.norm_2(x))))


class Decoder(nn.Module):
    """Tables, blocks, a norm, and a head tied to the table."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                ends = name.endswith(("out.weight", "narrow.weight"))
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * LAYERS) if ends else 0.02)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        h = self.tokens(x) + self.places.weight[: x.shape[1]]
        for block in self.blocks:
            h = block(h)
        return self.norm(h) @ self.tokens.weight.T


def batch(data: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    starts = torch.randint(len(data) - CONTEXT, (BATCH,), generator=generator)
    rows = torch.stack([data[start : start + CONTEXT + 1] for start in starts])
    return rows[:, :-1], rows[:, 1:]


def rate(step: int, steps: int) -> float:
    if step < WARMUP:
        return PEAK * (step + 1) / (WARMUP + 1)
    progress = min(1.0, (step - WARMUP) / max(1, steps - WARMUP))
    return LOWEST + 0.5 * (1 + math.cos(math.pi * progress)) * (PEAK - LOWEST)


def take(
    model: Decoder,
    optimizer: torch.optim.AdamW,
    data: torch.Tensor,
    generator: torch.Generator,
    step: int,
    steps: int,
) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate(step, steps)
    x, y = batch(data, generator)
    loss = functional.cross_entropy(model(x).view(-1, VOCABULARY), y.reshape(-1))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimizer.step()


def fresh() -> tuple[Decoder, torch.optim.AdamW]:
    torch.manual_seed(1337)
    model = Decoder()
    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": DECAY},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    return model, torch.optim.AdamW(groups, lr=PEAK, betas=(0.9, 0.99))


@torch.no_grad()
def bits_per_byte(model: Decoder, data: torch.Tensor) -> float:
    """Each byte but the first once; windows overlap by half, and the second half of a later one counts."""
    half = CONTEXT // 2
    first = functional.cross_entropy(model(data[None, :CONTEXT])[0], data[1 : CONTEXT + 1], reduction="sum")
    total, count = float(first), CONTEXT
    starts = list(range(half, len(data) - CONTEXT, half))
    for chunk in range(0, len(starts), 64):
        rows = torch.stack([data[start : start + CONTEXT + 1] for start in starts[chunk : chunk + 64]])
        logits = model(rows[:, :-1])[:, half:]
        targets = rows[:, 1 + half :]
        flat = logits.reshape(-1, VOCABULARY)
        total += float(functional.cross_entropy(flat, targets.reshape(-1), reduction="sum"))
        count += targets.numel()
    return total / count / math.log(2)


def clock() -> float:
    """Seconds: of the wall, or of a processor per thread."""
    return (
        time.process_time() / torch.get_num_threads() if sys.argv[4] == "processor" else time.perf_counter()
    )


def main() -> None:
    folder, budget_s, limit_s = Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    training, held_out = (
        torch.from_numpy(np.fromfile(folder / name, np.uint8).astype(np.int64))
        for name in ("training", "held_out")
    )
    generator = torch.Generator().manual_seed(1)
    model, optimizer = fresh()
    if (folder / "state.pt").exists():
        saved = torch.load(folder / "state.pt", weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        generator.set_state(saved["generator"])
        facts = json.loads((folder / "facts.json").read_text())
    else:
        seconds = []
        for _ in range(30):
            began = clock()
            take(model, optimizer, training, generator, 0, 1000)
            seconds.append(clock() - began)
        facts = {
            "steps": int(budget_s * (1 - 1 / RESERVE) / statistics.median(seconds[5:])),
            "used_s": 0.0,
            "taken": 0,
        }
        model, optimizer = fresh()
    began, before = clock(), facts["used_s"]
    while facts["taken"] < facts["steps"] and facts["used_s"] < budget_s and clock() - began < limit_s:
        take(model, optimizer, training, generator, facts["taken"], facts["steps"])
        facts["taken"] += 1
        facts["used_s"] = before + clock() - began
    if facts["taken"] >= facts["steps"] or facts["used_s"] >= budget_s:
        facts["bits_per_byte"] = bits_per_byte(model, held_out)
        facts["parameters"] = sum(p.numel() for p in model.parameters())
        facts["torch"] = torch.__version__
    saved = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "generator": generator.get_state(),
    }
    torch.save(saved, folder / "state.pt")
    (folder / "facts.json").write_text(json.dumps(facts))
    print(json.dumps(facts))


main()
