"""How text becomes tokens and tokens become text again: bytes, or byte pairs merged by a trained table.

Both take any bytes and give them back. Token 0 stands between documents and in no text: for bytes it is the
NUL that joins the documents of a corpus. A tokenizer is sealed as JSON of our own (`parse_tokenizer` and
`encode` are inverse to each other), of which everything else follows: which bytes each token stands for, and
the table for the public `tokenizers` library, which does the work (`appliance.training.bpe`).
"""

from __future__ import annotations

import json
from typing import Protocol

import numpy as np
import numpy.typing as npt

from appliance.errors import ContentRefused
from appliance.training.config import BYTE_VOCABULARY, ModelConfig

SEPARATOR_TOKEN = 0
MAX_TOKENIZER_BYTES = 64 * 1024 * 1024
MAX_VOCABULARY = 1 << 20
MAX_TOKEN_BYTES = 1024
FORMAT = "appliance-bpe/1"
_FIRST_MERGED = 1 + BYTE_VOCABULARY  # token 0, then one token for each byte, then what is merged

Tokens = npt.NDArray[np.unsignedinteger]


class Tokenizer(Protocol):
    """Text to tokens and back."""

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""

    def encode(self, text: bytes, where: str, /) -> Tokens:
        """Tokens of one document or part of one; `where` is for the message of `ContentRefused`."""

    def bytes_of(self, token: int, /) -> bytes:
        """Return what a token stands for; a NUL for token 0."""


class ByteTokenizer:
    """Every byte is a token."""

    vocabulary = BYTE_VOCABULARY

    def encode(self, text: bytes, where: str, /) -> Tokens:  # noqa: ARG002  any bytes will do
        """Return the bytes (len(text),) as uint8."""
        return np.frombuffer(text, np.uint8)

    def bytes_of(self, token: int, /) -> bytes:
        """Return one byte."""
        return bytes([token])


class Merges:
    """The table of a byte pair encoding: pairs of tokens in the order in which they are merged.

    A pair whose bytes another token already stands for gives that token, any other a new one.
    """

    def __init__(self, pairs: tuple[tuple[int, int], ...]) -> None:
        """Raise `ContentRefused` for a pair of tokens that are not there yet, and for tokens too long."""
        self.pairs = pairs
        self.tokens = [b"\0", *(bytes([value]) for value in range(BYTE_VOCABULARY))]
        known = {text: token for token, text in enumerate(self.tokens) if token != SEPARATOR_TOKEN}
        for number, (left, right) in enumerate(pairs):
            if not (0 < left < len(self.tokens) and 0 < right < len(self.tokens)):
                raise ContentRefused(
                    f"tokenizer: merge {number}: expected two tokens from 1 to {len(self.tokens) - 1}, found "
                    f"{left} and {right}"
                )
            text = self.tokens[left] + self.tokens[right]
            if len(text) > MAX_TOKEN_BYTES:
                raise ContentRefused(
                    f"tokenizer: merge {number}: expected a token of at most {MAX_TOKEN_BYTES} bytes, found "
                    f"{len(text)}"
                )
            if text not in known:
                known[text] = len(self.tokens)
                self.tokens.append(text)

    def encode(self) -> bytes:
        """ASCII JSON; equal tables give equal bytes."""
        document = {"format": FORMAT, "merges": self.pairs}
        return json.dumps(document, separators=(",", ":")).encode("ascii") + b"\n"


def parse_tokenizer(data: bytes) -> Merges:
    """Read a sealed tokenizer; raise `ContentRefused` unless these are exactly the bytes of a table."""
    if len(data) > MAX_TOKENIZER_BYTES:
        raise ContentRefused(f"tokenizer: expected at most {MAX_TOKENIZER_BYTES} bytes, found {len(data)}")
    try:
        document = json.loads(data.decode("ascii"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ContentRefused("tokenizer: expected ASCII JSON, found a syntax error") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ContentRefused(f"tokenizer: expected an object of the format {FORMAT!r}, found another")
    pairs = document.get("merges")
    if not isinstance(pairs, list) or len(pairs) > MAX_VOCABULARY or not all(map(_is_pair, pairs)):
        raise ContentRefused(
            f"tokenizer: expected at most {MAX_VOCABULARY} merges, each two numbers, found something else"
        )
    table = Merges(tuple((left, right) for left, right in pairs))
    if table.encode() != data:
        raise ContentRefused(
            "tokenizer: expected the one way to write this table, found another; seal it anew with the "
            "program that trained it"
        )
    return table


def _is_pair(found: object) -> bool:
    return (
        isinstance(found, list)
        and len(found) == 2
        and all(type(item) is int and 0 <= item < MAX_VOCABULARY for item in found)
    )


def check_vocabulary(tokenizer: Tokenizer, model: ModelConfig) -> None:
    """Refuse a tokenizer with other tokens than the model has."""
    if tokenizer.vocabulary != model.vocabulary:
        raise ContentRefused(
            f"vocabulary mismatch: the model has {model.vocabulary} tokens (model.vocabulary), the tokenizer "
            f"{tokenizer.vocabulary}; set the one to the other, or name the tokenizer that the model was "
            "trained with"
        )
