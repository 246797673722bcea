"""Padme hides a length among few others, at little cost."""

from hypothesis import given
from hypothesis import strategies as st

from appliance.bundle.padding import padme

LENGTHS = st.integers(0, 1 << 45)


def test_known_lengths():
    # By hand from the definition: 9 = 0b1001 keeps 2 bits below the first, so 10; 1 MiB + 1 keeps 5.
    assert [padme(length) for length in (0, 1, 2, 8, 9, 100, (1 << 20) + 1)] == [
        0,
        1,
        2,
        8,
        10,
        104,
        (1 << 20) + (1 << 15),
    ]


@given(LENGTHS)
def test_content_always_fits_and_padding_twice_changes_nothing(length):
    assert padme(length) >= length
    assert padme(padme(length)) == padme(length)


@given(LENGTHS)
def test_overhead_stays_below_twelve_percent(length):
    assert padme(length) - length <= 0.12 * length


def test_few_lengths_remain_to_be_told_apart():
    # Between 1 and 2 GiB every content looks like one of 33.
    step = 1 << 18
    assert len({padme(length) for length in range(1 << 30, 1 << 31, step)}) <= 33


@given(st.integers(4, 1 << 36))
def test_whole_blocks_stay_whole_blocks(blocks):
    assert padme(blocks * 512) % 512 == 0
