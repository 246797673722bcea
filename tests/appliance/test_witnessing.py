"""Witnesses, the appliance's side: what is shown, what counts, what age is, and what is refused meanwhile."""

from __future__ import annotations

import asyncio
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.allowance import Allowance
from appliance.custodian.audits import Audits
from appliance.custodian.clients import Caller
from appliance.custodian.witnessing import MAX_SHOWN, forward_s
from appliance.errors import (
    IntegrityError,
    PolicyRefused,
    ReplayRefused,
    SealedError,
    UnknownObject,
    UsageError,
)
from appliance.gate import NamedObject
from audit.cosignature import Cosigner, demand_quorum
from audit.entry import commitment_under
from audit.errors import BadSignature, Invalid, Malformed, NotLatest
from audit.note import VerifierKey
from audit.receipt import parse_receipt, verify_receipt
from audit.witness import parse_challenge
from audit.witness_state import answer
from tests.simulator import Simulator

ANN = Cosigner.from_seed("ann.example", bytes([1]) * 32)
BEN = Cosigner.from_seed("ben.example", bytes([2]) * 32)
CARL = Cosigner.from_seed("carl.example", bytes([3]) * 32)
NAMED = {each.vkey.name: each for each in (ANN, BEN, CARL)}
DAY_S = 24 * 3600


def simulate(folder, *witnesses, quorum=None):
    return Simulator(folder, witnesses=[each.vkey.text for each in witnesses], quorum=quorum)


@pytest.fixture
def watched(tmp_path):
    """An appliance of which two of three witnesses must cosign each head."""
    simulator = simulate(tmp_path, ANN, BEN, CARL, quorum=2)
    yield simulator
    simulator.close()


@pytest.fixture
def ask(watched):
    """Call one of the log's verbs, as the operator or another person."""

    def ask(method, uid=None, **parameters):
        caller = Caller(os.getuid() if uid is None else uid, parameters, ())
        return asyncio.run(Audits(watched.core).table()[method](caller))

    return ask


def show(sim, cosigner, challenge):
    """What the witness answers to a body, from a state of its own beside the appliance."""
    state = sim.folder / cosigner.vkey.name
    state.mkdir(exist_ok=True)
    data = challenge["body"].encode() if isinstance(challenge, dict) else challenge
    seconds = int(sim.clock.wall())
    return answer(data, state, [VerifierKey.parse(sim.init.log_vkey)], cosigner, seconds).decode()


@pytest.fixture
def witness(watched, ask):
    """Have witnesses cosign one head, the newest."""

    def witness(*cosigners):
        for number, cosigner in enumerate(cosigners):
            shown = ask("Challenge", witness=cosigner.vkey.name, again=number > 0)
            said = ask("Accept", answer=show(watched, cosigner, shown))
        return said

    return witness


def test_a_head_counts_once_enough_witnesses_cosigned_the_same_one(watched, ask):
    first = ask("Challenge", witness="ann.example")
    said = ask("Accept", answer=show(watched, ANN, first))
    assert (said["names"], said["missing"]) == (["ann.example"], 1)
    assert ask("AuditStatus")["witnessed_size"] == 0
    newer = ask("Challenge", witness="ben.example")
    assert newer["size"] > first["size"]
    assert ask("Accept", answer=show(watched, BEN, newer))["missing"] == 1
    assert ask("AuditStatus")["witnessed_size"] == 0, "two heads with one cosignature each"
    again = ask("Challenge", witness="carl.example", again=True)
    assert again["size"] == newer["size"]
    assert ask("Accept", answer=show(watched, CARL, again))["missing"] == 0
    status = ask("AuditStatus")
    assert status["witnessed_size"] == newer["size"]
    assert status["unwitnessed_entries"] == status["log_size"] - newer["size"]
    sizes = {each["name"]: each["size"] for each in status["witnesses"]}
    assert sizes == dict(zip(NAMED, (first["size"], newer["size"], newer["size"]), strict=True))


def test_each_step_stands_in_the_log(watched, witness):
    size = watched.core.log.size
    witness(ANN)
    told = [(entry.kind, entry.action, entry.context.get("setting")) for entry in watched.entries(size)]
    assert told == [
        ("decision", "witness", "challenge"),
        ("decision", "witness", "accept"),
        ("cosigned", "witness", None),
    ]
    said = watched.entries(size + 2)[0].context
    assert (said["size"], said["witnesses"], said["missing"]) == (size + 1, ["ann.example"], 1)


