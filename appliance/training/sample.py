"""Text from a model, token by token: a function of weights, prompt, settings and seed.

Keys and values of earlier tokens are kept, so a token costs one row of the forward pass. When the window is
full, its later half stays and is read anew. The separator of documents is never drawn, so a sample is one
document going on. Sources: Fan et al. 2018 (top-k), Holtzman et al. 2020 (top-p, the nucleus).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from appliance.errors import UsageError
from appliance.training import randomness
from appliance.training.decode import Decoder
from appliance.training.model import GPT

MAX_LENGTH = 1_000_000
MAX_TOP_K = 1 << 20
SEPARATOR = 0  # the byte between documents
_AT_ONCE = 64  # tuning: a place of a stream costs 10 µs to go to, which is a tenth of a token


@dataclass(frozen=True, slots=True)
class SampleSettings:
    """`length` in tokens; temperature 0 takes the likeliest; top_k 0 and top_p 1 consider all tokens."""

    length: int
    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0


def check_settings(settings: SampleSettings) -> None:
    """Raise `UsageError` on a setting out of range."""
    for name, value, low, high in (
        ("length", settings.length, 1, MAX_LENGTH),
        ("temperature", settings.temperature, 0.0, 100.0),
        ("top_k", settings.top_k, 0, MAX_TOP_K),
        ("top_p", settings.top_p, 1e-6, 1.0),
        ("seed", settings.seed, 0, 2**63 - 1),
    ):
        if not low <= value <= high:  # NaN fails this too
            raise UsageError(f"sample: expected {name} from {low} to {high}, found {value}")


def sample(
    model: GPT, prompt: Sequence[int], settings: SampleSettings, *, separator: int = SEPARATOR
) -> Iterator[int]:
    """Yield `settings.length` tokens that continue `prompt`; raise `UsageError` on bad settings."""
    check_settings(settings)
    return _continue(model, prompt, settings, separator)


def _continue(model: GPT, prompt: Sequence[int], settings: SampleSettings, separator: int) -> Iterator[int]:
    T = model.config.context
    decoder = Decoder(model)
    window = [separator, *prompt][-T:]  # a document begins after a separator
    logits = decoder.read(window)
    for left, draw in zip(range(settings.length - 1, -1, -1), draws(settings.seed), strict=False):
        logits[separator] = -np.inf  # the decoder's own array, which it writes anew
        chosen = choose(logits, draw, settings)
        yield chosen
        if not decoder.full:
            window.append(chosen)
        else:
            window = [*window[T // 2 :], chosen]
        if left:
            logits = decoder.read(window) if decoder.full else decoder.add(chosen)


def draws(seed: int) -> Iterator[float]:
    """Yield numbers in (0, 1) without end, `_AT_ONCE` from each place of the seed's stream."""
    for place in itertools.count():
        yield from randomness.uniform(seed, randomness.Purpose.SAMPLE, place, _AT_ONCE).tolist()


def choose(logits: npt.NDArray[np.floating], draw: float, settings: SampleSettings) -> int:
    """Pick a token from logits (V,): `draw` in (0, 1) is looked up in the cumulative distribution."""
    if settings.temperature == 0.0:
        return int(np.argmax(logits))
    candidates = _likeliest(logits, settings)
    apart = logits[candidates].astype(np.float64) - float(logits.max())
    chances = np.exp(apart / settings.temperature)
    reached = np.cumsum(chances)
    if settings.top_p < 1.0:  # the fewest that reach it together
        count = int(np.searchsorted(reached, settings.top_p * reached[-1])) + 1
        candidates, reached = candidates[:count], reached[:count]
    place = int(np.searchsorted(reached, draw * reached[-1], side="right"))
    return int(candidates[min(place, len(candidates) - 1)])


def _likeliest(logits: npt.NDArray[np.floating], settings: SampleSettings) -> npt.NDArray[np.intp]:
    """Tokens to consider: all in order, or the likeliest first, the lower number of equal ones first."""
    V = len(logits)
    k = settings.top_k if 0 < settings.top_k < V else V
    if k == V and settings.top_p == 1.0:
        return np.arange(V)
    least = np.partition(logits, V - k)[V - k]
    found = np.flatnonzero(logits >= least)
    return found[np.argsort(-logits[found], kind="stable")][:k]


def until(pieces: Iterable[bytes], stop: bytes) -> Iterator[bytes]:
    """Pass bytes on up to and without the first `stop`; what may be its beginning waits for what follows."""
    held = b""
    for piece in pieces:
        held += piece
        if (at := held.find(stop)) >= 0:
            yield held[:at]
            return
        kept = next(n for n in range(min(len(stop) - 1, len(held)), -1, -1) if held.endswith(stop[:n]))
        yield held[: len(held) - kept]
        held = held[len(held) - kept :]
    yield held
