from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from audit.__main__ import _parser, main
from audit.entry import entry_salt
from audit.log import Log
from tests.audit.story import (
    BEGAN_S,
    CONFIG,
    SECRET,
    WEIGHTS,
    day,
    decision,
    entries,
    listing,
    listing_text,
    opened,
    use,
)

HASH = "77" * 32


@pytest.fixture
def stick(tmp_path, signer):
    """What an auditor was handed: a day's log, its key, the vault's list, a salt and the secret."""
    return hand_over(tmp_path, signer, day())


def hand_over(folder, signer, records):
    minutes = iter(range(1000))
    log = Log.create(folder / "log", signer, lambda: BEGAN_S + 60 * next(minutes), commit_secret=SECRET)
    for record in records:
        log.append([record])
    log.close()
    (folder / "key").write_text(signer.vkey.text + "\n")
    (folder / "objects.json").write_text(listing_text(entries(records)))
    (folder / "salt").write_text(entry_salt(SECRET, 20).hex() + "\n")
    (folder / "secret").write_text(SECRET.hex())
    return folder


@pytest.fixture
def run(stick, capsys):
    """Run a command on the stick; returns exit code, output and complaints."""

    def command(name, *more):
        keyed = () if name == "show" else ("--vkey", str(stick / "key"))
        code = main([name, str(stick / "log"), *map(str, more), *keyed])
        said = capsys.readouterr()
        return code, said.out, said.err

    return command


def test_show_lists_what_was_asked_for(run):
    code, out, err = run("show", "--principal", "mallory")
    assert (code, err) == (0, "")
    assert (
        out
        == f"    22  2025-06-15T15:28:40.000000Z  DENY   decision  Person:mallory  read  Object:{WEIGHTS}\n"
    )
    assert [line.split()[0] for line in run("show", "--denied")[1].splitlines()] == ["22", "26"]
    assert [
        line.split()[0]
        for line in run("show", "--object", "config/tiny", "--kind", "decision")[1].splitlines()
    ] == [
        "7",
        "13",
        "15",
    ]
    assert "(config/tiny)" in run("show", "--object", CONFIG, "--action", "use")[1]
    in_time = run("show", "--since", "2025-06-15T15:39Z", "--until", "2025-06-15T15:39")[1].splitlines()
    assert [line.split()[0] for line in in_time] == ["33"]