def test_witnessing_works_while_the_vault_is_sealed(watched, witness, ask):
    request = watched.approved("break-glass")
    watched.seal()
    assert witness(ANN, BEN)["missing"] == 0
    with pytest.raises(SealedError):
        ask("BreakGlass", request=request)


def test_what_was_witnessed_survives_a_crash(watched, witness, ask):
    witness(ANN, BEN)
    size = ask("AuditStatus")["witnessed_size"]
    shown = ask("Challenge", witness="carl.example")
    watched.crash()
    watched.start()
    assert ask("AuditStatus")["witnessed_size"] == size > 0
    said = ask("Accept", answer=show(watched, CARL, shown))
    assert (said["size"], said["names"]) == (shown["size"], ["carl.example"])


def test_a_receipt_under_the_witnessed_head_carries_its_cosignatures(watched, witness):
    weights = watched.add("weights", "tiny", b"the weights")
    grant = watched.use(weights)
    witness(ANN, BEN)
    under = watched.core.witnessing.note_over(grant.index)
    found = watched.core.gate.receipt_of(grant.index, under)
    verified = verify_receipt(found.receipt, found.entry, VerifierKey.parse(watched.init.log_vkey))
    assert verified.entry.action == "use"
    keys = [each.vkey for each in NAMED.values()]
    assert len(demand_quorum(parse_receipt(found.receipt).note, keys, 2)) == 2
    assert watched.core.witnessing.note_over(watched.core.log.size - 1) is None


def test_the_old_size_is_what_the_witness_saw_last(watched, ask, witness):
    assert parse_challenge(ask("Challenge", witness="ann.example")["body"].encode()).old == 0
    witness(ANN, BEN)
    seen = {each.witness.name: each.size for each in watched.core.witnessing.seen()}
    assert ask("Challenge", witness="ann.example")["old"] == seen["ann.example"] > 0
    assert ask("Challenge", witness="carl.example")["old"] == 0
    assert ask("Challenge")["old"] == seen["ann.example"], "several: what enough of them saw"
    assert ask("Challenge", old=3, witness="ann.example")["old"] == 3


def test_with_one_witness_its_last_size_needs_no_name(tmp_path):
    sim = simulate(tmp_path, ANN)
    try:
        body, old, size = sim.core.witnessing.challenge(None, "", again=False)
        assert (old, size) == (0, sim.core.log.size)
        assert sim.core.witnessing.accept(show(sim, ANN, body).encode()).missing == 0
        assert sim.core.witnessing.challenge(None, "", again=False)[1] == size
    finally:
        sim.close()


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"old": 99}, UsageError, "expected an old size of 0 to 2, found 99"),
        ({"witness": "eve.example"}, UnknownObject, "expected a witness of ann.example, ben.example"),
        ({"again": True}, UnknownObject, "make a challenge without --again first"),
    ],
)
def test_a_challenge_that_cannot_be_made_is_refused(ask, asked, error, message):
    with pytest.raises(error, match=message):
        ask("Challenge", **asked)


def test_an_answer_that_fits_no_head_shown_is_refused(watched, ask):
    with pytest.raises(UnknownObject, match="no head was shown to a witness yet"):
        ask("Accept", answer="\u2014 ann.example AAAAAAAA\n")
    shown = ask("Challenge", witness="ann.example")
    line = show(watched, ANN, shown)
    stranger = Cosigner.from_seed("eve.example", bytes(32))
    for wrong, message in [
        (show(watched, stranger, shown), "expected one by ann.example"),
        (line[:-9] + "AAAAAA==\n", "does not fit the signed bytes"),
    ]:
        with pytest.raises((BadSignature, Malformed), match=message):
            ask("Accept", answer=wrong)
    with pytest.raises(Malformed, match="is the end cut off"):
        ask("Accept", answer=line[:-1])
    with pytest.raises(Malformed):
        ask("Accept", answer="rubbish\n")
    assert ask("Accept", answer=line)["names"] == ["ann.example"]


def test_only_the_last_few_heads_are_waited_for(watched, ask):
    shown = [ask("Challenge", witness="ann.example") for _ in range(MAX_SHOWN + 1)]
    assert len(list((watched.home.root / "witness").iterdir())) == MAX_SHOWN
    with pytest.raises(BadSignature, match=f"one of the last {MAX_SHOWN} challenges"):
        ask("Accept", answer=show(watched, BEN, shown[0]))
    assert ask("Accept", answer=show(watched, ANN, shown[1]))["size"] == shown[1]["size"]


