"""The auditor's program is handed rubbish: each kind is its own class of error, soon, in little memory.

The real program, in a process that may have 320 MiB of addresses and 10 seconds of the processor. *Malformed*
(12) and *invalid* (6, 7) accuse; *could not check* (13) does not.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from audit.entry import Decision, Record
from audit.log import Log
from audit.note import NoteSigner

ROOT = Path(__file__).parents[2]
SIGNER = NoteSigner("log.example/one", bytes(range(32)))
OTHER = NoteSigner("log.example/other", bytes(range(1, 33)))
HUGE = 2 << 30
SECONDS = 10
LIMITED = f'ulimit -v {320 << 10} && ulimit -t {SECONDS} && exec "$@"'
MALFORMED, INVALID, SIGNATURE, UNCHECKED = 12, 6, 7, 13


def record(number):
    decision = Decision(True, ("rule",), "ab" * 32, ())
    return Record("decision", "Person:ada", "use", f"weights/{number}", {"number": number}, decision)


def make(home, signer, count):
    log = Log.create(home, signer, lambda: 1_750_000_000.0)
    done = log.append([record(number) for number in range(count)])[-1]
    log.close()
    (home.parent / f"{home.name}.vkey").write_text(signer.vkey.text + "\n")
    (home.parent / f"{home.name}.tlog-proof").write_bytes(done.receipt)
    (home.parent / f"{home.name}.entry").write_bytes(done.entry)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    make(folder / "one", SIGNER, 7)
    make(folder / "other", OTHER, 5)
    return folder


@pytest.fixture
def stick(made, tmp_path):
    """What an auditor was handed: two logs, the key and one receipt of each."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def run(*arguments):
    began = time.monotonic()
    done = subprocess.run(
        ["sh", "-c", LIMITED, "sh", sys.executable, "-m", "audit", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        timeout=60,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stderr, time.monotonic() - began


def verify(stick, *more):
    return run("verify", stick / "one", "--vkey", stick / "one.vkey", *more)


def demand(outcome, status, said):
    returned, stderr, seconds = outcome
    verdict = "COULD NOT CHECK  " if status == UNCHECKED else "FAILED  "
    assert (returned, stderr[: len(verdict)]) == (status, verdict), stderr
    assert said in stderr
    assert len(stderr) < 2000
    assert seconds < SECONDS


def huge(path):
    """A file of 2 GB that takes no room."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(HUGE)


def test_the_limits_hold_and_the_stick_as_it_is_verifies_within_them(stick):
    greedy = [sys.executable, "-c", "bytearray(400 << 20)"]
    assert (
        subprocess.run(["sh", "-c", LIMITED, "sh", *greedy], capture_output=True, check=False).returncode == 1
    )
    assert verify(stick, "--receipt", stick / "one.tlog-proof")[:2] == (0, "")


# ---- folders ---------------------------------------------------------------------------------------


def test_an_empty_folder_could_not_be_checked(stick):
    shutil.rmtree(stick / "one")
    (stick / "one").mkdir()
    demand(verify(stick), UNCHECKED, "checkpoint: expected a file, found none")


def test_no_folder_could_not_be_checked(stick):
    shutil.rmtree(stick / "one")
    demand(verify(stick), UNCHECKED, "one: expected the folder of a log: No such file or directory")


def test_a_file_instead_of_a_folder_could_not_be_checked(stick):
    shutil.rmtree(stick / "one")
    (stick / "one").write_text("not a folder")
    demand(verify(stick), UNCHECKED, "one: expected the folder of a log: Not a directory")


def test_garbage_instead_of_a_head_is_malformed(stick):
    (stick / "one/checkpoint").write_bytes(bytes(range(256)) * 8)
    demand(verify(stick), MALFORMED, "signed note: expected UTF-8")


def test_garbage_instead_of_entries_is_malformed(stick):
    (stick / "one/tile/entries/000.p/7").write_bytes(os.urandom(4096))
    demand(verify(stick), MALFORMED, "tile/entries/000.p/7: ")


def test_a_folder_of_garbage_is_invalid(stick):
    shutil.rmtree(stick / "one")
    (stick / "one").mkdir()
    (stick / "one/holiday.jpg").write_bytes(b"\xff\xd8")
    demand(verify(stick), INVALID, "holiday.jpg: unexpected file in the folder of a log")


def test_a_log_of_another_origin_is_not_signed_by_this_key(stick):
    demand(run("verify", stick / "other", "--vkey", stick / "one.vkey"), SIGNATURE, "right key file?")


def test_a_log_of_another_origin_than_the_one_asked_for_is_invalid(stick):
    said = "expected the log log.example/two, found log.example/one"
    demand(verify(stick, "--origin", "log.example/two"), INVALID, said)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("checkpoint", "checkpoint: expected at most 131072 bytes, found more"),
        ("tile/entries/000.p/7", "tile/entries/000.p/7: expected at most"),
        ("tile/0/000.p/7", "tile/0/000.p/7: expected at most"),
    ],
)
def test_a_file_of_2_gb_is_malformed_and_not_read(stick, name, said):
    huge(stick / "one" / name)
    demand(verify(stick), MALFORMED, said)


@pytest.mark.parametrize("name", ["wal", "reserve", "lock", "incoming"])
def test_what_is_the_logs_own_may_be_2_gb_and_is_not_read(stick, name):
    huge(stick / "one" / name)
    assert verify(stick)[:2] == (0, "")


def test_an_endless_file_could_not_be_checked(stick):
    (stick / "one/checkpoint").unlink()
    (stick / "one/checkpoint").symlink_to("/dev/zero")
    demand(verify(stick), UNCHECKED, "checkpoint: cannot be read")


def test_a_pipe_that_nobody_writes_to_is_malformed(stick):
    (stick / "one/checkpoint").unlink()
    os.mkfifo(stick / "one/checkpoint")
    demand(verify(stick), MALFORMED, "checkpoint: expected a plain file")


# ---- keys ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"\xff" * 90, b"log.example/one+00000000+AAAA\n", b"a+b\n" * 900])
def test_garbage_instead_of_a_key_is_malformed(stick, data):
    (stick / "one.vkey").write_bytes(data)
    demand(verify(stick), MALFORMED, "verifier key")


def test_a_key_of_2_gb_is_malformed_and_not_read(stick):
    huge(stick / "one.vkey")
    demand(verify(stick), MALFORMED, "one.vkey: expected at most 4096 bytes, found more")


# ---- receipts --------------------------------------------------------------------------------------


def test_a_receipt_for_another_log_is_not_signed_by_this_key(stick):
    outcome = verify(stick, "--receipt", stick / "other.tlog-proof")
    demand(outcome, SIGNATURE, "other.tlog-proof: expected a signature by log.example/one")


def test_a_receipt_for_another_entry_is_invalid(stick):
    (stick / "one.entry").write_bytes((stick / "other.entry").read_bytes())
    demand(verify(stick, "--receipt", stick / "one.tlog-proof"), INVALID, "inclusion proof: expected root")


def test_a_receipt_without_its_entry_could_not_be_checked(stick):
    (stick / "one.entry").unlink()
    demand(verify(stick, "--receipt", stick / "one.tlog-proof"), UNCHECKED, "one.entry: expected a file")


def with_proof_lines(receipt, count):
    head, note = receipt.split(b"\n\n", 1)
    return head + (b"\n" + b"A" * 43 + b"=") * count + b"\n\n" + note


@pytest.mark.parametrize(
    ("count", "said"),
    [(1_000_000, "one.tlog-proof: expected at most"), (64, "expected at most 63 proof lines, found")],
)
def test_a_proof_of_too_many_lines_is_malformed(stick, count, said):
    proof = stick / "one.tlog-proof"
    proof.write_bytes(with_proof_lines(proof.read_bytes(), count))
    demand(verify(stick, "--receipt", proof), MALFORMED, said)


@pytest.mark.parametrize("name", ["one.tlog-proof", "one.entry"])
def test_a_receipt_or_entry_of_2_gb_is_malformed_and_not_read(stick, name):
    huge(stick / name)
    demand(verify(stick, "--receipt", stick / "one.tlog-proof"), MALFORMED, f"{name}: expected at most")


def test_a_receipt_from_a_longer_log_under_this_key_is_invalid(stick):
    """It verifies by itself: it is the log beside it that is not the log it came from."""
    make(stick / "longer", SIGNER, 9)
    said = "receipt: expected a head of at most 7 entries, found 9"
    demand(verify(stick, "--receipt", stick / "longer.tlog-proof"), INVALID, said)


# ---- the other commands ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "rest"),
    [("show", []), ("prove", ["0", "--out", "x"]), ("report", ["--out", "x.html"])],
    ids=["show", "prove", "report"],
)
@pytest.mark.parametrize(
    ("tamper", "status"),
    [("empty", UNCHECKED), ("garbage", MALFORMED), ("huge", MALFORMED), ("absent", UNCHECKED)],
)
def test_every_command_says_the_same_of_the_same_rubbish(stick, command, rest, tamper, status):
    home = stick / "one"
    if tamper in {"empty", "absent"}:
        shutil.rmtree(home)
    if tamper == "empty":
        home.mkdir()
    if tamper in {"garbage", "huge"}:
        for name in ("checkpoint", "tile/entries/000.p/7"):
            huge(home / name) if tamper == "huge" else (home / name).write_bytes(b"\xff\x00" * 99)
    key = [] if command == "show" else ["--vkey", stick / "one.vkey"]
    rest = [stick / argument if argument.startswith("x") else argument for argument in rest]
    if (command, tamper) == ("show", "empty"):
        assert run(command, home)[:2] == (0, "")  # it lists what is there
    else:
        said = "entries/000.p/7: " if (command, tamper) == ("show", "garbage") else f"{home}"
        demand(run(command, home, *rest, *key), status, said)
    assert not list(stick.glob("x*"))
