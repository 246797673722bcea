"""Shares: any K of them open, a mistake costs one entry, and no word of one ever stands in a message."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shamir_mnemonic import combine_mnemonics
from shamir_mnemonic.wordlist import WORDLIST

from appliance.custody import shamir, slot
from appliance.custody.shamir import Ceremony, ShareMistyped, ShareOfAnotherSet, ShareRepeated
from appliance.errors import IntegrityError, UsageError, WrongSecret

SECRET = b"the secret of the slot"
HERE = Path("slot")


def texts(made):
    return [share.decode("ascii") for share in made.shares]


def lines(shares):
    return bytearray("\n".join(shares).encode())


def test_any_two_of_three_open_and_one_does_not(tmp_path):
    made = slot.create_slot(tmp_path, "vault", "shamir:2-of-3", None, SECRET)
    assert made.record == slot.read_record(tmp_path, "vault")
    assert made.record.uri == "shamir:2-of-3"
    shares = texts(made)
    for two in itertools.permutations(shares, 2):
        assert slot.open_slot(tmp_path, "vault", lines(two)) == SECRET
    assert slot.open_slot(tmp_path, "vault", lines(shares)) == SECRET
    for one in shares:
        with pytest.raises(WrongSecret, match="shares: expected 2, found 1"):
            slot.open_slot(tmp_path, "vault", lines([one]))
    with pytest.raises(UsageError, match="expected 2 shares, one a line, found none"):
        slot.open_slot(tmp_path, "vault", None)


def test_nothing_of_the_shares_is_on_the_disk(tmp_path):
    made = slot.create_slot(tmp_path, "vault", "shamir:2-of-3", None, SECRET)
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for share in made.shares:
        value = shamir.Share.from_mnemonic(share.decode()).value
        assert share not in written
        assert value not in written
        assert value.hex().encode() not in written


def test_the_reference_implementation_joins_our_shares():
    made = shamir.make("shamir:3-of-5")
    assert all(len(share.split()) == 33 for share in made.shares)
    for three in itertools.combinations(texts(made), 3):
        assert combine_mnemonics(three) == made.secret


def test_a_ceremony_goes_on_after_each_mistake():
    made, other = shamir.make("shamir:2-of-3"), shamir.make("shamir:2-of-3")
    shares = texts(made)
    ceremony = Ceremony(made.lock)
    words = shares[0].split()
    with pytest.raises(ShareMistyped, match="word 5 is none of the list's words"):
        ceremony.add(" ".join([*words[:4], "xyzzy", *words[5:]]))
    with pytest.raises(ShareMistyped, match="expected 33 words, found 32"):
        ceremony.add(" ".join(words[1:]))
    swapped = [*words[:9], words[10], words[9], *words[11:]]
    assert swapped != words
    with pytest.raises(ShareMistyped, match="its checksum does not fit"):
        ceremony.add(" ".join(swapped))
    assert ceremony.missing == 2
    assert ceremony.add(f"  {shares[0].upper()} ") == 1
    with pytest.raises(ShareRepeated, match="share 1: expected another share, found one entered already"):
        ceremony.add(shares[0])
    with pytest.raises(
        ShareOfAnotherSet, match=f"expected one of set {made.lock.identifier}, found one of set"
    ):
        ceremony.add(texts(other)[1])
    assert ceremony.missing == 1
    assert ceremony.add(shares[2]) == 3
    assert ceremony.missing == 0
    assert ceremony.join() == made.secret


@given(place=st.integers(0, 32), word=st.integers(0, 1023), data=st.data())
@settings(max_examples=60)
def test_one_wrong_word_is_always_noticed_and_never_repeated(place, word, data):
    """RS1024 finds any error in up to three words."""
    words = data.draw(st.sampled_from(SHARES)).split()
    wrong = WORDLIST[word]
    if wrong == words[place]:
        return
    entered = [*words[:place], wrong, *words[place + 1 :]]
    with pytest.raises(ShareMistyped) as caught:
        Ceremony(MADE.lock).add(" ".join(entered))
    said = str(caught.value).split()
    assert not {word for word in entered if len(word) > 5} & set(said) - {"share", "checksum"}


@given(st.text(max_size=300))
def test_any_text_as_a_share_is_refused_in_our_words(text):
    with pytest.raises(ShareMistyped):
        Ceremony(MADE.lock).add(text)


def test_a_share_that_bears_the_sets_number_and_is_foreign_is_found():
    """Fifteen bits number a set: two sets may bear one number, or somebody may forge it."""
    made, other = shamir.make("shamir:2-of-3"), shamir.make("shamir:2-of-3")
    forged = shamir.Share.from_mnemonic(texts(other)[1])
    forged = shamir.Share(**{**vars_of(forged), "identifier": made.lock.identifier}).mnemonic()
    for entered, wanted in (([texts(made)[0], forged], 2), ([*texts(made)[:1], texts(made)[2], forged], 3)):
        ceremony = Ceremony(made.lock, wanted)
        for share in entered:
            ceremony.add(share)
        with pytest.raises(ShareOfAnotherSet, match="does not fit the others"):
            ceremony.join()


def vars_of(share):
    return {name: getattr(share, name) for name in share.__dataclass_fields__}


def test_a_share_of_another_threshold_is_foreign():
    made = shamir.make("shamir:2-of-3")
    lock = shamir.ShareSet(3, 3, made.lock.identifier)
    with pytest.raises(ShareOfAnotherSet):
        Ceremony(lock).add(texts(made)[0])


@pytest.mark.parametrize(
    "change",
    [{"identifier": 2**15}, {"identifier": -1}, {"threshold": 3}, {"shares": 4}, {"identifier": "7"}],
)
def test_a_record_that_contradicts_its_uri_is_damage(tmp_path, change):
    made = slot.create_slot(tmp_path, "vault", "shamir:2-of-3", None, SECRET)
    fields = {"shamir": {**made.record.lock.fields()["shamir"], **change}}
    data = slot.SlotRecord(made.record.recipient, FakeLock("shamir:2-of-3", fields)).encode()
    with pytest.raises(IntegrityError, match="custody file"):
        slot.parse_record(data)


class FakeLock:
    def __init__(self, uri, fields):
        self.uri = uri
        self._fields = fields

    def fields(self):
        return self._fields


MADE = shamir.make("shamir:2-of-3")
SHARES = texts(MADE)
