"""The floor of time: raised by signed moments only, a month at a time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.bundle.floor import BUILT, check_moment, raised
from appliance.errors import UsageError

MOMENTS = st.datetimes().map(lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0"))


@given(st.lists(MOMENTS, max_size=5))
def test_it_never_goes_back_and_never_far_ahead(moments):
    floor = BUILT
    for moment in moments:
        after = raised(floor, moment)
        assert floor <= after <= max(floor, moment)
        assert after <= raised(floor, "9999-12-31T00:00:00Z")
        floor = after


def test_a_moment_far_ahead_counts_for_31_days():
    assert raised("2027-01-01T00:00:00Z", "2800-01-01T00:00:00Z") == "2027-02-01T00:00:00Z"


@pytest.mark.parametrize(
    "text", ["", "2031-05-04", "2031-02-30T00:00:00Z", "1999-01-01T00:00:00Z", "2031-05-04T09:00:00+01:00"]
)
def test_officers_write_a_moment_in_one_way(text):
    with pytest.raises(UsageError, match="expected a moment such as 2031-05-04T09:00:00Z, found"):
        check_moment(text)


def test_a_moment_is_returned_as_it_was_given():
    assert check_moment("2031-05-04T09:00:00Z") == "2031-05-04T09:00:00Z"
