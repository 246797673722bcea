"""The verbs against a daemon that is a thread of this test: what is asked, what is shown, how it ends."""

from __future__ import annotations

import array
import base64
import hashlib
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from appliance.cli import passphrase
from appliance.cli import seal as seal_verbs
from appliance.cli.root import appliance
from appliance.client import listen
from appliance.errors import (
    AlreadyExists,
    ApplianceError,
    PolicyRefused,
    SignatureError,
    UnknownObject,
    WrongSecret,
)
from policy.approvals import ApprovalRequest

STATUS = {
    "version": "0.1.0",
    "origin": "example.invalid/log",
    "profile": "development",
    "isolated": False,
    "sealed": True,
    "custody": "passphrase:",
    "recovery": "",
    "log_custody": "file:",
    "log_size": 12,
    "log_alive": True,
    "witnesses": 2,
    "unwitnessed_entries": 7,
    "unwitnessed_age_s": 3700,
    "break_glass": False,
    "objects": 3,
    "jobs_running": ["7f3a"],
    "egress": [
        {
            "content": "text",
            "bytes": 2048,
            "count": 3,
            "limit_bytes": 4194304,
            "limit_count": 2000,
            "days": 7,
        }
    ],
    "accounts": [],
    "disk": {"free_bytes": 3 << 30, "total_bytes": 40 << 30},
    "refusals": [
        {
            "index": 9,
            "time": "2026-01-01T00:00:00.000000Z",
            "principal": "Person:carol",
            "action": "export",
            "resource": "weights/first\x1b[2J",
            "reasons": ["forbidden-by:export-needs-two-officers"],
        }
    ],
    "warnings": ["networked\x1b[2J"],
    "pid": 4242,
}
CUSTODY = {
    "uri": "passphrase:",
    "asks": "passphrase",
    "recipient": "age1abc",
    "generation": 0,
    "shares": None,
    "pending": None,
    "pending_shares": None,
    "device": "",
    "recovery": "",
}
FILE_CUSTODY = {**CUSTODY, "uri": "file:", "asks": ""}
OBJECT = {
    "id": "ab" * 32,
    "kind": "weights",
    "name": "first\x1b[31m",
    "version": 2,
    "size_bytes": 1536,
    "sha256": "cd" * 32,
    "parents": [],
    "compartments": [],
    "state": "ready",
    "job": "7f3a",
    "log_index": 9,
    "created": "2026-01-01T00:00:00Z",
}
JOB = {
    "id": "7f3a",
    "name": "first",
    "state": "running",
    "owner": "carol",
    "config": "small",
    "step": 3,
    "steps": 9,
    "created": "2026-01-01T00:00:00Z",
    "reason": "",
    "results": [],
    "account": None,
}
ACCOUNT = {
    "job": "7f3a",
    "begin_step": 100,
    "step": 300,
    "tokens": 204_800,
    "seconds": 12.5,
    "step_seconds": 11.25,
    "waited_seconds": 0.004,
    "bytes_read": 4096,
    "flops": 1_234_567_890_123,
    "flops_forward": 400_000_000_000,
    "flops_backward_inputs": 400_000_000_000,
    "flops_backward_parameters": 400_000_000_000,
    "flops_recompute": 34_567_890_123,
    "peak_flops_per_s": 300_000_000_000,
    "share_of_peak": 0.3658,
}


def event(seq, kind="progress", **more):
    figures = {"loss": 2.5, "bits_per_byte": None, "learning_rate": 0.001, "tokens_per_s": 3000.0}
    return {
        "seq": seq,
        "kind": kind,
        "step": seq,
        "steps": 9,
        "elapsed_s": float(seq),
        "object": None,
        "reason": None,
        **figures,
        **more,
    }