def test_show_prints_the_entries_as_they_were_written(run, stick, signer):
    code, out, _ = run("show", "--allowed", "--json", "--action", "export")
    assert code == 0
    (entry,) = [json.loads(line) for line in out.splitlines()]
    assert (entry["seq"], entry["decision"]["allow"]) == (28, True)
    assert json.dumps(entry, sort_keys=True, separators=(",", ":")) + "\n" == out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "x", "--since", "yesterday"], "expected a UTC time such as 2026-01-02"),
        (["show", "x", "--allowed", "--denied"], "not allowed with argument"),
        (["prove", "x", "-1", "--vkey", "k", "--out", "o"], "expected an entry's number, found '-1'"),
        (["prove", "x", "one", "--vkey", "k", "--out", "o"], "expected an entry's number, found 'one'"),
        (["open", "x", "1", "a=b", "--vkey", "k"], "one of the arguments --salt --secret is required"),
        (["open", "x", "1", "--vkey", "k", "--salt", "s", "name"], "expected NAME=VALUE, found 'name'"),
        (["account", "x", "--vkey", "k"], "required: --objects"),
        (["report", "x", "--vkey", "k"], "required: --out"),
    ],
)
def test_wrong_usage_is_said_with_what_was_expected(arguments, said, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert said in capsys.readouterr().err


def test_a_receipt_made_from_the_folder_verifies(run, stick):
    code, out, _ = run("prove", 28, "--out", stick / "export")
    assert code == 0
    assert out.splitlines()[0].endswith(f"Person:operator  export  Object:{WEIGHTS}  (weights/tiny)")
    assert out.splitlines()[1] == f"{stick}/export.tlog-proof, {stick}/export.entry"
    assert run("verify", "--receipt", stick / "export.tlog-proof")[0] == 0


def test_a_receipt_in_json_names_its_files(run, stick):
    code, out, _ = run("prove", 0, "--out", stick / "genesis", "--json")
    assert code == 0
    assert json.loads(out) == {
        "ok": True,
        "index": 0,
        "proof": f"{stick}/genesis.tlog-proof",
        "entry": f"{stick}/genesis.entry",
    }


def test_evidence_is_not_overwritten(run, stick):
    (stick / "export.entry").write_text("kept")
    code, _, err = run("prove", 28, "--out", stick / "export")
    assert code == 21
    assert "export.entry: expected no file of this name; choose another, or remove it" in err
    assert (stick / "export.entry").read_text() == "kept"
    assert not (stick / "export.tlog-proof").exists()
    code, _, err = run("prove", 28, "--out", stick / "none" / "export")
    assert code == 13
    assert "export.entry: cannot be written: No such file or directory" in err


@pytest.mark.parametrize("by", ["salt", "secret"])
def test_a_commitment_opens_with_the_salt_or_the_secret(run, stick, by):
    code, out, err = run("open", 20, f"--{by}", stick / by, "flops=1234")
    assert (code, err) == (0, "")
    assert out.splitlines()[1:] == ["    flops: was 1234", "    plaintext_sha256: nothing claimed"]


def test_a_commitment_opens_in_json(run, stick):
    code, out, _ = run("open", 20, "--salt", stick / "salt", f"plaintext_sha256={HASH}", "--json")
    assert code == 0
    assert json.loads(out) == {
        "ok": True,
        "index": 20,
        "opened": {"plaintext_sha256": HASH},
        "secrets": ["flops", "plaintext_sha256"],
    }


def test_a_wrong_claim_is_a_contradiction(run, stick):
    code, _, err = run("open", 20, "--salt", stick / "salt", "flops=1235")
    assert code == 6
    assert "FAILED  entry 20, flops: another value was committed to" in err
    assert run("open", 8, "--salt", stick / "salt", "flops=1234")[0] == 6
    assert run("open", 20, "--salt", stick / "salt", "size=100")[0] == 12


@pytest.mark.parametrize("text", ["", "ab", "AB" * 32, "zz" * 32, "ab" * 33, "ab" * 32 + "\n\n", "\xff" * 64])
def test_a_salt_in_another_form_is_refused_and_not_repeated(run, stick, text):
    (stick / "salt").write_text(text)
    code, _, err = run("open", 20, "--salt", stick / "salt", "flops=1234")
    assert code == 12
    assert (
        err
        == f"FAILED  {stick}/salt: expected the salt of one entry as 64 lower-case hex digits on one line\n"
    )


def test_a_day_is_accounted_for(run, stick):
    code, out, err = run("account", "--objects", stick / "objects.json")
    assert (code, err) == (0, "")
    assert out == (
        "log.example/test: 34 entries hold; "
        "objects created 3, keys released 7, exports 1, objects listed 3; differences 0\n"
    )


def test_differences_are_named_and_exit_with_6(run, stick, monkeypatch):
    monkeypatch.setattr("audit.account.MAX_NAMED", 1)
    rows = listing(entries(day()))
    (stick / "objects.json").write_text(
        json.dumps([*rows[:2], {**rows[2], "id": "ff" * 32, "name": "\x1b[2J"}])
    )
    code, out, _ = run("account", "--objects", stick / "objects.json")
    assert code == 6
    lines = out.splitlines()
    assert lines[1].startswith(f"DIFFERENCE  weights tiny ({WEIGHTS}), created by entry 20")
    assert lines[2] == "            and 1 more"
    monkeypatch.setattr("audit.account.MAX_NAMED", 9)
    code, out, _ = run("account", "--objects", stick / "objects.json")
    assert "DIFFERENCE  weights \\u001b[2J (ffff" in out
    code, out, _ = run("account", "--objects", stick / "objects.json", "--json")
    assert code == 6
    facts = json.loads(out)
    assert (facts["ok"], facts["differences"], facts["reads"]) == (False, 2, 7)
    assert [difference["code"] for difference in facts["named"]] == ["not-in-list", "not-in-log"]


def test_a_list_that_is_none_is_said_with_its_file(run, stick):
    (stick / "objects.json").write_text("no objects yet")
    code, _, err = run("account", "--objects", stick / "objects.json")
    assert code == 12
    assert err.startswith(f"FAILED  {stick}/objects.json: list of objects: expected JSON, found")


def test_the_page_is_written_once(run, stick):
    code, out, _ = run("report", "--out", stick / "day.html")
    assert code == 0
    assert out.startswith(f"{stick}/day.html: 34 entries hold; objects created 3")
    page = (stick / "day.html").read_bytes()
    assert page.startswith(b"<!DOCTYPE html>")
    assert run("report", "--out", stick / "day.html")[0] == 21
    assert (stick / "day.html").read_bytes() == page


def test_the_page_in_json_with_the_list_and_a_witness(run, stick, signer):
    (stick / "witness").write_text(signer.vkey.text)
    more = ("--objects", stick / "objects.json", "--witness", stick / "witness", "--json")
    code, out, _ = run("report", "--out", stick / "day.html", *more)
    assert code == 0
    facts = json.loads(out)
    assert (facts["ok"], facts["out"], facts["size"], facts["exports"]) == (True, f"{stick}/day.html", 34, 1)


def test_a_page_with_differences_is_written_and_exits_with_6(tmp_path, signer, capsys):
    start = decision("Person:operator", "train", f"Object:{CONFIG}", job="train-2")
    stick = hand_over(
        tmp_path,
        signer,
        [start, opened("train-2", WEIGHTS, "weights", "w"), use("train-2", WEIGHTS, "weights/w")],
    )
    arguments = [
        "report",
        str(stick / "log"),
        "--vkey",
        str(stick / "key"),
        "--out",
        str(stick / "page.html"),
    ]
    assert main(arguments) == 6
    assert "differences 1" in capsys.readouterr().out
    assert b"read-of-unknown" in (stick / "page.html").read_bytes()


def test_a_log_that_does_not_verify_yields_no_page(run, stick):
    bundle = stick / "log/tile/entries/000.p/34"
    data = bytearray(bundle.read_bytes())
    data[-20] ^= 1
    bundle.write_bytes(data)
    for command in (
        ("report", "--out", stick / "day.html"),
        ("account", "--objects", stick / "objects.json"),
    ):
        code, out, err = run(*command)
        assert (code, out) in {(6, ""), (12, "")}
        assert err.startswith("FAILED  ")
    assert not (stick / "day.html").exists()


def test_every_command_that_the_auditors_page_shows_is_one():
    text = (Path(__file__).parents[2] / "docs/auditor.md").read_text(encoding="utf-8")
    shown = re.findall(r"^    (?:\$ )?python -m audit (.*)$", text, re.MULTILINE)
    assert len(shown) > 8
    for line in shown:
        assert _parser().parse_args(shlex.split(line)).command == line.split()[0]
