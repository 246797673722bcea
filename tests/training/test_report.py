"""An account is read exactly as it was written, and nothing else is read as one."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import ContentRefused
from appliance.training.accounting import Operations
from appliance.training.report import RunAccount, encode_account, parse_account

COUNTS = st.integers(0, 2**80)
SECONDS = st.floats(0, 1e9)
ACCOUNTS = st.builds(
    RunAccount,
    **dict.fromkeys(("begin_step", "step", "tokens", "bytes_read"), COUNTS),
    **dict.fromkeys(("seconds", "step_seconds", "waited_seconds"), SECONDS),
    peak_flops_per_s=st.integers(1, 2**60),
    operations=st.dictionaries(
        st.sampled_from(["linear", "head", "gelu"]), st.builds(Operations, *[COUNTS] * 4)
    ),
)
ONE = RunAccount(
    0, 10, 640, 2.0, 1.5, 0.0, 99, 1000, {"linear": Operations(1, 2, 3, 4), "head": Operations(5)}
)


@given(ACCOUNTS)
def test_what_is_written_is_read(account):
    assert parse_account(encode_account(account)) == account


def test_the_share_is_operations_a_second_of_the_steps_by_the_peak():
    assert ONE.sum == Operations(6, 2, 3, 4)
    assert ONE.share_of_peak == pytest.approx(15 / 1.5 / 1000)
    assert dataclasses.replace(ONE, step_seconds=0.0).share_of_peak == 0.0


@pytest.mark.parametrize(
    "edit",
    [
        {"format": "appliance-account/2"},
        {"step": -1},
        {"step": 1.0},
        {"step": True},
        {"seconds": 1},
        {"seconds": -1.0},
        {"peak_flops_per_s": 0},
        {"more": 1},
        {"operations": {"linear": [1, 2, 3]}},
        {"operations": {"linear": [1, 2, 3, -4]}},
        {"operations": []},
    ],
    ids=str,
)
def test_another_account_is_refused(edit):
    document = {**json.loads(encode_account(ONE)), **edit}
    with pytest.raises(ContentRefused, match="account: expected"):
        parse_account(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"{}", b"\xff", b"[" * 5000, b"x" * 70_000])
def test_what_is_no_account_is_refused(data):
    with pytest.raises(ContentRefused, match="account: expected"):
        parse_account(data)


def test_another_spelling_of_the_same_numbers_is_refused():
    with pytest.raises(ContentRefused, match="in the one spelling"):
        parse_account(encode_account(ONE) + b"\n")