class FakeDaemon:
    """Answers on the home's socket with what the test lays out, and remembers what it was asked."""

    def __init__(self, home):
        self.answers = {"Status": STATUS, "CustodyStatus": CUSTODY}
        self.asked = []
        self.raw = bytearray()
        self.secrets = []
        self.listener = listen(home / "run")
        self.closing = False
        self.threads = [threading.Thread(target=self._accept, daemon=True)]
        self.threads[0].start()

    def parameters(self, method):
        return [parameters for name, parameters in self.asked if name == method][-1]

    def close(self):
        self.closing = True
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join(10)

    def _accept(self):
        while not self.closing:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self.threads.append(thread)
            thread.start()

    def _serve(self, connection):
        pending, fds = bytearray(), []
        with connection:
            while True:
                data, ancillary, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(16 * 4))
                for _, _, payload in ancillary:
                    received = array.array("i")
                    received.frombytes(payload)
                    fds.extend(received)
                if not data:
                    return
                self.raw += data
                pending += data
                while (end := pending.find(b"\0")) >= 0:
                    call = json.loads(pending[:end])
                    del pending[: end + 1]
                    try:
                        self._answer(connection, call, fds)
                    except (BrokenPipeError, ConnectionResetError):
                        return
                    finally:
                        for fd in fds:
                            os.close(fd)
                        fds.clear()

    def _answer(self, connection, call, fds):
        name = call["method"].removeprefix("invalid.appliance.")
        self.asked.append((name, call["parameters"]))
        answer = self.answers[name]

        def send(**message):
            connection.sendall(json.dumps(message).encode() + b"\0")

        try:
            answer = answer(call["parameters"], list(fds)) if callable(answer) else answer
            if not call.get("more"):
                return send(parameters=answer)
            keys = ["event"]
            for item in answer:
                keys = list(item)
                send(parameters=item, continues=True)
            return send(parameters=dict.fromkeys(keys))
        except ApplianceError as error:
            refusal = {"code": error.code, "exit_code": error.exit_code, "message": str(error)}
            return send(error="invalid.appliance.Refused", parameters=refusal)


@pytest.fixture
def daemon(short_home):
    fake = FakeDaemon(short_home)
    yield fake
    fake.close()


@pytest.fixture
def run(short_home):
    def invoke(*words, **options):
        return CliRunner().invoke(appliance, ["--home", str(short_home), *words], **options)

    return invoke


@contextmanager
def pipe_with(data: bytes):
    read_end, write_end = os.pipe()
    os.write(write_end, data)
    os.close(write_end)
    yield str(read_end)
    os.close(read_end)


# Reading


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


def test_jobs_are_listed_for_people_and_for_programs(daemon, run):
    daemon.answers["ListJobs"] = [{"job": JOB}]
    assert run("jobs").output.splitlines()[1].split()[:4] == ["7f3a", "first", "running", "3/9"]
    assert json.loads(run("jobs", "--json").output) == [JOB]


# Unsealing


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


# Jobs


def test_training_by_name_follows_the_job_to_its_end(daemon, run):
    daemon.answers["Train"] = {"job": "7f3a"}
    daemon.answers["Watch"] = [
        {"event": event(1, "started")},
        {"event": event(9, "done", object="abc", bits_per_byte=2.25)},
    ]
    done = run("train", "small", "--name", "first")
    assert done.exit_code == 0, done.output
    assert daemon.parameters("Train") == {"config": "small", "name": "first"}
    assert daemon.parameters("Watch") == {"job": "7f3a", "after": 0}
    assert done.output.splitlines() == [
        "job 7f3a",
        "started  step 1/9  loss 2.500  3,000 tokens/s",
        "done  step 9/9  loss 2.500  2.250 bits/byte  3,000 tokens/s  after 9s  object abc",
    ]


def test_training_from_a_path_hands_over_the_open_file(daemon, run, tmp_path):
    def train(parameters, fds):
        daemon.secrets.append(os.read(fds[parameters["source_fd"]], 4096))
        return {"job": "7f3a"}

    (tmp_path / "tiny.toml").write_bytes(b'data.corpus = "letters"\n')
    daemon.answers["Train"] = train
    done = run("train", str(tmp_path / "tiny.toml"), "--detach")
    assert done.output == "7f3a\n"
    assert daemon.parameters("Train") == {"source_fd": 0, "source_name": "tiny"}
    assert daemon.secrets == [b'data.corpus = "letters"\n']


def test_a_name_that_ends_in_toml_without_a_file_stays_a_name(daemon, run):
    daemon.answers["Train"] = {"job": "7f3a"}
    run("train", "tiny.toml", "--detach")
    assert daemon.parameters("Train") == {"config": "tiny.toml"}


def test_resuming_needs_no_config_and_training_needs_one_of_the_two(daemon, run):
    daemon.answers["Train"] = {"job": "7f3b"}
    assert run("train", "--resume", "7f3a", "--detach").output == "7f3b\n"
    assert daemon.parameters("Train") == {"resume": "7f3a"}
    for words in (["train"], ["train", "small", "--resume", "7f3a"]):
        done = run(*words)
        assert done.exit_code == 2
        assert "expected either CONFIG or --resume JOB" in done.stderr