def test_a_head_planted_among_those_shown_is_left_out(watched, ask, tmp_path):
    ask("Challenge", witness="ann.example")
    other = simulate(tmp_path / "other", ANN)
    try:
        note = other.core.log.tree_head()
    finally:
        other.close()
    folder = watched.home.root / "witness"
    for name, data in {"99.note": note, "98.note": b"rubbish", "x.note": note}.items():
        (folder / name).write_bytes(data)
    (folder / "97.note").mkdir()
    assert [each.size for each in watched.core.witnessing.seen()] == [0, 0, 0]


def test_an_older_head_does_not_replace_a_newer_witnessed_one(watched, ask, witness):
    older = ask("Challenge", witness="carl.example")
    witness(ANN, BEN)
    size = watched.core.witnessing.size
    ask("Accept", answer=show(watched, CARL, older))
    assert watched.core.witnessing.size == size


# ---- against the log's keeper -----------------------------------------------------------------------------


def test_a_log_set_back_whole_is_caught_by_the_witness(watched, ask, witness):
    """The one attack that the folder cannot show: every file of the home as it was, days ago."""
    watched.stop()
    watched.folder.joinpath("backup").mkdir()
    backup = watched.folder / "backup" / "home"
    os.system(f"cp -a {watched.home.root} {backup}")  # noqa: S605  two paths of our own
    watched.start()
    watched.unseal()
    watched.read(watched.add("weights", "tiny", b"the weights"))
    witness(ANN, BEN)
    watched.stop()
    os.system(f"rm -r {watched.home.root} && cp -a {backup} {watched.home.root}")  # noqa: S605
    watched.start()
    assert watched.verify_log() < 7, "the folder alone passes"
    for old in (0, 1):
        with pytest.raises(NotLatest, match="is not my latest"):
            show(watched, ANN, ask("Challenge", old=old, witness="ann.example"))


def test_a_fork_shown_to_a_witness_is_caught(watched, ask, witness):
    """Set back, then grown again past what was seen: no proof leads there."""
    watched.stop()
    backup = watched.folder / "backup"
    os.system(f"cp -a {watched.home.root} {backup}")  # noqa: S605
    watched.start()
    witness(ANN, BEN)
    seen = watched.core.witnessing.size
    watched.stop()
    os.system(f"rm -r {watched.home.root} && cp -a {backup} {watched.home.root}")  # noqa: S605
    watched.start()
    watched.unseal()
    while watched.core.log.size <= seen:
        watched.add("weights", "other", b"other weights")
    with pytest.raises(Invalid, match="a fork"):
        show(watched, ANN, ask("Challenge", old=seen, witness="ann.example"))


def test_a_wrong_cosignature_on_the_disk_refuses_to_start(watched, witness):
    witness(ANN, BEN)
    watched.stop()
    path = watched.home.log / "witnessed"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:-1], lines[-1][:-9] + b"AAAAAA==\n"]))
    watched.refuses_to_start(IntegrityError, "log/witnessed: signature by .* does not fit")
    path.unlink()
    watched.start()
    assert watched.core.witnessing.size == 0


def test_a_cosignature_taken_away_makes_the_log_unwitnessed(watched, witness):
    witness(ANN, BEN)
    watched.stop()
    path = watched.home.log / "witnessed"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    watched.start()
    assert watched.core.witnessing.size == 0


# ---- age and limits ----------------------------------------------------------------------------------------


def test_age_is_the_time_that_passed_since_the_head_was_made(watched, witness, ask):
    watched.clock.pass_(100)
    assert watched.core.witnessing.age_s == 100
    shown = ask("Challenge", witness="ann.example")
    ask("Accept", answer=show(watched, ANN, shown))
    watched.clock.pass_(50)
    again = ask("Challenge", witness="ben.example", again=True)
    ask("Accept", answer=show(watched, BEN, again))
    assert watched.core.witnessing.age_s == 50, "since the head, not since the answer"


def test_age_goes_on_over_restarts(watched, witness):
    witness(ANN, BEN)
    watched.clock.pass_(1000)
    watched.restart()
    assert 999 <= watched.core.witnessing.age_s <= 1001
    watched.stop()
    watched.clock.pass_(5000)
    watched.start()
    assert 5999 <= watched.core.witnessing.age_s <= 6001
    watched.clock.pass_(7)
    assert 6006 <= watched.core.witnessing.age_s <= 6008


