"""`appliance objects`, `keys` and `shred` against a daemon that says what it is told to."""

from __future__ import annotations

import json
import os

import pytest

from tests.appliance.cli.fake_daemon import (
    FILE_CUSTODY,
    OBJECT,
    pipe_with,
)


@pytest.mark.parametrize("words", [["objects"], ["objects", "list"]])
def test_objects_are_listed_for_people_and_for_programs(daemon, run, words):
    daemon.answers["ListObjects"] = [{"object": OBJECT}]
    lines = run(*words).output.splitlines()
    assert lines[0].split() == ["KIND", "NAME", "VERSION", "SIZE", "ENTRY", "CREATED", "ID"]
    assert lines[1].split()[:5] == ["weights", "first\\x1b[31m", "2", "1.5", "KiB"]
    assert json.loads(run(*words, "--json").output) == [OBJECT]
    assert daemon.parameters("ListObjects") == {}


def test_objects_of_one_kind(daemon, run):
    daemon.answers["ListObjects"] = []
    assert "no objects yet" in run("objects", "--kind", "corpus").output
    assert daemon.parameters("ListObjects") == {"kind": "corpus"}
    assert json.loads(run("objects", "--json").output) == []
    assert run("objects", "--kind", "secrets").exit_code == 2


def test_the_recovered_identity_is_all_that_standard_output_gets(daemon, run):
    def recover(parameters, fds):
        daemon.secrets.append(os.read(fds[parameters["secret_fd"]], 99))
        os.write(fds[parameters["secret_out_fd"]], b"AGE-SECRET-KEY-1XYZ\n")
        return {}

    daemon.answers["RecoverIdentity"] = recover
    with pipe_with(b"correct") as fd:
        done = run("keys", "recover-identity", "--passphrase-fd", fd)
    assert done.exit_code == 0, done.output
    assert done.stdout == "AGE-SECRET-KEY-1XYZ\n"
    assert "keep this offline" in done.stderr
    assert daemon.secrets == [b"correct"]


def test_something_else_than_an_identity_on_the_pipe_is_refused(daemon, run):
    daemon.answers |= {"CustodyStatus": FILE_CUSTODY, "RecoverIdentity": {}}
    done = run("keys", "recover-identity")
    assert done.exit_code == 24
    assert done.stdout == ""


def test_a_rotation_tells_how_far_it_is_and_where_the_log_says_so(daemon, run):
    daemon.answers["RotateVaultKey"] = [
        {"done": 512, "total": 600, "log_index": None, "sync_s": 0.1},
        {"done": 600, "total": 600, "log_index": 31, "sync_s": 0.25},
    ]
    done = run("keys", "rotate", "--reason", "yearly")
    assert done.exit_code == 0, done.output
    assert done.stdout == "rotated: 600 objects, log entry 31\n"
    assert "512 of 600 headers" in done.stderr
    assert daemon.parameters("RotateVaultKey") == {"reason": "yearly"}
    assert json.loads(run("keys", "rotate", "--json").stdout)["sync_s"] == 0.25


def test_shredding_asks_first_and_says_what_would_still_open_it(daemon, run, tmp_path):
    (tmp_path / "shred.request").write_text("{document}")
    nothing = dict.fromkeys(("done", "total", "id", "log_index", "proof", "descendants", "remains"))
    remains = [{"what": "backup", "entry": 12, "detail": "stick-7\x1b[2J"}]
    daemon.answers["Shred"] = [
        {**nothing, "done": 512, "total": 600},
        {**nothing, "id": "ab" * 32, "log_index": 40, "proof": 44, "descendants": 2, "remains": remains},
    ]
    words = ("shred", "weights/old@3", "--request", str(tmp_path / "shred.request"))
    assert run(*words, input="n\n").exit_code == 130
    done = run(*words, "--yes")
    assert done.exit_code == 0, done.output
    assert "shredded: abababababababab, log entry 40, proved by 44" in done.stdout
    assert "2 objects were made of it and stay" in done.stdout
    assert "would still open an old copy of it: backup, stick-7\\x1b[2J (log entry 12)" in done.stdout
    assert daemon.parameters("Shred") == {"object": "weights/old@3", "request": "{document}"}
    assert json.loads(run(*words, "--yes", "--json").stdout)["remains"] == remains
