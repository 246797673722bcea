"""A witness with real files: what it stored before it answered, and what it will not believe."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from hashlib import sha256

import pytest

from audit import witness_state
from audit.__main__ import main
from audit.checkpoint import TreeHead
from audit.cosignature import Cosigner, verify_cosignatures
from audit.errors import AlreadyExists, BadSignature, CouldNotCheck, Invalid, LogBusy, Malformed
from audit.note import parse_note, sign_note
from audit.witness import Challenge, format_challenge
from audit.witness_state import answer, create_witness, read_witness_key
from tests.audit.test_witness import LOG, NOW, challenge, head

PYTHON = [sys.executable, "-I", "-m", "audit", "witness"]


@pytest.fixture
def state(tmp_path):
    create_witness(tmp_path / "state", "witness.example/w", bytes([7]) * 32)
    (tmp_path / "log.vkey").write_text(f"{LOG.vkey.text}\n")
    return tmp_path / "state"


@pytest.fixture
def key(state):
    return read_witness_key(state / "witness.example_w.key")


@pytest.fixture
def show(state, key):
    """Show a challenge to the witness, as a value."""

    def show(shown, keys=(LOG.vkey,)):
        return answer(format_challenge(shown), state, list(keys), key, NOW)

    return show


@pytest.fixture
def run(state, tmp_path):
    """Show a challenge to the witness as a program; returns its exit code and what it wrote."""

    def run(shown, *more, log_key=tmp_path / "log.vkey"):
        (tmp_path / "challenge").write_bytes(format_challenge(shown))
        options = ["--state", state, "--log-key", log_key, "--key", state / "witness.example_w.key"]
        command = [*PYTHON, *options, *more, tmp_path / "challenge"]
        done = subprocess.run([str(part) for part in command], capture_output=True, check=False)
        return done.returncode, done.stdout, done.stderr.decode()

    return run


def kept(state):
    return (state / "logs" / sha256(LOG.name.encode()).hexdigest()).read_bytes()


def test_an_answer_is_one_line_that_verifies_over_the_head_shown(show, key, state):
    line = show(challenge(0, 9))
    assert line.count(b"\n") == 1
    (found,) = verify_cosignatures(challenge(0, 9).note + line, [key.vkey])
    assert (found.witness.name, found.seconds) == ("witness.example/w", NOW)
    assert show(challenge(9, 12))
    assert TreeHead.parse(parse_note(kept(state))[0]) == head(12)


def test_the_head_is_stored_and_synced_before_anything_is_answered(show, state, monkeypatch):
    order = []
    folder = witness_state.Folder
    for name in ("replace", "sync"):
        real = getattr(folder, name)
        monkeypatch.setattr(
            folder, name, lambda *given, real=real, name=name: (order.append(name), real(*given))[1]
        )
    order.append(show(challenge(0, 9))[:3])
    assert order == ["replace", "sync", "\u2014".encode()]

    def fail(*_):
        raise OSError(5, "as a disk that fails")

    monkeypatch.setattr(folder, "sync", fail)
    with pytest.raises(OSError, match="as a disk"):
        show(challenge(9, 12))


def test_a_refused_challenge_leaves_the_state_as_it_was(show, state):
    show(challenge(0, 9))
    before = kept(state)
    with pytest.raises(Invalid):
        show(challenge(9, 12, b"b"))
    assert kept(state) == before


def test_two_logs_are_remembered_apart(show, state):
    other = type(LOG)("log.example/two", bytes([5]) * 32)
    second = TreeHead(other.name, 4, head(4).root)
    show(challenge(0, 9))
    shown = Challenge(0, (), sign_note(second.text, [other]))
    assert show(shown, keys=[LOG.vkey, other.vkey])
    assert len(list((state / "logs").iterdir())) == 2
    assert show(challenge(9, 12), keys=[other.vkey, LOG.vkey])


def test_the_state_keeps_the_logs_signature_as_evidence_and_no_strangers(show, state, key):
    stranger = type(LOG)("stranger.example", bytes([4]) * 32)
    many = sign_note(head(9).text, [LOG, LOG, *[stranger] * 60])
    show(Challenge(0, (), many))
    assert [line.name for line in parse_note(kept(state))[1]] == [LOG.name, key.vkey.name]


def test_a_state_that_this_witness_did_not_sign_is_not_believed(show, state, key):
    show(challenge(0, 9))
    path = state / "logs" / sha256(LOG.name.encode()).hexdigest()
    path.write_bytes(challenge(0, 3).note)
    with pytest.raises(BadSignature, match="this is no state of this witness"):
        show(challenge(3, 12))
    damaged = bytearray(path.read_bytes())
    damaged[20] ^= 1
    path.write_bytes(damaged)
    with pytest.raises((BadSignature, Malformed), match="this is no state of this witness"):
        show(challenge(3, 12))
    assert key.vkey.name not in path.read_text()


def test_a_second_run_at_the_same_time_is_refused(show, state):
    with witness_state._locked(state), pytest.raises(LogBusy, match="another run of this witness"):
        show(challenge(0, 9))
    assert show(challenge(0, 9))


def test_without_a_folder_there_is_no_witness(tmp_path, key):
    with pytest.raises(CouldNotCheck, match="make one with --init NAME"):
        answer(format_challenge(challenge(0, 9)), tmp_path / "none", [LOG.vkey], key, NOW)


def test_a_key_is_secret_from_the_first_byte_and_never_overwritten(state, key):
    secret = state / "witness.example_w.key"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert (state / "witness.example_w.vkey").read_text() == f"{key.vkey.text}\n"
    before = secret.read_bytes()
    with pytest.raises(AlreadyExists, match="a key is never overwritten"):
        create_witness(state, "witness.example/w", bytes(32))
    assert secret.read_bytes() == before


def test_a_key_that_others_may_read_is_refused(state):
    secret = state / "witness.example_w.key"
    secret.chmod(0o640)
    with pytest.raises(Invalid, match="expected mode 0600, found 0640"):
        read_witness_key(secret)


# ---- as a program, in a process of its own -----------------------------------------------------------------


def test_the_program_makes_keys_of_its_own_randomness(tmp_path):
    for name in ("one", "two"):
        done = subprocess.run(
            [*PYTHON, "--init", "w", "--state", tmp_path / name], capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[1].endswith("w.vkey, for `appliance init --witness`")
    seeds = {Cosigner.parse((tmp_path / name / "w.key").read_text()).text for name in ("one", "two")}
    assert len(seeds) == 2


def test_all_six_outcomes_as_the_program_tells_them(run, state, tmp_path):
    stranger = tmp_path / "stranger.vkey"
    stranger.write_text(f"{type(LOG)('log.example/other', bytes(32)).vkey.text}\n")
    forger = type(LOG)(LOG.name, bytes(32))
    assert run(challenge(0, 9))[0] == 0
    before = kept(state)
    for shown, log_key, code, told in [
        (challenge(9, 12), stranger, 11, "expected a log of log.example/other"),
        (challenge(9, 12, signer=forger), tmp_path / "log.vkey", 7, "expected a signature by"),
        (Challenge(9, (), challenge(0, 5).note), tmp_path / "log.vkey", 12, "an old size of at most 5"),
        (challenge(5, 12), tmp_path / "log.vkey", 9, "old size 5 is not my latest (mine is 9)"),
        (challenge(9, 12, b"b"), tmp_path / "log.vkey", 6, "consistency proof"),
    ]:
        found, out, said = run(shown, log_key=log_key)
        assert (found, out) == (code, b"")
        assert told in said
        assert kept(state) == before
    assert run(challenge(9, 12))[0] == 0


def test_the_answer_goes_to_a_new_file_or_nothing_is_judged(run, state, key, tmp_path):
    out = tmp_path / "answer"
    code, said, _ = run(challenge(0, 9), "--out", out)
    assert (code, said) == (0, f"{out}: cosigned a head of log.example/test\n".encode())
    assert verify_cosignatures(challenge(0, 9).note + out.read_bytes(), [key.vkey])
    before, answered = kept(state), out.read_bytes()
    code, _, said = run(challenge(9, 12), "--out", out)
    assert code == 21
    assert "expected no file of this name" in said
    assert (kept(state), out.read_bytes()) == (before, answered)


def test_the_program_in_this_process(state, tmp_path, capfdbinary):
    (tmp_path / "challenge").write_bytes(format_challenge(challenge(0, 9)))
    secret = state / "witness.example_w.key"
    given = ["witness", "--state", state, "--log-key", tmp_path / "log.vkey", "--key", secret]
    assert main([str(part) for part in [*given, tmp_path / "challenge"]]) == 0
    assert capfdbinary.readouterr().out.startswith("\u2014 witness.example/w ".encode())
    (tmp_path / "challenge").write_bytes(format_challenge(challenge(9, 12)))
    assert main([str(part) for part in [*given, "--out", tmp_path / "a", tmp_path / "challenge"]]) == 0
    assert main([str(part) for part in [*given, "--out", tmp_path / "a", tmp_path / "challenge"]]) == 21
    assert main(["witness", "--state", str(tmp_path / "new"), "--init", "w"]) == 0
    assert os.listdir(tmp_path / "new")  # noqa: PTH208  names are enough


@pytest.mark.parametrize(
    "given", [["--init", "w", "--key", "k"], ["challenge"], ["--key", "k", "c"], ["--log-key", "l", "c"]]
)
def test_options_that_do_not_go_together_are_usage_errors(given, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["witness", "--state", str(tmp_path / "s"), *given])
    assert ended.value.code == 2
    assert "--init NAME" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()