def test_a_refusal_shows_the_daemons_words_and_its_exit_code(daemon, run):
    def refuse(parameters, fds):
        raise UnknownObject("config: no object named smal")

    daemon.answers["Train"] = refuse
    done = run("train", "smal")
    assert done.exit_code == 20
    assert done.stderr.splitlines() == [
        "error: config: no object named smal",
        "next: `appliance objects` and `appliance jobs` list what there is",
    ]


def test_watching_as_json_prints_one_event_per_line(daemon, run):
    events = [event(1, "started"), event(2), event(9, "done")]
    daemon.answers["Watch"] = [{"event": each} for each in events]
    done = run("watch", "7f3a", "--after", "4", "--json")
    assert [json.loads(line) for line in done.output.splitlines()] == events
    assert daemon.parameters("Watch") == {"job": "7f3a", "after": 4}


def test_a_failed_job_ends_the_watch_with_23_and_a_stopped_one_with_0(daemon, run):
    daemon.answers["Watch"] = [{"event": event(5, "failed", reason="worker-died")}]
    done = run("watch", "7f3a")
    assert done.exit_code == 23
    assert done.stderr.startswith("error: job 7f3a failed at step 5 of 9: worker-died\n")
    daemon.answers["Watch"] = [{"event": event(5, "stopped")}]
    assert run("watch", "7f3a").exit_code == 0


def test_a_lost_connection_is_made_again_and_no_event_is_missed(daemon, run, monkeypatch):
    monkeypatch.setattr("appliance.cli.following.RETRY_S", 0.0)
    told = [event(1, "started"), event(2), event(9, "done")]
    rounds = []

    def watch(parameters, fds):
        rounds.append(parameters)

        def items():
            yield {"event": told[0]}
            yield {"event": told[1]}
            raise ConnectionResetError  # the daemon goes away in the middle

        if len(rounds) == 1:
            return items()
        return [{"event": each} for each in told if each["seq"] > parameters["after"]]

    daemon.answers["Watch"] = watch
    done = run("watch", "7f3a", "--json")
    assert done.exit_code == 0, done.output
    assert [json.loads(line) for line in done.stdout.splitlines()] == told
    assert "the daemon went away" in done.stderr
    assert rounds[1:] == [{"job": "7f3a", "after": 1, "follow": False}, {"job": "7f3a", "after": 2}]


def test_after_a_restart_a_job_is_told_from_what_was_kept(daemon, run, monkeypatch):
    monkeypatch.setattr("appliance.cli.following.RETRY_S", 0.0)
    rounds = []

    def watch(parameters, fds):
        rounds.append(parameters)

        def items():
            yield {"event": event(7)}
            raise ConnectionResetError

        return items() if len(rounds) == 1 else [{"event": event(1, "failed", reason="ended")}]

    daemon.answers["Watch"] = watch
    done = run("watch", "7f3a")
    assert done.exit_code == 23
    assert rounds[-1] == {"job": "7f3a", "after": 0}


def test_two_jobs_are_compared_line_by_line(daemon, run):
    other = {**JOB, "id": "0b6d", "step": 9, "state": "done", "results": ["ab" * 32]}
    daemon.answers["ListJobs"] = [{"job": JOB}, {"job": other}]
    daemon.answers["ListObjects"] = [{"object": {**OBJECT, "parents": ["ab" * 32]}}]
    figures = {"7f3a": [3.0, 2.5], "0b6d": [3.0, 2.25]}
    daemon.answers["Watch"] = lambda parameters, _: [
        {"event": event(number + 1, "evaluated", bits_per_byte=bits)}
        for number, bits in enumerate(figures[parameters["job"]])
    ]

    def account(parameters, fds):
        if parameters["job"] == "7f3a":
            raise PolicyRefused("not for you")
        return {"account": ACCOUNT}

    daemon.answers["ShowAccount"] = account
    lines = run("compare", "7f3a", "0b6d").output.splitlines()
    assert lines[0].split() == ["7f3a", "0b6d", "DIFFERENCE"]
    assert [" ".join(line.split()) for line in lines[1:]] == [
        "name first first",
        "state running done differs",
        "step 3 9 differs",
        "steps 9 9",
        "made of - weights/first\\x1b[31m@2 differs",
        "best held out 2.5000 2.2500 -0.2500",
        "at step 2 2.5000 2.2500 -0.2500",
        "tokens - 204,800",
        "operations - 1.23 TFLOP",
        "time - 12s",
        "of peak - 36.6 %",
    ]
    assert json.loads(run("compare", "7f3a", "0b6d", "--json").output)[1]["account"] == ACCOUNT
    assert run("compare", "7f3a", "nobody").exit_code == 20


