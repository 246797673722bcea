"""What the demo trains on, and what its result is measured against.

The text is the Python language reference as every CPython carries it (`pydoc_data.topics`): one document per
topic. About 40 % of its paragraphs recur across topics; each is kept only where it first stands, so that no
held-out sentence was seen in training. Pure: topics in, documents and figures out.
"""

from __future__ import annotations

import gzip
import lzma
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from appliance.bundle.content import TextChecker
from appliance.errors import ContentRefused
from appliance.training.data import split_documents
from appliance.training.documents import SEPARATOR

BEST = 9  # the level of `gzip -9` and of `xz -9`
_PARAGRAPH = "\n\n"
_NOT_A_WORD = re.compile(r"[^a-z0-9]+")


def documents(topics: Mapping[str, str]) -> dict[str, str]:
    """Return document names (`007-booleans`) and texts, in the order of the topics, each paragraph once.

    Paragraphs that no parser of the appliance would let in (control characters) are left out, and so are
    topics of which nothing is left.
    """
    seen: set[str] = set()
    found: dict[str, str] = {}
    for number, (topic, text) in enumerate(topics.items()):
        paragraphs = [each for each in dict.fromkeys(text.split(_PARAGRAPH)) if each.strip()]
        fresh = [each for each in paragraphs if each not in seen and _may_pass(each)]
        seen.update(paragraphs)
        if fresh:
            found[f"{number:03}-{_NOT_A_WORD.sub('-', topic.lower()).strip('-')}"] = (
                _PARAGRAPH.join(fresh) + "\n"
            )
    return found


def _may_pass(paragraph: str) -> bool:
    checker = TextChecker("paragraph")
    try:
        checker.feed(memoryview(paragraph.encode("utf-8")))
        checker.finish()
    except (ContentRefused, UnicodeEncodeError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class Yardsticks:
    """What general compressors make of the held-out text: sizes in bits per byte of that text."""

    held_out_bytes: int
    gzip: float
    xz: float
    xz_after_training_text: float


def yardsticks(texts: Iterable[str], fraction: float) -> Yardsticks:
    """Compress the text that training with this `validation_fraction` holds out: the bytes a model predicts.

    The last figure lets xz read the training text first, which is what the model has done; its dictionary
    at level 9, 64 MiB, holds all of it.
    """
    training, held_out = (
        SEPARATOR.join(part) for part in split_documents([text.encode("utf-8") for text in texts], fraction)
    )
    size = len(held_out)

    def bits(compressed: int) -> float:
        return 8 * compressed / size

    return Yardsticks(
        size,
        bits(len(gzip.compress(held_out, BEST))),
        bits(_xz(held_out)),
        bits(_xz(training + SEPARATOR + held_out) - _xz(training)),
    )


def _xz(data: bytes) -> int:
    return len(lzma.compress(data, preset=BEST))
