"""A grant is good once, here, now; anything else opens nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.errors import PolicyRefused
from appliance.grants import Grant, LiveGrants


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def live(clock):
    return LiveGrants(clock)


def grant(index=1, job="job", deadline=160.0):
    return Grant(index, b"proof", b"entry", "Job:job", "use", "a" * 64, job, deadline)


def test_a_grant_is_consumed_once(live):
    mine = grant()
    live.issue(mine)
    live.consume(mine)
    with pytest.raises(
        PolicyRefused, match="expected one issued by the gate and unused, found none; ask the gate"
    ):
        live.consume(mine)


def test_a_forged_copy_with_every_field_right_is_refused(live):
    mine = grant()
    live.issue(mine)
    forged = replace(mine)
    assert forged == mine
    with pytest.raises(PolicyRefused, match="grant 1 refused"):
        live.consume(forged)
    live.consume(mine)


def test_a_grant_that_the_gate_never_issued_is_refused(live):
    with pytest.raises(PolicyRefused, match="grant 1 refused"):
        live.consume(grant())


def test_a_grant_expires_at_its_deadline_and_is_spent_by_the_attempt(live, clock):
    mine = grant(deadline=101.5)
    live.issue(mine)
    clock.now = 101.5
    with pytest.raises(PolicyRefused, match=r"expired 0\.0 s ago; ask the gate for a new one"):
        live.consume(mine)
    clock.now = 100.0
    with pytest.raises(PolicyRefused, match="found none"):
        live.consume(mine)


def test_one_log_index_grants_once(live):
    mine = grant()
    live.issue(mine)
    with pytest.raises(PolicyRefused, match="expected a new log index, found one in use"):
        live.issue(grant())
    live.consume(mine)
    with pytest.raises(PolicyRefused, match="expected a new log index"):
        live.issue(grant())


def test_revoking_a_job_takes_its_grants_and_leases_and_no_others(live):
    used, unused, other = grant(1), grant(2), grant(3, job="other")
    for each in (used, unused, other):
        live.issue(each)
    live.consume(used)
    assert live.revoke_job("job") == 2
    with pytest.raises(PolicyRefused):
        live.consume(unused)
    live.consume(other)


def test_revoking_all_leaves_nothing(live):
    mine = grant()
    live.issue(mine)
    assert (live.revoke_all(), live.revoke_all()) == (1, 0)
    with pytest.raises(PolicyRefused):
        live.consume(mine)


def test_a_job_is_overdue_once_a_lease_it_uses_has_ended(live, clock):
    used, unused = grant(1, "one", 110.0), grant(2, "two", 110.0)
    live.issue(used)
    live.issue(unused)
    live.consume(used)
    assert live.overdue_jobs() == frozenset()
    clock.now = 110.0
    assert live.overdue_jobs() == {"one"}
    live.revoke_job("one")
    assert live.overdue_jobs() == frozenset()
