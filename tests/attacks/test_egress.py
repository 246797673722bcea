"""What may leave in a period: counted from the log, whatever the clock, the catalog or a crash say."""

from __future__ import annotations

import asyncio
import io
import os
from types import SimpleNamespace

import pytest

from appliance.custodian import leaving, tasks
from appliance.custodian.clockwork import extend_clock
from appliance.custodian.exports import Wanted, _decide, _Export, approved_export
from appliance.custodian.requests import export_of
from appliance.errors import IntegrityError, PolicyRefused, ProtocolError
from appliance.ledger import Ledger
from appliance.restore import restore
from appliance.worklink import Text
from tests.simulator import DAY_S, Simulator

LIMITS = {"bytes": 100, "count": 3, "recipient_bytes": 60, "recipient_count": 2}
BUDGETS = {"period": {"days": 7}, "weights": LIMITS, "text": LIMITS, "metrics": LIMITS}


@pytest.fixture
def small(tmp_path):
    """An appliance from which 100 bytes may leave in a week, 60 to one recipient."""
    simulator = Simulator(tmp_path / "small", budgets=BUDGETS)
    yield simulator
    simulator.close()


def charge(sim, size, recipient="a", content="weights"):
    leaving.charge(sim.core, content, recipient, size, person="operator", job="export-1")


def beyond(sim, size, recipient="a", content="weights"):
    return [lack.reason for lack in leaving.lacks(sim.core, content, recipient, size)]


def test_what_left_counts_by_recipient_and_in_all(small):
    charge(small, 50)
    assert beyond(small, 10) == []
    assert beyond(small, 11) == ["egress-budget:weights-recipient_bytes"]
    assert beyond(small, 50, "b") == []
    charge(small, 45, "b")
    assert beyond(small, 6, "c") == ["egress-budget:weights-bytes"]
    assert beyond(small, 60, "c", "metrics") == [], "contents are counted apart"


def test_many_small_ones_count_as_well(small):
    charge(small, 1)
    charge(small, 1)
    assert beyond(small, 1) == ["egress-budget:weights-recipient_count"]
    charge(small, 1, "b")
    assert beyond(small, 1, "c") == ["egress-budget:weights-count"]


def test_room_returns_after_the_period_and_the_refusal_says_when(small):
    charge(small, 60)
    small.clock.pass_(3600)
    (lack,) = leaving.lacks(small.core, "weights", "a", 1)
    small.clock.pass_(7 * DAY_S - 3600 - 5)
    assert beyond(small, 1) == ["egress-budget:weights-recipient_bytes"]
    small.clock.pass_(10)
    assert beyond(small, 1) == []
    told = lack.next_step.split("after ")[1][:20]
    now = small.core.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    assert now[:10] == told[:10]
    assert now >= told


def test_what_is_larger_than_a_whole_budget_never_fits(small):
    (lack,) = leaving.lacks(small.core, "weights", "a", 61)
    assert "more than the budget allows in any period" in lack.next_step


@pytest.mark.parametrize("days", [-1, -30, -3650])
def test_a_clock_that_is_turned_back_gives_nothing_back(small, days):
    charge(small, 60)
    for _ in range(3):
        small.clock.pass_(days * DAY_S)
        small.core.gate.outcome("note", "p", "a", "r", {})
        assert beyond(small, 1) == ["egress-budget:weights-recipient_bytes"]
        small.clock.pass_(-days * DAY_S)
        small.core.gate.outcome("note", "p", "a", "r", {})
        assert beyond(small, 1) == ["egress-budget:weights-recipient_bytes"], "back and forth is no time"


def test_setting_the_clock_by_officers_gives_nothing_back(small):
    charge(small, 60)
    for moment in ("2090-01-01T00:00:00Z", "2026-11-25T00:00:00Z", "2090-01-01T00:00:00Z"):
        extend_clock(small.core, small.operator, small.approved("configure", setting="clock", floor=moment))
        assert beyond(small, 1) == ["egress-budget:weights-recipient_bytes"]