def test_a_clock_set_back_takes_no_age_away(watched, witness, ask, monkeypatch):
    witness(ANN, BEN)
    watched.clock.pass_(1000)
    ask("AuditStatus")  # logged, as each start of the daemon is
    watched.restart()
    before = watched.core.witnessing.age_s
    now = watched.clock.wall()
    monkeypatch.setattr(watched.clock, "wall", lambda: now - 10 * DAY_S)
    watched.restart()
    assert watched.core.witnessing.age_s >= before - 1  # entries tell microseconds, ages whole seconds
    watched.clock.pass_(30)
    assert watched.core.witnessing.age_s >= before + 29


def test_an_answer_to_a_challenge_of_an_earlier_life_counts_from_then(watched, ask):
    shown = ask("Challenge", witness="ann.example")
    ask("Accept", answer=show(watched, ANN, shown))
    again = ask("Challenge", witness="ben.example", again=True)
    watched.clock.pass_(300)
    watched.restart()
    watched.clock.pass_(20)
    ask("Accept", answer=show(watched, BEN, again))
    assert 318 <= watched.core.witnessing.age_s <= 322


def test_a_monotonic_clock_that_steps_back_makes_no_age_negative(watched, monkeypatch):
    monkeypatch.setattr(watched.core.witnessing, "_monotonic", lambda: -1e6)
    assert watched.core.witnessing.age_s >= 0


@given(st.lists(st.floats(-1e9, 1e9), max_size=20))
def test_steps_forward_are_never_negative_and_never_less_than_the_way(times):
    assert forward_s(times) >= 0
    if times:
        assert forward_s(times) >= times[-1] - times[0] - 1e-3


def test_after_the_limit_nothing_is_released_until_witnessed(watched, witness):
    weights = watched.add("weights", "tiny", b"the weights")
    config = watched.add("config", "tiny", b"[model]")
    watched.clock.pass_(7 * DAY_S + 1)
    told = r"witnessing-is-overdue \(log entry [0-9]+\); have the log witnessed, `appliance audit challenge`"
    with watched.refused(PolicyRefused, told, ["deny use"]):
        watched.read(weights)
    with watched.refused(PolicyRefused, "witnessing-is-overdue", ["deny train"]):
        watched.ask("train", config)
    with watched.refused(PolicyRefused, "witnessing-is-overdue", ["deny sample"]):
        watched.ask("sample", weights)
    witness(ANN, BEN)
    assert watched.read(weights) == b"the weights"


def test_after_too_many_entries_nothing_is_released(watched, monkeypatch):
    weights = watched.add("weights", "tiny", b"the weights")
    monkeypatch.setattr(watched.core.witnessing, "size", watched.core.log.size - 10_001)
    with watched.refused(PolicyRefused, "witnessing-is-overdue", ["deny use"]):
        watched.read(weights)


def test_without_witnesses_there_is_no_limit_but_a_warning(sim):
    weights = sim.add("weights", "tiny", b"the weights")
    sim.clock.pass_(400 * DAY_S)
    assert sim.read(weights) == b"the weights"
    (entry,) = [entry for entry in sim.entries() if entry.action == "use"]
    facts = {name: entry.context[name] for name in ("witnesses", "unwitnessed_age_s", "witnessed_once")}
    assert facts == {"witnesses": 0, "unwitnessed_age_s": 0, "witnessed_once": False}
    assert any(text.startswith("no witness is enrolled") for text in sim.core.warnings())


def test_every_decision_states_how_long_the_log_is_unwitnessed(watched, witness):
    witness(ANN, BEN)
    watched.clock.pass_(60)
    weights = watched.add("weights", "tiny", b"the weights")
    index = watched.use(weights).index
    context = watched.entries(index)[0].context
    assert context["witnesses"] == 3
    assert context["unwitnessed_entries"] == index - watched.core.witnessing.size
    assert context["unwitnessed_age_s"] == 60
    assert context["witnessed_once"] is True
    assert context["break_glass"] is False


# ---- broken glass ----------------------------------------------------------------------------------------


def start(sim, action, what, job):
    resource = NamedObject(what.kind, what.name)
    return sim.core.gate.request(sim.operator, action, resource, job=job)


