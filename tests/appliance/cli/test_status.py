"""`appliance status`, `audit` and what every verb says when the daemon does not answer."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from appliance.cli.root import appliance
from tests.appliance.cli.fake_daemon import (
    STATUS,
    event,
)


def test_status_is_one_screen_that_says_what_is_not_isolated(daemon, run):
    done = run("status")
    assert done.exit_code == 0
    assert done.output.splitlines() == [
        "appliance  example.invalid/log (version 0.1.0, pid 4242)",
        "vault      sealed, custody passphrase:",
        "recovery   none: lose the unseal secret and the vault is lost",
        "profile    development, host NOT isolated",
        "log        12 entries, writable, custody file:",
        "witnesses  2 enrolled, 7 entries unwitnessed for 1h01m",
        "objects    3",
        "jobs       7f3a",
        "left       text 2.0 KiB of 4.0 MiB (3 of 2000), in 7 days",
        "disk       3.0 GiB of 40.0 GiB free: SHORT, when it is full nothing is read",
        "refused    2026-01-01 00:00:00 carol export weights/first\\x1b[2J: {} (entry 9)".format(
            "forbidden-by:export-needs-two-officers"
        ),
        "warning: networked\\x1b[2J",
    ]


def test_status_says_that_nobody_watches(daemon, run):
    daemon.answers["Status"] = {**STATUS, "witnesses": 0}
    assert "witnesses  none enrolled" in run("status").output


def test_a_challenge_is_written_as_the_witness_reads_it(daemon, run, tmp_path):
    daemon.answers["Challenge"] = {"body": "old 3\n\n\u2014\n", "old": 3, "size": 9}
    done = run("audit", "challenge", "--out", str(tmp_path / "c"), "--from", "3", "--witness", "ann")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "c").read_bytes() == "old 3\n\n\u2014\n".encode()
    assert daemon.asked == [("Challenge", {"old": 3, "witness": "ann"})]
    assert "from 3 to 9 entries" in done.output
    assert run("audit", "challenge", "--out", str(tmp_path / "c")).exit_code == 21
    again = run("audit", "challenge", "--again", "--json", "--out", str(tmp_path / "d"))
    assert json.loads(again.output) == {"file": str(tmp_path / "d"), "old": 3, "size": 9}
    assert daemon.asked[-1] == ("Challenge", {"again": True})


@pytest.mark.parametrize(("missing", "told"), [(0, "by ann: it is witnessed"), (1, "1 more must cosign it")])
def test_an_answer_is_handed_in_as_it_is(daemon, run, tmp_path, missing, told):
    daemon.answers["Accept"] = reply = {"size": 9, "names": ["ann"], "missing": missing}
    (tmp_path / "a").write_text("\u2014 ann AAAA\n")
    assert told in run("audit", "accept", str(tmp_path / "a")).output
    assert daemon.asked == [("Accept", {"answer": "\u2014 ann AAAA\n"})]
    assert json.loads(run("audit", "accept", "--json", str(tmp_path / "a")).output) == reply
    (tmp_path / "a").write_bytes(b"\xff")
    assert run("audit", "accept", str(tmp_path / "a")).exit_code == 12


def test_audit_status_tells_witnesses_and_broken_glass(daemon, run):
    daemon.answers["AuditStatus"] = reply = {
        "log_size": 12,
        "quorum": 1,
        "witnessed_size": 5,
        "unwitnessed_entries": 7,
        "unwitnessed_age_s": 3700,
        "break_glass": True,
        "witnesses": [
            {"name": "ann", "vkey": "ann+1+A", "size": 5, "time": "2026-01-01T00:00:00.000000Z"},
            {"name": "ben", "vkey": "ben+1+A", "size": 0, "time": None},
        ],
    }
    assert run("audit", "status").output.splitlines() == [
        "log        12 entries",
        "witnessed  the first 5; 7 entries are not",
        "age        1h01m since the newest witnessed head, or since the log began",
        "quorum     1 of 2 witnesses",
        "glass      BROKEN: the next job starts whatever the limits say",
        "WITNESS  COSIGNED  AT",
        "ann      5         2026-01-01T00:00:00.000000Z",
        "ben      0         never",
    ]
    assert json.loads(run("audit", "status", "--json").output) == reply
    daemon.answers["AuditStatus"] = {**reply, "quorum": 0, "witnesses": [], "break_glass": False}
    assert "no witness is enrolled, so no limit applies" in run("audit", "status").output


def test_broken_glass_and_salts_are_asked_for(daemon, run, tmp_path):
    daemon.answers |= {"BreakGlass": {}, "Salt": {"salt": "ab" * 32}}
    assert "the next job may start" in run("audit", "break-glass", "--request", "ef" * 32).output
    done = run("audit", "salt", "7", "--out", str(tmp_path / "s"))
    assert done.exit_code == 0, done.output
    assert (tmp_path / "s").read_text() == f"{'ab' * 32}\n"
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600
    assert daemon.asked == [("BreakGlass", {"request": "ef" * 32}), ("Salt", {"index": 7})]


def test_a_receipt_can_be_asked_for_under_the_witnessed_head(daemon, run, tmp_path):
    daemon.answers["Receipt"] = {"proof": "AAAA", "entry": "AAAA"}
    assert run("log", "receipt", "7", "--witnessed", "--out", str(tmp_path / "r")).exit_code == 0
    assert daemon.asked == [("Receipt", {"index": 7, "witnessed": True})]


def test_status_says_that_nothing_may_leave_while_the_log_is_damaged(daemon, run):
    daemon.answers["Status"] = {**STATUS, "egress": []}
    assert "left       not known: the log is damaged, so nothing may" in run("status").output


def test_status_says_when_the_log_cannot_be_written(daemon, run):
    daemon.answers["Status"] = {**STATUS, "log_alive": False}
    assert "NOT WRITABLE: nothing is read until it is" in run("status").output


def test_status_json_is_what_the_daemon_said(daemon, run):
    assert json.loads(run("status", "--json").output) == STATUS


def test_without_a_daemon_every_verb_says_how_to_start_one(run, short_home):
    for words in (
        ["status"],
        ["unseal"],
        ["objects"],
        ["jobs"],
        ["seal"],
        ["watch", "7f3a"],
        ["train", "small"],
    ):
        done = run(*words)
        assert done.exit_code == 18, words
        assert f"no appliance in {short_home}: make one with `appliance init`" in done.stderr
    (short_home / "home.json").touch()
    assert f"appliance --home {short_home} daemon --detach" in run("status").stderr


def test_a_daemon_that_does_not_come_back_is_told(daemon, short_home, monkeypatch):
    monkeypatch.setattr("appliance.cli.following.PATIENCE_S", 0.0)
    monkeypatch.setattr("appliance.cli.following.RETRY_S", 0.0)

    def watch(parameters, fds):
        yield {"event": event(1, "started")}
        raise BrokenPipeError  # what the server thread sees when it dies: it hangs up

    daemon.answers["Watch"] = watch
    done = CliRunner().invoke(appliance, ["--home", str(short_home), "watch", "7f3a"])
    assert done.exit_code == 18
    assert "found that the appliance ended" in done.stderr
