"""Byte pair encoding with the public `tokenizers` library: training a table, and encoding text by it.

The library gets its table as values and text as strings: it opens no file and, with TOKENIZERS_PARALLELISM
set to false (which the custodian does for its workers), starts no thread. Text is cut into words by GPT-2's
rule first (Radford et al. 2019, section 2.2; the library's `ByteLevel`), so it has to be UTF-8. Source of the
method: Sennrich et al. 2016.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

import numpy as np
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, pre_tokenizers, trainers

from appliance.errors import ContentRefused
from appliance.training.config import BYTE_VOCABULARY
from appliance.training.tokenizer import SEPARATOR_TOKEN, Merges, Tokens

END_OF_DOCUMENT = "<|endoftext|>"  # GPT-2's name for what stands between documents

# GPT-2's printable stand-ins for bytes: those that print stand for themselves, the others follow from U+0100.
_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [value for value in range(BYTE_VOCABULARY) if value not in _PRINTABLE]
_STAND_IN = {value: chr(value) for value in _PRINTABLE} | {
    value: chr(0x100 + index) for index, value in enumerate(_OTHERS)
}
_BYTE = {character: value for value, character in _STAND_IN.items()}


class BytePairs:
    """A trained tokenizer at work."""

    def __init__(self, table: Merges) -> None:
        self.table = table
        self.vocabulary = len(table.tokens)
        self._library = _library_of(table)
        # The separator never comes out of text: text that spells its name is ordinary text.
        self._library.encode_special_tokens = True

    def encode(self, text: bytes, where: str, /) -> Tokens:
        """Return the tokens as uint32; raise `ContentRefused` naming the place of a byte that is no UTF-8."""
        return np.asarray(self._library.encode(_decoded(text, where)).ids, np.uint32)

    def bytes_of(self, token: int, /) -> bytes:
        """Return what a token stands for."""
        return self.table.tokens[token]

    def public_json(self) -> bytes:
        """Return `tokenizer.json` as the public library reads it, for the folder of an exported model."""
        return self._library.to_str(pretty=False).encode("utf-8") + b"\n"


def train(texts: Iterable[tuple[bytes, str]], vocabulary: int) -> Merges:
    """Learn a table of `vocabulary` tokens from pieces of text, each with words for where it lies.

    Equal texts give equal tables. Raises `ContentRefused` on bytes that are no UTF-8, and when the text has
    too few pairs that occur twice to give so many tokens.
    """
    library = Library(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=[END_OF_DOCUMENT],
        initial_alphabet=sorted(_BYTE),
        show_progress=False,
    )
    library.train_from_iterator(_strings(texts), trainer)
    table = Merges(_pairs_of(library))
    if len(table.tokens) != vocabulary:
        raise ContentRefused(
            f"config key model.vocabulary: expected at most the {len(table.tokens)} tokens that this corpus "
            f"gives, found {vocabulary}; lower it, or give more text"
        )
    return table


def _strings(texts: Iterable[tuple[bytes, str]]) -> Iterator[str]:
    for text, where in texts:
        yield _decoded(text, where)


def _decoded(text: bytes, where: str) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ContentRefused(
            f"{where}: expected UTF-8 for a tokenizer of byte pairs, found another byte at offset "
            f'{error.start} of it; mend the text, or set data.tokenizer = "bytes"'
        ) from error


def _pairs_of(library: Library) -> tuple[tuple[int, int], ...]:
    """Read the merges that the library learnt and number their tokens as `Merges` does."""
    learnt = json.loads(library.to_str())["model"]["merges"]
    tokens = {bytes([value]): 1 + value for value in range(BYTE_VOCABULARY)}
    pairs: list[tuple[int, int]] = []
    for left, right in learnt:
        first, second = _raw(left), _raw(right)
        pairs.append((tokens[first], tokens[second]))
        tokens.setdefault(first + second, len(tokens) + 1)
    return tuple(pairs)


def _raw(token: str) -> bytes:
    return bytes(_BYTE[character] for character in token)


def _library_of(table: Merges) -> Library:
    spelled = ["".join(_STAND_IN[value] for value in token) for token in table.tokens]
    spelled[SEPARATOR_TOKEN] = END_OF_DOCUMENT
    library = Library(
        models.BPE(
            vocab={text: token for token, text in enumerate(spelled)},
            merges=[(spelled[left], spelled[right]) for left, right in table.pairs],
        )
    )
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens([END_OF_DOCUMENT])
    return library
