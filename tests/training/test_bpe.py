"""Byte pairs: any UTF-8 comes back, equal texts give equal tables, and the library opens nothing."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import ContentRefused
from appliance.training import stream as stream_module
from appliance.training.bpe import BytePairs, train
from appliance.training.data import Corpus
from appliance.training.documents import Span
from appliance.training.source import HeldBytes
from appliance.training.stream import SlicedTokens, read_tokens
from appliance.training.tokenizer import Merges, parse_tokenizer

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "naïve", "€uro", "日本語"]
RNG = np.random.default_rng(0)
TEXTS = [" ".join(RNG.choice(WORDS, 200).tolist()).encode() for _ in range(30)]
TABLE = train(((text, "text") for text in TEXTS), 300)
PAIRS = BytePairs(TABLE)


def back(tokens):
    return b"".join(PAIRS.bytes_of(token) for token in tokens.tolist())


def test_text_comes_back_in_fewer_tokens():
    for text in TEXTS:
        tokens = PAIRS.encode(text, "here")
        assert back(tokens) == text
        assert tokens.size < 0.6 * len(text)


@given(st.text(max_size=80))
def test_any_text_comes_back_and_never_holds_the_separator(text):
    data = text.encode("utf-8", "ignore")
    tokens = PAIRS.encode(data, "here")
    assert back(tokens) == data
    assert 0 not in tokens


def test_text_that_spells_the_separators_name_is_text():
    tokens = PAIRS.encode(b"a<|endoftext|>b", "here")
    assert 0 not in tokens
    assert back(tokens) == b"a<|endoftext|>b"


def test_equal_texts_give_equal_tables_and_a_table_read_again_encodes_alike():
    again = train(((text, "text") for text in TEXTS), 300)
    assert again.encode() == TABLE.encode()
    other = BytePairs(parse_tokenizer(TABLE.encode()))
    for text in TEXTS:
        assert (other.encode(text, "here") == PAIRS.encode(text, "here")).all()


def test_a_vocabulary_beyond_the_text_is_refused_with_what_it_gives():
    with pytest.raises(
        ContentRefused, match=r"model\.vocabulary: expected at most the 2\d\d tokens .*found 5000"
    ):
        train([(b"abc abd", "text")], 5000)


def test_bytes_that_are_no_utf8_are_refused_with_their_place():
    with pytest.raises(
        ContentRefused, match=r"corpus 3: expected UTF-8 .* found another byte at offset 2 of it; .*bytes"
    ):
        PAIRS.encode(b"ab\xff", "corpus 3")
    with pytest.raises(ContentRefused, match="text 1: expected UTF-8"):
        train([(b"fine", "text 0"), (b"\xe2\x82", "text 1")], 300)


def test_the_public_library_reads_the_table_and_gives_the_same_tokens():
    public = tokenizers.Tokenizer.from_str(PAIRS.public_json().decode())
    for text in TEXTS:
        assert public.encode(text.decode()).ids == PAIRS.encode(text, "here").tolist()
        assert public.decode(public.encode(text.decode()).ids) == text.decode()
    assert json.loads(PAIRS.public_json())["added_tokens"][0]["content"] == "<|endoftext|>"


@pytest.mark.parametrize("piece", [7, 20, 1 << 16])
def test_slices_give_what_held_tokens_give(piece, monkeypatch):
    monkeypatch.setattr(stream_module, "PIECE_BYTES", piece)
    monkeypatch.setattr(stream_module, "_WORD_BYTES", piece // 2)
    source = HeldBytes(b"\0".join(TEXTS))
    spans, start = [], 0
    for text in TEXTS:
        spans.append(Span(0, start, start + len(text)))
        start += len(text) + 1
    held = read_tokens([source], spans, PAIRS)
    assert back(held) == b"".join(b"\0" + text for text in TEXTS)
    sliced = SlicedTokens([source], spans, PAIRS)
    assert sliced.size == held.size
    for begin in (0, 1, 100, held.size - 50):
        assert (sliced.read(begin, 50) == held[begin : begin + 50]).all()


def test_a_corpus_counts_the_bytes_of_its_tokens(config_of):
    config = config_of(model="vocabulary = 300\n", data='corpus = "t"\ntokenizer = "words"')
    corpus = Corpus({"t": HeldBytes(b"\0".join(TEXTS))}, PAIRS, config)
    assert corpus.held_out.tokens.dtype == np.uint16
    assert corpus.held_out.size_bytes == len(back(corpus.held_out.tokens)) - 1
    assert corpus.batch(0).tokens.max() >= 257
    with pytest.raises(ContentRefused, match="vocabulary mismatch"):
        Corpus({"t": HeldBytes(b"text")}, BytePairs(Merges(())), config)


SCRIPT = """
import sys
from appliance.training.bpe import BytePairs, train
sys.stderr.write("begin\\n")
table = train([(b"the cat and the dog and the cat " * 50, "text")], 262)
assert BytePairs(table).encode(b"the cat", "text").size < 7
"""


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_the_library_opens_no_file_and_no_socket_and_starts_no_thread(tmp_path):
    trace = tmp_path / "trace"
    calls = "trace=openat,open,socket,connect,clone,clone3,fork,vfork,write,mprotect"
    command = [shutil.which("strace"), "-f", "-o", str(trace), "-e", calls, sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env={"TOKENIZERS_PARALLELISM": "false", "PATH": ""}, check=False)
    assert done.returncode == 0
    after = trace.read_text().partition('"begin\\n"')[2]
    assert "exited with 0" in after
    seen = {line.split()[1].partition("(")[0] for line in after.splitlines()[1:]}
    assert seen <= {"mprotect", "write", "+++"}
    assert "PROT_EXEC" not in after
