"""Starting and ending the daemon as a process of its own, with a stand-in for the custodian."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from appliance.cli import daemon as daemon_verbs
from appliance.cli.root import appliance

# Answers Status with its own pid until Shutdown, as the custodian does.
STAND_IN = """
import json, os, pathlib, sys
from appliance.client import listen
print("quiet on standard output", flush=True)
listener = listen(pathlib.Path(sys.argv[1]) / "run")
while True:
    connection, _ = listener.accept()
    call = json.loads(connection.recv(65536)[:-1])
    connection.sendall(json.dumps({"parameters": {"pid": os.getpid()}}).encode() + b"\\0")
    connection.close()
    if call["method"].endswith("Shutdown"):
        break
"""


@pytest.fixture
def custodian(monkeypatch):
    def install(script):
        monkeypatch.setattr(
            daemon_verbs, "custodian_command", lambda home: [sys.executable, "-I", "-c", script, str(home)]
        )

    return install


def run(home, *words):
    return CliRunner().invoke(appliance, ["--home", str(home), *words])


def test_the_custodian_starts_by_exec_with_no_import_from_folder_or_environment(tmp_path):
    command = daemon_verbs.custodian_command(tmp_path)
    assert command == [sys.executable, "-I", "-m", "appliance.custodian", str(tmp_path)]


def test_detached_it_runs_in_its_own_session_until_shutdown(custodian, short_home):
    custodian(STAND_IN)
    started = run(short_home, "daemon", "--detach")
    assert started.exit_code == 0, started.output
    pid = int(started.output.removeprefix("running, pid "))
    assert os.getsid(pid) == pid != os.getsid(0)
    assert {Path(f"/proc/{pid}/fd/{fd}").readlink() for fd in (0, 1)} == {Path("/dev/null")}
    assert run(short_home, "shutdown").output == "stopped\n"
    assert run(short_home, "status").exit_code == 18
    assert os.waitpid(pid, 0) == (pid, 0)


def test_a_start_that_fails_shows_its_words_and_ends_with_its_exit_code(custodian, short_home):
    custodian(
        "import sys; print('{}\\nerror: the log\\x1b[2J cannot be written', file=sys.stderr); sys.exit(17)"
    )
    done = run(short_home, "daemon", "--detach")
    assert done.exit_code == 17
    assert done.stderr == "error: the log\\x1b[2J cannot be written\n"


def test_only_the_words_of_this_start_are_shown(custodian, short_home):
    for number in (16, 17):
        custodian(f"import sys; print('error {number}', file=sys.stderr); sys.exit({number})")
        done = run(short_home, "daemon", "--detach")
        assert (done.exit_code, done.stderr) == (number, f"error {number}\n")
    diagnostics = short_home / "run" / "daemon.err"
    assert diagnostics.read_text() == "error 16\nerror 17\n"
    assert diagnostics.stat().st_mode & 0o777 == 0o600


def test_a_start_killed_by_a_signal_is_told(custodian, short_home):
    custodian("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    done = run(short_home, "daemon", "--detach")
    assert done.exit_code == 23
    assert "killed by signal 9 while starting" in done.stderr


def test_another_daemon_that_answers_is_not_taken_for_the_new_one(custodian, short_home, monkeypatch):
    monkeypatch.setattr(daemon_verbs, "_answering_pid", lambda _session: 1)
    custodian("import sys, time; time.sleep(0.3); print('error: busy', file=sys.stderr); sys.exit(16)")
    done = run(short_home, "daemon", "--detach")
    assert (done.exit_code, done.stderr) == (16, "error: busy\n")


def test_a_daemon_that_listens_but_refuses_is_told_at_once(custodian, short_home):
    refusal = {"code": "log-unavailable", "exit_code": 17, "message": "the log is dead"}
    error = {"error": "invalid.appliance.Refused", "parameters": refusal}
    custodian(
        STAND_IN.replace('{"parameters": {"pid": os.getpid()}}', repr(error)).replace(
            "if call", "if True or call"
        )
    )
    done = run(short_home, "daemon", "--detach")
    assert done.exit_code == 17
    assert done.stderr.startswith("error: the log is dead\n")


def test_a_daemon_that_never_answers_is_not_waited_for_forever(custodian, short_home, monkeypatch):
    monkeypatch.setattr(daemon_verbs, "START_TIMEOUT_S", 0.3)
    custodian("import time; time.sleep(2)")
    done = run(short_home, "daemon", "--detach")
    assert done.exit_code == 18
    assert f"did not answer within 0 s; next: read {short_home}/run/daemon.err" in done.stderr


def test_a_home_without_an_appliance_is_named_before_anything_starts(tmp_path):
    done = run(tmp_path / "none", "daemon", "--detach")
    assert done.exit_code == 20
    assert f"no appliance in {tmp_path}/none: make one with `appliance init`" in done.stderr
    assert not (tmp_path / "none").exists()