def test_what_left_survives_a_crash_and_a_restart(small):
    charge(small, 50)
    small.core.gate.outcome(
        leaving.CHARGED,
        "Person:operator",
        "leave",
        "JobRecord:x",
        {"content": "weights", "recipient": "a", "bytes": 10, "job": "x"},
    )  # a crash before the row
    small.crash()
    small.start()
    assert beyond(small, 1)[0] == "egress-budget:weights-recipient_bytes"
    assert small.core.catalog.charges() == leaving.told_by_log(small.core)


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM egress", "UPDATE egress SET bytes = 1", "INSERT INTO egress VALUES (0, 'text', 'a', 1)"],
)
def test_rows_that_differ_from_the_log_deny_and_at_a_start_the_log_wins(small, statement):
    charge(small, 60)
    small.edit_catalog(statement)
    weights = small.add("weights", "tiny", b"w", [small.add("config", "tiny", b"[model]")])
    said = leaving.lacks(small.core, "weights", "b", 1)
    assert [lack.reason for lack in said] == ["egress-differs-from-log"]
    with small.refused(IntegrityError, "egress-differs-from-log", ["deny sample"]):
        small.core.gate.request(small.operator, "sample", weights, job="sample-1", lacks=said)
    small.restart()
    assert small.core.catalog.charges() == leaving.told_by_log(small.core)
    assert beyond(small, 1) == ["egress-budget:weights-recipient_bytes"]
    small.restart()
    recounted = [entry.kind for entry in small.entries()].count("egress-recounted")
    assert recounted == (not statement.startswith("DELETE")), "a row that is lacking is added like any other"


def test_what_left_is_told_again_when_a_log_is_begun_anew(small, tmp_path):
    charge(small, 60)
    small.stop()
    restore(small.home.root, tmp_path / "restored")
    small.home = type(small.home)(tmp_path / "restored")
    small.start()
    assert beyond(small, 1) == ["egress-budget:weights-recipient_bytes"]


def test_limits_edited_in_the_home_are_not_those_that_were_logged(small):
    small.stop()
    small.edit_home(budgets={**BUDGETS, "text": {**LIMITS, "bytes": 1 << 40}})
    small.refuses_to_start(IntegrityError, "home.json differs from what the log's genesis entry names")


def test_a_damaged_log_lets_nothing_leave(small, monkeypatch):
    charge(small, 1)
    small.core.ledger.damage = "entry 7: its bytes and its hash differ"
    with pytest.raises(IntegrityError, match=r"entry 7: .*is not known until the log is whole again"):
        beyond(small, 1)
    assert leaving.standing(small.core) == []
    assert any("nobody may approve and nothing leaves" in text for text in small.core.warnings())
    assert not small.core.ledger.enrolment.officers()


# ---- where it is asked ------------------------------------------------------------------------------------


class Model:
    """A model whose export two officers approved."""

    def __init__(self, sim):
        self.sim = sim
        self.weights = sim.add("weights", "tiny", b"w" * 40, [sim.add("config", "tiny", b"[model]")])
        self.recipient = sim.recipient()
        self.document = sim.request_export(self.weights, self.recipient)
        sim.approve(self.document, "alice", "bob")

    def decide(self):
        wanted = Wanted("tiny", self.recipient, self.document, 0)
        weights, approved = approved_export(self.sim.core, wanted)
        subject = export_of(weights, self.recipient)
        named = (weights.id,)
        decided = _decide(
            self.sim.core, self.sim.operator, approved, subject, "export-1", named, weights.size
        )
        run = SimpleNamespace(owner="operator", job="export-1")
        return _Export(self.sim.core, {}, run, weights, approved, wanted, decided)


@pytest.fixture
def model(small):
    return Model(small)


