"""What a sampling worker says: text that fits the bytes that were asked for and charged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.worker.sample import within


@pytest.mark.parametrize(
    ("pieces", "size_bytes", "text"),
    [
        ([b"abc", b"def"], 4, "abcd"),
        ([b"abc"], 9, "abc"),
        (["na\u00efve".encode()[:3], "na\u00efve".encode()[3:]], 6, "na\u00efve"),
        (["\u00ef".encode()], 1, ""),  # half a character is none
        ([b"a\xff"], 4, "a\ufffd"),  # what stands for a bad byte takes three
        ([b"a\xffb"], 3, "a"),
        ([b"a\xe2\x82"], 9, "a\ufffd"),  # the text ends within a character
        ([], 5, ""),
    ],
)
def test_whole_characters_are_passed_as_long_as_they_fit(pieces, size_bytes, text):
    assert "".join(within(pieces, size_bytes)) == text


@given(st.lists(st.binary(max_size=8)), st.integers(1, 40))
def test_no_bytes_of_a_model_make_more_text_than_was_asked_for(pieces, size_bytes):
    whole = b"".join(pieces).decode("utf-8", "replace")
    text = "".join(within(pieces, size_bytes))
    assert len(text.encode("utf-8")) <= size_bytes
    assert whole.startswith(text)
    assert text == whole or len((text + whole[len(text)]).encode("utf-8")) > size_bytes


def test_nothing_is_drawn_that_is_not_passed_on():
    def endless():
        for number in range(10):
            assert number < 3
            yield b"x"

    assert "".join(within(endless(), 3)) == "xxx"
