"""The log cannot be written: from that moment no key is released, and it is said within a second."""

from __future__ import annotations

import time

import pytest

from appliance.errors import UnknownObject
from appliance.gate import NamedObject, StagedObject, Thing
from audit.errors import LogUnavailable

ATTACKS = {
    "replace_log_file": "found another file in its place",
    "link_log_file": "expected one link to the log, found 2",
    "move_log_folder": "moved or deleted",
    "clear_write_bits_of_the_file": "expected it writable, found mode 0440",
    "clear_write_bits_of_the_folder": "expected it writable, found mode 0550",
    "append_rubbish_to_log": "somebody else wrote to it",
}


@pytest.fixture
def weights(sim):
    return sim.add("weights", "tiny", b"the weights")


def nothing_more_is_granted(sim, weights):
    assert not sim.core.live._unused
    assert not sim.core.log_alive
    for ask in (
        lambda: sim.use(weights),
        lambda: sim.ask("train", weights),
        lambda: sim.ask("status", Thing(sim.core.appliance())),
        lambda: sim.ask("train", NamedObject("config", "unknown")),
        lambda: sim.verify(StagedObject("a" * 64, "weights", "w", "import-1")),
        lambda: sim.core.gate.outcome("note", "Custodian:custodian", "note", "Appliance:x", {}),
    ):
        began = time.monotonic()
        with sim.refused(LogUnavailable, "the log has stopped: .*mend that and open it again"):
            ask()
        assert time.monotonic() - began < 1


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_log_tampered_with_stops_the_release_of_keys(sim, weights, attack):
    getattr(sim, attack)()
    began = time.monotonic()
    with sim.refused(LogUnavailable, ATTACKS[attack]):
        sim.use(weights)
    assert time.monotonic() - began < 1
    nothing_more_is_granted(sim, weights)


@pytest.mark.parametrize("attack", ATTACKS)
def test_it_is_noticed_while_nobody_asks(sim, weights, attack):
    getattr(sim, attack)()
    assert not sim.core.log_alive
    nothing_more_is_granted(sim, weights)


def test_a_full_disk_is_logged_from_the_reserve_and_then_nothing_is(sim, weights):
    with (
        sim.full_disk(reserve_helps=True),
        sim.refused(LogUnavailable, "No space left on device; nothing more is logged", ["log.full"]),
    ):
        sim.use(weights)
    nothing_more_is_granted(sim, weights)
    sim.crash()
    goes_on(sim, weights)
    assert "log.full" in {entry.kind for entry in sim.entries()}


def test_a_full_disk_without_reserve_leaves_nothing_half_written(sim, weights):
    size = sim.core.log.size
    with sim.full_disk(), sim.refused(LogUnavailable, "No space left on device; nothing more is logged"):
        sim.use(weights)
    nothing_more_is_granted(sim, weights)
    sim.crash()
    sim.start()
    assert sim.core.log.size == size
    assert sim.core.log.recovery.torn_bytes == 0
    sim.stop()
    goes_on(sim, weights)


def test_a_failing_disk_grants_nothing_though_the_entry_may_have_reached_it(sim, weights):
    with sim.failing_disk(), sim.refused(LogUnavailable, "Input/output error; nothing more is logged"):
        sim.use(weights)
    nothing_more_is_granted(sim, weights)
    sim.crash()
    goes_on(sim, weights)


def test_write_bits_given_back_are_not_enough_until_the_log_was_opened_anew(sim, weights):
    sim.clear_write_bits_of_the_file()
    with sim.refused(LogUnavailable, "expected it writable"):
        sim.use(weights)
    sim.wal.chmod(0o640)
    nothing_more_is_granted(sim, weights)
    sim.crash()
    goes_on(sim, weights)


def test_a_denial_that_cannot_be_logged_is_no_denial_but_a_dead_log(sim):
    with sim.failing_disk(), sim.refused(LogUnavailable, "Input/output error"):
        sim.ask("train", NamedObject("config", "unknown"))


def test_a_grant_from_before_is_the_last_that_opens(sim, weights):
    """Its entry is durable; what the log could not hold came after it."""
    grant = sim.use(weights)
    sim.move_log_folder()
    with sim.refused(LogUnavailable, "moved or deleted"):
        sim.use(weights)
    assert sim.open(grant) == b"the weights"


def test_a_log_that_dies_between_decision_and_verification_publishes_nothing(sim):
    staged = sim.stage(b"half a checkpoint")
    sim.replace_log_file()
    with sim.refused(LogUnavailable, "another file in its place"):
        sim.verify(staged)
    assert sim.core.vault.objects() == ()


def goes_on(sim, weights):
    """After a mend and a start everything is as it was, and the log verifies."""
    sim.start()
    sim.unseal()
    assert sim.read(weights) == b"the weights"
    with pytest.raises(UnknownObject):
        sim.ask("train", NamedObject("config", "unknown"))
    size = sim.core.log.size
    sim.core.log.publish()
    assert sim.verify_log() == size