def test_an_export_beyond_the_budget_is_denied_and_logged(model):
    charge(model.sim, 61, "somebody")
    with model.sim.refused(
        PolicyRefused, "egress-budget:weights-bytes .*there will be room after 2", ["deny export"]
    ):
        model.decide()
    asked = model.sim.entries()[-1].context
    assert (asked["content"], asked["bytes"], asked["exported_bytes"]) == ("weights", 40, 61)


def test_an_export_that_turns_out_too_large_leaves_nothing(model):
    export = model.decide()
    with model.sim.refused(PolicyRefused, "61 bytes may not leave: .*recipient_bytes", ["egress-refused"]):
        export._begin_to_leave(61)
    assert not model.sim.core.ledger.charges
    export._begin_to_leave(60)
    assert [charge.size_bytes for charge in model.sim.core.ledger.charges] == [60]
    assert [entry.kind for entry in model.sim.entries()[-2:]] == ["request-used", "egress"]


def test_of_two_exports_at_once_only_what_fits_leaves(model):
    one = model.decide()
    charge(model.sim, 61, "another that was faster")
    with pytest.raises(PolicyRefused, match="egress-budget:weights-bytes"):
        one._begin_to_leave(40)


async def first_piece(sim, length):
    numbers = {"prompt": "x", "length": length, "stop": ""}
    async for piece in tasks.sample(sim.core, {}, sim.operator, "tiny", numbers):
        return piece
    return ""


def test_text_counts_as_it_was_asked_for_and_is_denied_beyond_the_budget(model, monkeypatch):
    async def started(*_, **__):
        raise OSError("no worker here")

    monkeypatch.setattr(tasks.Worker, "start", started)
    with pytest.raises(OSError, match="no worker here"):
        asyncio.run(first_piece(model.sim, 50))
    (left,) = model.sim.core.ledger.charges
    assert (left.content, left.recipient, left.size_bytes) == ("text", "Person:operator", 50)
    with model.sim.refused(PolicyRefused, "egress-budget:text-recipient_bytes", ["deny sample"]):
        asyncio.run(first_piece(model.sim, 11))


def test_status_tells_how_much_is_left(small):
    charge(small, 7)
    told = {each["content"]: each for each in leaving.standing(small.core)}
    assert told["weights"] == {
        "content": "weights",
        "bytes": 7,
        "count": 1,
        "limit_bytes": 100,
        "limit_count": 3,
        "days": 7,
    }
    assert told["text"]["bytes"] == 0


def test_what_the_ledger_gathers_bit_by_bit_is_what_it_gathers_at_once(small):
    for size in (1, 2):
        charge(small, size)
        assert small.core.ledger.charges[-1].size_bytes == size
        small.clock.pass_(60)
    fresh = Ledger(small.core.log, small.core.facts)
    assert list(fresh.charges) == list(small.core.ledger.charges)
    assert fresh.clock.seconds == small.core.ledger.clock.seconds


@pytest.mark.parametrize(
    "piece", ["AAAA", "\U0001f511"]
)  # four bytes each: characters are not what is counted
def test_a_sampler_that_says_more_than_was_asked_for_and_counted_is_cut(model, monkeypatch, piece):
    class Talker:
        ended = False

        @classmethod
        async def start(cls, *_, **__):
            return cls()

        def give_input(self, _role, _kind, payload, _key):
            os.close(payload)

        def proceed(self):
            pass

        async def receive(self):
            return next(words)

        async def end(self):
            Talker.ended = True

    async def said():
        numbers = {"prompt": "x", "length": 10, "stop": ""}
        async for text in tasks.sample(model.sim.core, {}, model.sim.operator, "tiny", numbers):
            heard.write(text)

    words = iter([Text(piece)] * 50)
    heard = io.StringIO()
    monkeypatch.setattr(tasks, "Worker", Talker)
    with pytest.raises(ProtocolError, match="said more than was asked for"):
        asyncio.run(said())
    assert heard.getvalue() == 2 * piece
    assert Talker.ended
    assert [charge.size_bytes for charge in model.sim.core.ledger.charges] == [10]
