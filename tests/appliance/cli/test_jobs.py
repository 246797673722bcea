"""`appliance train`, `watch`, `jobs` and what they show of a run."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading

import pytest

from appliance.errors import (
    PolicyRefused,
    UnknownObject,
)
from tests.appliance.cli.fake_daemon import (
    ACCOUNT,
    JOB,
    OBJECT,
    STATUS,
    event,
)


def test_jobs_are_listed_for_people_and_for_programs(daemon, run):
    daemon.answers["ListJobs"] = [{"job": JOB}]
    assert run("jobs").output.splitlines()[1].split()[:4] == ["7f3a", "first", "running", "3/9"]
    assert json.loads(run("jobs", "--json").output) == [JOB]


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
