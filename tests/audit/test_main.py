from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from audit.__main__ import main
from audit.entry import parse_entry
from audit.show import show_line

ROOT = Path(__file__).parents[2]


@pytest.fixture
def stick(finished, tmp_path, signer):
    """What an auditor was handed: the folder, the key, and receipts with their entries."""
    shutil.copytree(finished[0], tmp_path / "log")
    (tmp_path / "log.vkey").write_text(signer.vkey.text + "\n")
    for number, (receipt, entry) in enumerate(finished[1]):
        (tmp_path / f"r{number}.tlog-proof").write_bytes(receipt)
        (tmp_path / f"r{number}.entry").write_bytes(entry)
    return tmp_path


@pytest.fixture
def verify(stick):
    def run(*more):
        return main(["verify", str(stick / "log"), "--vkey", str(stick / "log.vkey"), *map(str, more)])

    return run


def test_a_sound_log_is_said_to_be_so_in_four_lines(verify, stick, capsys):
    assert verify("--receipt", *sorted(stick.glob("*.tlog-proof"))) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("OK  log.example/test: 300 entries, root ")
    assert "200 allowed, 100 denied; 300 decision" in lines[1]
    assert "5 files and 7 partials equal the entries" in lines[2]
    assert "signed by log.example/test+" in lines[3]
    assert "6 receipts lie on this history" in lines[3]
    assert err == ""


def test_the_same_in_json(verify, capsys):
    assert verify("--json", "--origin", "log.example/test") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["ok"], facts["size"], facts["kinds"]) == (True, 300, {"decision": 300})


def test_the_program_runs_on_its_own(stick):
    done = subprocess.run(
        [sys.executable, "-m", "audit", "verify", stick / "log", "--vkey", stick / "log.vkey"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("OK  ")


def tamper(path, position=50):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_each_class_of_failure_has_its_own_exit_code_and_words(verify, stick, stranger, capsys):
    def outcome(*more):
        code = verify(*more)
        return code, capsys.readouterr().err.strip()

    assert outcome("--origin", "other") == (
        6,
        f"FAILED  {stick}/log: expected the log other, found log.example/test",
    )
    code, said = outcome("--receipt", stick / "none.tlog-proof")
    assert (code, said) == (
        13,
        f"COULD NOT CHECK  {stick}/none.entry: expected a file, found none; is the copy of the log complete?",
    )
    code, said = outcome("--receipt", stick / "r0.entry")
    assert code == 13
    assert "expected a receipt named NAME.tlog-proof" in said

    (stick / "r1.entry").write_bytes((stick / "r0.entry").read_bytes())
    code, said = outcome("--receipt", stick / "r0.tlog-proof", stick / "r1.tlog-proof")
    assert code == 6
    assert said.startswith(f"FAILED  {stick}/r1.tlog-proof: inclusion proof: expected root")

    tamper(stick / "log/tile/entries/000")
    assert outcome()[0] == 12
    (stick / "log.vkey").write_text(stranger.vkey.text)
    code, said = outcome()
    assert code == 7
    assert "is this the right key file?" in said
    (stick / "log.vkey").write_bytes(b"\xff\x00")
    assert outcome()[0] == 12
    (stick / "log.vkey").unlink()
    assert outcome()[0] == 13


def test_a_failure_in_json_says_so_too(verify, capsys):
    assert verify("--json", "--origin", "other") == 6
    facts = json.loads(capsys.readouterr().out)
    assert (facts["ok"], facts["code"]) == (False, "integrity")
    assert "expected the log other" in facts["message"]


def test_a_hostile_file_name_does_not_steer_the_terminal(verify, stick, capsys):
    (stick / "log/tile/\x1b[2J\u202e").write_text("")
    assert verify() == 6
    said = capsys.readouterr().err
    assert "\\x1b[2J\\u202e" in said
    assert said.strip().isprintable()


def test_an_error_of_the_disk_is_could_not_check(verify, monkeypatch, capsys):
    def fail(*_, **__):
        raise OSError(5, "Input/output error", "the stick")

    monkeypatch.setattr("audit.__main__.verify_log", fail)
    assert verify() == 13
    assert capsys.readouterr().err == "COULD NOT CHECK  the stick: Input/output error\n"


@pytest.mark.parametrize(
    "arguments", [[], ["verify"], ["verify", "x"], ["show", "x", "--start", "-1"], ["what"]]
)
def test_wrong_usage_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "usage: python -m audit" in capsys.readouterr().err


def test_the_listing_shows_one_line_an_entry(stick, capsys):
    assert main(["show", str(stick / "log"), "--start", "254"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 46
    assert lines[0].split() == [
        "254",
        "2025-06-15T15:06:40.000000Z",
        "allow",
        "decision",
        "person:ada",
        "read",
        "weights/254",
    ]
    assert " DENY " in lines[1]
    assert main(["show", str(stick / "log"), "--start", "600"]) == 0
    assert capsys.readouterr().out == ""


def test_the_listing_in_json_is_the_entries_as_written(stick, finished, capsys):
    (stick / "log/tile/entries/001.p/stray").write_text("")
    assert main(["show", str(stick / "log"), "--json", "--start", "299"]) == 0
    assert capsys.readouterr().out.encode() == finished[1][-1][1] + b"\n"


def test_the_listing_of_a_fact_without_decision_shows_a_dash():
    line = (
        b'{"action":"a","context":{},"decision":null,"kind":"k","principal":"\\u001b[2J","resource":"r","seq":0,'
        b'"time":"2026-01-02T03:04:05.000000Z","v":1}'
    )
    assert show_line(parse_entry(line)) == "     0  2026-01-02T03:04:05.000000Z  -      k  \\u001b[2J  a  r"


def test_a_reader_that_has_seen_enough_is_no_error(stick):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-u", "-m", "audit", "show", stick / "log"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, cwd=ROOT, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_output_into_a_closed_pipe_goes_nowhere_more(verify, monkeypatch):
    def fail(*_, **__):
        raise BrokenPipeError

    moved = []
    with monkeypatch.context() as patch:  # ends before pytest moves descriptors of its own
        patch.setattr("audit.__main__.verify_log", fail)
        patch.setattr(os, "dup2", lambda fd, over: moved.append(over) or os.close(fd))
        patch.setattr(sys, "stdout", sys.__stdout__)
        assert verify() == 0
    assert moved == [1]


def test_the_file_is_a_program(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["audit", "verify", "/none", "--vkey", "/none/key"])
    with pytest.raises(SystemExit, match="13"):
        runpy.run_path(str(ROOT / "audit" / "__main__.py"), run_name="__main__")