def test_broken_glass_serves_one_job_and_says_so(watched, ask):
    weights = watched.add("weights", "tiny", b"the weights")
    watched.clock.pass_(8 * DAY_S)
    request = watched.approved("break-glass")
    size = watched.core.log.size
    ask("BreakGlass", request=request)
    entry, used = watched.entries(size)
    assert (entry.action, entry.context["reason"]) == ("break-glass", "for carol")
    assert entry.context["approvers"] == ["alice", "bob"]
    assert used.kind == "request-used"
    assert ask("AuditStatus")["break_glass"] is True
    assert any(text.startswith("glass is broken") for text in watched.core.warnings())
    with watched.refused(PolicyRefused, "witnessing-is-overdue", ["deny use"]):
        watched.use(weights, job="sample-1", purpose="sample")
    allowed = start(watched, "sample", weights, "sample-1")
    assert watched.entries(allowed.committed.index)[0].context["break_glass"] is True
    assert ask("AuditStatus")["break_glass"] is False
    assert watched.open(watched.use(weights, job="sample-1", purpose="sample")) == b"the weights"
    with watched.refused(PolicyRefused, "witnessing-is-overdue", ["deny use"]):
        watched.use(weights, job="sample-2", purpose="sample")
    for job in ("sample-2", "sample-1"):
        with watched.refused(PolicyRefused, "witnessing-is-overdue", ["deny sample"]):
            start(watched, "sample", weights, job)


def test_a_start_that_is_refused_for_another_reason_does_not_take_the_leave(watched, ask):
    watched.add("weights", "tiny", b"the weights")
    watched.clock.pass_(8 * DAY_S)
    ask("BreakGlass", request=watched.approved("break-glass"))
    with pytest.raises(UnknownObject):
        watched.core.gate.request(watched.operator, "sample", NamedObject("weights", "none"), job="sample-1")
    assert watched.core.allowance.is_open


def test_broken_glass_is_gone_with_the_daemon(watched, ask):
    ask("BreakGlass", request=watched.approved("break-glass"))
    watched.restart()
    assert not watched.core.allowance.is_open


def test_one_person_breaks_no_glass(watched, ask):
    request = watched.request("break-glass")
    for officers, found in (((), 0), (("alice",), 1)):
        watched.approve(request, *officers)
        with watched.refused(PolicyRefused, f"approvals:{found}-of-2", ["deny break-glass"]):
            ask("BreakGlass", request=request)
    assert not watched.core.allowance.is_open


def test_leave_for_one_job_is_given_once(watched, ask):
    request = watched.approved("break-glass")
    ask("BreakGlass", request=request)
    with watched.refused(ReplayRefused, "was used already: each approval counts once"):
        ask("BreakGlass", request=request)


def test_a_job_started_again_without_leave_loses_it():
    leave = Allowance()
    leave.give()
    leave.give()
    leave.spend("train", "train-1")
    leave.spend("use", "train-1")
    assert leave.lifts("use", "train-1")
    assert not leave.lifts("use", "")
    assert not leave.lifts("train", "train-1")
    leave.spend("sample", "sample-1")
    assert leave.lifts("use", "train-1"), "another job's start is no business of this one's"
    leave.spend("train", "train-1")
    assert not leave.lifts("use", "train-1")


# ---- salts -----------------------------------------------------------------------------------------------


@pytest.fixture
def officer(watched, monkeypatch):
    """Somebody enrolled as officer, under a uid of this host."""
    people = {**watched.core.facts.people, "4242": "alice"}
    monkeypatch.setattr(type(watched.core.facts), "person_of", lambda _, uid: people.get(str(uid)))
    return 4242


def test_a_salt_opens_its_entry_and_no_other(watched, ask, officer):
    outcome = watched.core.gate.outcome
    (one, two) = (outcome("note", "p", "a", "r", {}, {"steps": 300}) for _ in range(2))
    said = ask("Salt", uid=officer, index=one.index)["salt"]
    expected = watched.entries(one.index)[0].context["steps"]["commitment"]
    other = watched.entries(two.index)[0].context["steps"]["commitment"]
    assert commitment_under(bytes.fromhex(said), "steps", 300) == expected != other
    entry = watched.entries(two.index + 1)[0]
    assert (entry.principal, entry.action, entry.context["entry"]) == ("Person:alice", "disclose", one.index)


def test_an_operator_gets_no_salt(watched, ask):
    with watched.refused(PolicyRefused, "operator may not disclose", ["deny disclose"]):
        ask("Salt", index=0)


def test_there_is_no_salt_of_an_entry_that_is_not_there_or_while_sealed(watched, ask, officer):
    with watched.refused(UnknownObject, "expected an entry of 0 to"):
        ask("Salt", uid=officer, index=watched.core.log.size)
    watched.seal()
    with watched.refused(SealedError, "invariant:sealed", ["deny disclose"]):
        ask("Salt", uid=officer, index=0)
