"""Secrets on their way to the daemon, and back into a sealed state."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from appliance.cli import passphrase
from appliance.cli import seal as seal_verbs
from appliance.errors import (
    WrongSecret,
)
from tests.appliance.cli.fake_daemon import (
    FILE_CUSTODY,
    pipe_with,
)


def test_the_secret_reaches_the_daemon_through_a_pipe_only(daemon, run):
    def unseal(parameters, fds):
        daemon.secrets.append(os.read(fds[parameters["secret_fd"]], 4096))
        return {}

    daemon.answers["Unseal"] = unseal
    with pipe_with("correct hörse\n".encode()) as fd:
        done = run("unseal", "--passphrase-fd", fd, "--reason", "weekly run")
    assert done.exit_code == 0, done.output
    assert daemon.secrets == ["correct hörse".encode()]
    assert daemon.parameters("Unseal") == {"reason": "weekly run", "secret_fd": 0}
    assert b"correct" not in daemon.raw


def test_a_typed_secret_is_composed_before_it_is_used(daemon, run, monkeypatch):
    monkeypatch.setattr(passphrase, "has_terminal", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda _prompt: "ho\u0308rse")
    daemon.answers["Unseal"] = lambda _, fds: daemon.secrets.append(os.read(fds[0], 99)) or {}
    assert run("unseal").exit_code == 0
    assert daemon.secrets == ["h\u00f6rse".encode()]


def test_a_wrong_passphrase_ends_with_19(daemon, run):
    def refuse(parameters, fds):
        raise WrongSecret("wrong passphrase for the slot vault")

    daemon.answers["Unseal"] = refuse
    with pipe_with(b"guess") as fd:
        done = run("unseal", "--passphrase-fd", fd)
    assert done.exit_code == 19
    assert done.stderr.startswith(
        "error: wrong passphrase for the slot vault\nnext: check the keyboard layout"
    )


def test_a_key_file_opens_itself_and_nothing_is_asked(daemon, run):
    daemon.answers |= {"CustodyStatus": FILE_CUSTODY, "Unseal": {}}
    assert run("unseal").output == "unsealed (custody file:)\n"
    assert daemon.parameters("Unseal") == {}


@pytest.mark.parametrize("secret", [b"", b"\n", b"x" * 4097])
def test_an_empty_or_endless_secret_is_refused_before_it_is_sent(daemon, run, secret):
    with pipe_with(secret) as fd:
        done = run("unseal", "--passphrase-fd", fd)
    assert done.exit_code == 19
    assert "expected 1 to 4096 bytes" in done.stderr
    assert [name for name, _ in daemon.asked] == ["CustodyStatus"]


def test_a_closed_descriptor_is_a_usage_error(daemon, run):
    done = run("unseal", "--passphrase-fd", "999")
    assert done.exit_code == 2
    assert "--passphrase-fd 999: expected an open, readable descriptor" in done.stderr


def test_without_a_terminal_the_passphrase_is_not_read_from_standard_input(daemon, short_home):
    done = subprocess.run(
        [sys.executable, "-I", "-m", "appliance", "--home", str(short_home), "unseal"],
        input="typed in the clear\n",
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: passphrase: no terminal to ask on; give --passphrase-fd N")


def test_sealing_passes_its_reason_and_returns_when_the_fresh_process_listens(daemon, run, short_home):
    rebound = []

    def seal(parameters, fds):
        def rebind():  # what a new binding changes
            rebound.append(time.monotonic())
            (short_home / "run" / "appliance.sock").chmod(0o600)

        threading.Timer(0.3, rebind).start()
        return {}

    daemon.answers["Seal"] = seal
    done = run("seal", "--reason", "end of shift")
    assert done.output == "sealed\n"
    assert len(rebound) == 1
    assert daemon.parameters("Seal") == {"reason": "end of shift"}
    assert [name for name, _ in daemon.asked] == ["Seal"]


def test_a_daemon_that_does_not_come_back_after_sealing_is_told(daemon, run, monkeypatch):
    monkeypatch.setattr(seal_verbs, "RETURN_TIMEOUT_S", 0.2)
    daemon.answers["Seal"] = {}
    done = run("seal")
    assert done.exit_code == 18
    assert "sealed, but the daemon did not come back; next: `appliance daemon --detach`" in done.stderr