def test_a_report_that_ends_before_its_job_is_not_taken_for_success(daemon, run):
    daemon.answers["Watch"] = [{"event": event(5)}]
    done = run("watch", "7f3a")
    assert done.exit_code == 24
    assert "ended the report on job 7f3a before the job ended" in done.stderr


def test_stopping_shows_the_new_state(daemon, run):
    daemon.answers["Stop"] = {"state": "stopped"}
    assert run("stop", "7f3a").output == "job 7f3a: stopped\n"


@pytest.mark.parametrize("words", [["watch", "7f3a"], ["train", "small"]])
def test_ctrl_c_leaves_the_job_running_and_says_how_to_come_back(daemon, short_home, words):
    held = threading.Event()

    def watch(parameters, fds):
        yield {"event": event(1, "started")}
        held.wait(30)

    daemon.answers |= {"Watch": watch, "Train": {"job": "7f3a"}}
    process = subprocess.Popen(
        [sys.executable, "-I", "-m", "appliance", "--home", str(short_home), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        while "started" not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    held.set()
    assert process.returncode == 130
    assert said == "detached: job 7f3a goes on.\n  appliance watch 7f3a\n  appliance stop 7f3a\n"
    assert [name for name, _ in daemon.asked if name in ("Stop", "Shutdown")] == []


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_on_a_terminal_a_picture_is_redrawn_and_the_last_one_stands(daemon, short_home, variables, coloured):
    daemon.answers["Watch"] = [{"event": event(1)}, {"event": event(2)}, {"event": event(9, "done")}]
    master, slave = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-I", "-m", "appliance", "--home", str(short_home), "watch", "7f3a"],
        stdout=slave,
        env={"TERM": "xterm", "COLUMNS": "60", "LANG": "C.UTF-8", **variables},
        check=False,
    )
    os.close(slave)
    shown = os.read(master, 65536).decode()
    os.close(master)
    assert done.returncode == 0
    last = shown.split("\x1b[2K")[-1]
    assert "7f3a  done" in last
    assert "[########################]  step 9 of 9  100 %" in last
    assert "loss 2.500 nats/token" in last
    assert "\u2581" in last
    assert shown.rstrip().endswith("\x1b[?25h")  # the cursor is back
    assert ("\x1b[32m" in shown) == coloured


def test_a_sample_streams_and_cannot_drive_the_terminal(daemon, run):
    daemon.answers["Sample"] = [{"text": " is\x1b]0;owned\x07"}, {"text": " here"}]
    done = run(
        *("sample", "first", "--prompt", "The statement", "--length", "9", "--temperature", "0"),
        *("--seed", "3", "--top-p", "0.9", "--stop", "end"),
    )
    assert done.output == "The statement is\\x1b]0;owned\\x07 here\n"
    assert daemon.parameters("Sample") == {
        "model": "first",
        "prompt": "The statement",
        "length": 9,
        "temperature": 0.0,
        "top_k": 40,
        "top_p": 0.9,
        "stop": "end",
        "seed": 3,
    }


def test_a_sample_as_json_and_with_a_prompt_from_standard_input(daemon, run):
    daemon.answers["Sample"] = [{"text": "a"}, {"text": "b"}]
    done = run("sample", "first", "--prompt", "-", "--json", input="from a pipe")
    assert [json.loads(line) for line in done.output.splitlines()] == [{"text": "a"}, {"text": "b"}]
    assert daemon.parameters("Sample")["prompt"] == "from a pipe"


# Across the gap


def test_an_import_hands_over_the_folder_and_lists_what_came(daemon, run, tmp_path):
    def take(parameters, fds):
        daemon.secrets.append(os.listdir(fds[parameters["folder_fd"]]))  # noqa: PTH208  a descriptor
        return {"bundle": "0a1b", "channel": "lab", "seq": 3, "objects": [OBJECT], "approvals": None}

    (tmp_path / "x.bundle").mkdir()
    (tmp_path / "x.bundle" / "manifest.json").touch()
    daemon.answers["ImportBundle"] = take
    done = run("import", str(tmp_path / "x.bundle"))
    assert done.output.splitlines()[0] == "imported bundle 0a1b (channel lab, number 3)"
    assert daemon.secrets == [["manifest.json"]]
    assert json.loads(run("import", str(tmp_path / "x.bundle"), "--json").output)["objects"] == [OBJECT]


def test_a_bundle_of_approvals_says_who_approved_and_what_did_not_count(daemon, run, tmp_path):
    (tmp_path / "x.bundle").mkdir()
    brought = {"request": "ef" * 32, "people": ["alice", "bob"], "refused": ["carol asked for this"]}
    said = {"bundle": "0a1b", "channel": "lab", "seq": 3, "objects": [], "approvals": brought}
    daemon.answers["ImportBundle"] = said
    done = run("import", str(tmp_path / "x.bundle"))
    assert done.stdout.splitlines()[1:] == [f"request {'ef' * 32} approved by alice, bob"]
    assert done.stderr == "refused: carol asked for this\n"
    daemon.answers["ImportBundle"] = {**said, "approvals": {**brought, "people": []}}
    assert (
        "approved by nobody who had not approved before" in run("import", str(tmp_path / "x.bundle")).stdout
    )


def test_a_bundle_that_is_not_there_is_a_missing_medium(daemon, run, tmp_path):
    done = run("import", str(tmp_path / "x.bundle"))
    assert done.exit_code == 4
    assert f"expected a folder or a device at {tmp_path}/x.bundle" in done.stderr
    assert daemon.asked == []


def test_a_request_is_written_to_the_byte_and_never_over_another(daemon, run, tmp_path):
    document = '{"action":"export"}'
    daemon.answers["Request"] = {"id": "ef" * 32, "document": document}
    out, recipient = tmp_path / "export.request", tmp_path / "lab.recipient"
    recipient.write_text("# the lab\nage1qqq\n")
    words = ["request", "export", "first", "--to", str(recipient), "--reason", "review", "--out", str(out)]
    done = run(*words)
    assert done.exit_code == 0, done.output
    assert out.read_text() == document
    assert f"ssh-keygen -Y sign -f OFFICER_KEY -n approval@appliance {out}" in done.output
    assert daemon.parameters("Request") == {
        "action": "export",
        "resources": ["first"],
        "recipients": ["age1qqq"],
        "options": {},
        "reason": "review",
        "valid_hours": 72,
    }
    again = run(*words)
    assert again.exit_code == 21
    assert "is not overwritten" in again.stderr


def test_an_approval_passes_request_and_signature_on_and_counts(daemon, run, tmp_path):
    (tmp_path / "r").write_text("{}")
    (tmp_path / "r.sig").write_text("-----BEGIN SSH SIGNATURE-----\n")
    daemon.answers["Approve"] = {"person": "dora", "approvals": 1, "needed": 2, "missing": ["1-of-2"]}
    assert run("approve", str(tmp_path / "r"), str(tmp_path / "r.sig")).output == "approved by dora: 1 of 2\n"
    assert daemon.parameters("Approve") == {"document": "{}", "signature": "-----BEGIN SSH SIGNATURE-----\n"}


def test_an_approval_says_which_roles_are_still_missing(daemon, run, tmp_path):
    (tmp_path / "r").write_text("{}")
    (tmp_path / "r.sig").write_text("-----BEGIN SSH SIGNATURE-----\n")
    daemon.answers["Approve"] = {
        "person": "dora",
        "approvals": 1,
        "needed": 2,
        "missing": ["1-of-2", "data-owner"],
    }
    said = run("approve", str(tmp_path / "r"), str(tmp_path / "r.sig")).output
    assert said == "approved by dora: 1 of 2, still without data-owner\n"


@pytest.mark.parametrize(
    ("words", "action", "resources", "options"),
    [
        (("shred", "weights/old@3"), "shred", ["weights/old@3"], {}),
        (("break-glass",), "break-glass", [], {}),
        (
            ("configure", "policy", "x=ab"),
            "configure",
            [],
            {"setting": "policy", "x": "ab"},
        ),
        (
            ("officer", "dora", "KEY", "--role", "data-owner", "--role", "a"),
            "configure",
            [],
            {
                "setting": "officers",
                "change": "add",
                "person": "dora",
                "key": "ssh-ed25519 AAAA",
                "roles": "a,data-owner",
            },
        ),
        (
            ("revocation", "bob"),
            "configure",
            [],
            {"setting": "officers", "change": "revoke", "person": "bob"},
        ),
        (
            ("clock", "2031-05-04T09:00:00Z"),
            "configure",
            [],
            {"setting": "clock", "floor": "2031-05-04T09:00:00Z"},
        ),
    ],
    ids=str,
)
def test_what_else_officers_can_be_asked_for(daemon, run, tmp_path, words, action, resources, options):
    (tmp_path / "dora.pub").write_text("ssh-ed25519 AAAA dora@desk\n")
    daemon.answers["Request"] = {"id": "ef" * 32, "document": "{}"}
    given = [str(tmp_path / "dora.pub") if word == "KEY" else word for word in words]
    done = run("request", *given, "--reason", "r", "--out", str(tmp_path / "r"))
    assert done.exit_code == 0, done.output
    assert daemon.parameters("Request") == {
        "action": action,
        "resources": resources,
        "recipients": [],
        "options": options,
        "reason": "r",
        "valid_hours": 72,
    }


def test_a_setting_without_a_value_is_a_usage_error(daemon, run, tmp_path):
    done = run("request", "configure", "policy", "policy_set", "--reason", "r", "--out", str(tmp_path / "r"))
    assert done.exit_code == 2
    assert "expected NAME=VALUE, found policy_set" in done.stderr


def test_officers_are_listed_added_and_revoked(daemon, run):
    officer = {"person": "alice", "key_type": "ssh-ed25519", "fingerprint": "SHA256:x", "roles": ["officer"]}
    daemon.answers["ListOfficers"] = {"officers": [officer]}
    assert run("officers", "list").output.splitlines()[1].split() == [
        "alice",
        "officer",
        "ssh-ed25519",
        "SHA256:x",
    ]
    assert json.loads(run("officers", "list", "--json").output) == [officer]
    daemon.answers["ChangeOfficers"] = {"person": "dora", "change": "add", "ended": []}
    assert run("officers", "add", "--request", "ef" * 32).output == "dora may approve from now on\n"
    daemon.answers["ChangeOfficers"] = {"person": "bob", "change": "revoke", "ended": ["export-1"]}
    said = run("officers", "revoke", "--request", "ef" * 32).output
    assert "bob may approve nothing any more" in said
    assert "ended export-1" in said
    daemon.answers["ExtendClock"] = {"floor": "2031-05-04T09:00:00Z"}
    assert (
        run("clock", "extend", "--request", "ef" * 32).output == "the time is at least 2031-05-04T09:00:00Z\n"
    )


def test_the_floor_of_releases_is_shown_and_raised_by_a_request(daemon, run):
    daemon.answers["ReleaseFloor"] = {"floor": "0.1.0"}
    assert json.loads(run("release", "--json").output) == {
        "version": "0.1.0",
        "floor": "0.1.0",
        "installed": "",
    }
    assert daemon.parameters("ReleaseFloor") == {}
    said = run("release", "--request", "ef" * 32).output
    assert daemon.parameters("ReleaseFloor") == {"request": "ef" * 32}
    assert said.split() == ["version", "0.1.0", "floor", "0.1.0"]


def test_limits_are_shown_and_changed_by_a_request(daemon, run):
    in_force = {"quorums": "[export]\npeople = 3\n", "budgets": "[period]\ndays = 7\n"}
    daemon.answers["ChangeLimits"] = in_force
    shown = run("officers", "limits").output
    assert daemon.parameters("ChangeLimits") == {}
    assert shown == (
        "# who must approve; two people where nothing is said\n[export]\npeople = 3\n\n"
        "# what may leave in a period\n[period]\ndays = 7\n"
    )
    told = json.loads(run("officers", "limits", "--request", "ef" * 32, "--json").output)
    assert daemon.parameters("ChangeLimits") == {"request": "ef" * 32}
    assert told == {"quorums": {"export": {"people": 3}}, "budgets": {"period": {"days": 7}}}


ASKED = ApprovalRequest(
    log_origin="example.invalid/log",
    nonce="0" * 32,
    requester="carol",
    action="break-glass",
    objects=(),
    recipients=(),
    options={},
    reason="auditor ill",
    policy_set="b" * 64,
    expires="2031-05-04T09:00:00Z",
)


@pytest.fixture
def stick(daemon, run, tmp_path):
    """A folder with a request, as the command writes it."""
    daemon.answers["Request"] = {"id": ASKED.id, "document": ASKED.encode().decode()}
    (tmp_path / "stick").mkdir()
    done = run("request", "break-glass", "--reason", "auditor ill", "--stick", str(tmp_path / "stick"))
    assert done.exit_code == 0, done.output
    folder = tmp_path / "stick" / f"{ASKED.id[:8]}.approval"
    assert f"then:         appliance approve {folder}\n" in done.output
    return folder


def test_a_request_goes_out_by_stick_and_is_shown_in_words_anywhere(run, stick):
    assert (stick / "request.json").read_bytes() == ASKED.encode()
    for path in (stick, stick / "request.json"):
        done = run("request", "show", str(path))
        assert done.exit_code == 0, done.output
        assert done.output.startswith(f"request {ASKED.id}\n  asked by   carol\n")
        assert "because    auditor ill" in done.output
    (stick / "alice.sig").write_text("x")
    assert "  signature  alice.sig" in run("request", "show", str(stick)).output


@pytest.mark.parametrize("where", [(), ("--out", "r", "--stick", ".")])
def test_a_request_goes_to_one_place(daemon, run, where):
    done = run("request", "break-glass", "--reason", "r", *where)
    assert done.exit_code == 2
    assert "expected one of --out FILE and --stick FOLDER" in done.stderr
    assert daemon.asked == []


def test_a_stick_that_comes_back_brings_every_good_signature(daemon, run, stick):
    def take(parameters, fds):
        assert parameters["document"] == ASKED.encode().decode()
        if parameters["signature"] == "forged":
            raise SignatureError("is not over this message")
        if parameters["signature"] == "again":
            raise AlreadyExists("bob has approved this request already")
        return {"person": parameters["signature"], "approvals": 1, "needed": 2, "missing": []}

    daemon.answers["Approve"] = take
    for name, text in (("a", "forged"), ("b", "again"), ("c", "dora")):
        (stick / f"{name}.sig").write_text(text)
    done = run("approve", str(stick))
    assert done.exit_code == 7
    assert done.output.startswith("approved by dora: 1 of 2\n")
    assert "is not over this message" in done.stderr
    (stick / "a.sig").unlink()
    done = run("approve", str(stick), "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.output)["person"] == "dora"


def test_a_stick_without_signatures_approves_nothing(daemon, run, stick):
    done = run("approve", str(stick))
    assert done.exit_code == 13
    assert "expected NAME.sig by an officer, found no signature" in done.stderr
    for words in (("approve", str(stick), str(stick / "x")), ("approve", str(stick / "request.json"))):
        assert run(*words).exit_code == 2


def test_an_export_without_sign_is_a_usage_error_that_says_why(daemon, run, tmp_path):
    done = run("export", "first", "--to", "age1qqq", "--request", "ef" * 32, "--out", str(tmp_path))
    assert done.exit_code == 2
    assert "so that its recipient can tell it from a forgery: repeat with --sign" in done.stderr.replace(
        "\n", " "
    )
    assert daemon.asked == []


@pytest.mark.parametrize("by_file", [True, False])
def test_an_export_names_the_request_by_the_hash_of_its_file(daemon, run, tmp_path, by_file):
    (tmp_path / "r").write_bytes(b'{"action":"export"}')
    identity = "83d6e4aa82a9a0d99a7a41b1bd5ebae4b42e6a5bd9b4d1b4d3a4a1b0b7c0d000"
    expected = hashlib.sha256(b'{"action":"export"}').hexdigest() if by_file else identity
    daemon.answers["Export"] = [
        {"stage": "hashing", "part": 0, "parts": 0, "bundle": None},
        {"stage": "writing", "part": 1, "parts": 1, "bundle": None},
        {"stage": "done", "part": 1, "parts": 1, "bundle": "0a1b.bundle"},
    ]
    request = str(tmp_path / "r") if by_file else identity
    done = run(
        "export", "first", "--sign", "--to", "age1qqq", "--request", request, "--out", str(tmp_path / "out")
    )
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [
        "hashing",
        "writing part 1 of 1",
        f"exported {tmp_path}/out/0a1b.bundle",
    ]
    assert daemon.parameters("Export") == {
        "model": "first",
        "recipient": "age1qqq",
        "request": expected,
        "folder_fd": 0,
    }


def test_figures_are_asked_for_and_leave_without_a_model(daemon, run, tmp_path):
    daemon.answers["Request"] = {"id": "ef" * 32, "document": "{}"}
    done = run("request", "metrics", "7f3a", "--to", "age1q", "--reason", "r", "--out", str(tmp_path / "r"))
    assert done.exit_code == 0, done.output
    asked = daemon.parameters("Request")
    assert (asked["action"], asked["resources"], asked["recipients"]) == ("export", ["7f3a"], ["age1q"])
    assert asked["options"] == {"content": "metrics"}
    daemon.answers["Export"] = [{"stage": "done", "part": 1, "parts": 1, "bundle": "0a1b.bundle"}]
    words = ("export", "7f3a", "--metrics", "--sign", "--to", "age1q", "--request", "ef" * 32)
    assert run(*words, "--out", str(tmp_path / "out")).exit_code == 0
    assert daemon.parameters("Export")["metrics"] is True


def test_an_export_with_one_approval_ends_with_8(daemon, run, tmp_path):
    def refuse(parameters, fds):
        raise PolicyRefused("export: expected 2 approvals, found 1; next: another officer signs the request")

    daemon.answers["Export"] = refuse
    done = run("export", "m", "--sign", "--to", "age1qqq", "--request", "ef" * 32, "--out", str(tmp_path))
    assert done.exit_code == 8
    assert done.stderr == (
        "error: export: expected 2 approvals, found 1; next: another officer signs the request\n"
    )


def test_a_receipt_is_written_as_two_files(daemon, run, tmp_path):
    daemon.answers["Receipt"] = {
        "proof": base64.b64encode(b"c2sp.org/tlog-proof@v1\n").decode(),
        "entry": base64.b64encode(b"{}").decode(),
    }
    done = run("log", "receipt", "12", "--out", str(tmp_path / "genesis"))
    assert done.exit_code == 0, done.output
    assert (tmp_path / "genesis.tlog-proof").read_bytes() == b"c2sp.org/tlog-proof@v1\n"
    assert (tmp_path / "genesis.entry").read_bytes() == b"{}"


def test_a_tree_head_is_written_to_the_byte(daemon, run, tmp_path):
    daemon.answers["TreeHead"] = {"note": "origin\n12\n\n\u2014 origin abc\n"}
    assert run("log", "head", "--out", str(tmp_path / "head")).exit_code == 0
    assert (tmp_path / "head").read_bytes() == "origin\n12\n\n\u2014 origin abc\n".encode()


def test_a_receipt_that_is_not_base64_writes_nothing(daemon, run, tmp_path):
    daemon.answers["Receipt"] = {"proof": "YQ==", "entry": "not base64!"}
    done = run("log", "receipt", "12", "--out", str(tmp_path / "genesis"))
    assert done.exit_code == 24
    assert "entry: expected base64 from the daemon" in done.stderr
    assert list(tmp_path.iterdir()) == []


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


def compared(step, *, weights=True, optimizer=True, backend="reference"):
    return {
        "step": step,
        "weights_equal": weights,
        "optimizer_equal": optimizer,
        "weights_entry": 2 * step,
        "optimizer_entry": 2 * step + 1,
        "backend": backend,
        "made_on": "reference",
    }


def test_a_replay_that_differs_names_the_first_step_and_ends_with_the_code_for_integrity(daemon, run):
    daemon.answers["Replay"] = [compared(10), compared(20, optimizer=False)]
    done = run("replay", "7f3a", "--from", "0", "--steps", "20")
    assert done.exit_code == 6
    assert daemon.asked == [("Replay", {"job": "7f3a", "from_step": 0, "steps": 20})]
    assert "step 20: weights equal (log entry 40), optimizer DIFFERENT (log entry 41)" in done.output
    assert "job 7f3a: the first difference is at step 20" in done.output
    assert "rounds differently" not in done.output


def test_a_replay_on_another_backend_says_so_where_it_differs(daemon, run):
    daemon.answers["Replay"] = [compared(10, weights=False, backend="cpu")]
    done = run("replay", "7f3a", "--from", "0", "--steps", "20", "--json")
    assert done.exit_code == 6
    assert "made on reference and computed again on cpu, which rounds differently" in done.output


def test_an_account_is_a_few_lines_for_people_and_json_for_programs(daemon, run):
    daemon.answers["ShowAccount"] = {"account": ACCOUNT}
    done = run("account", "7f3a")
    assert done.exit_code == 0, done.output
    assert "200 (from 100 to 300), 204,800 tokens" in done.output
    assert "1.23 TFLOP" in done.output
    assert "36.6 % of 300 GFLOP/s" in done.output
    assert json.loads(run("account", "7f3a", "--json").output) == ACCOUNT


def test_jobs_and_status_show_the_share_of_the_peak_to_whom_it_is_told(daemon, run):
    daemon.answers["ListJobs"] = [{"job": {**JOB, "account": ACCOUNT}}]
    daemon.answers["Status"] = {**STATUS, "accounts": [ACCOUNT]}
    assert "36.6 %" in run("jobs").output
    assert "7f3a: 36.6 % of peak" in run("status").output
    daemon.answers["ListJobs"] = [{"job": JOB}]
    assert "%" not in run("jobs").output
