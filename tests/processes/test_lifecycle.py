"""What a person at the keyboard may do wrong or change their mind about, and how the appliance answers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from appliance.errors import ContentRefused, SealedError
from tests.processes.living import PYTHON, Living, copy_home, eventually, interrupt

pytestmark = pytest.mark.processes


def test_a_sealed_appliance_does_not_train(awake: Living):
    refused = awake.cli("train", "tiny")
    assert refused.returncode == 14
    assert "the vault is sealed: open it with `appliance unseal`" in refused.stderr
    assert awake.call("Status")["jobs_running"] == []


def test_an_unknown_model_is_named_and_the_refusal_logged(living: Living):
    refused = living.cli("sample", "nobody", "--prompt", "The ")
    assert refused.returncode == 20
    assert "there is no weights named nobody" in refused.stderr
    assert "log entry" in refused.stderr
    living.shutdown()
    assert '"unknown-object"' in living.entries()
    living.demand_sound_log()


def test_an_unknown_config_is_named(living: Living):
    refused = living.cli("train", "nothing")
    assert refused.returncode == 20
    assert "there is no config named nothing" in refused.stderr


@pytest.mark.parametrize(
    ("line", "wrong", "named"),
    [("layers = 1", "lairs = 1", "lairs"), ("width = 16", "width = -16", "width")],
    ids=["unknown-key", "negative-size"],
)
def test_a_config_that_cannot_be_trained_is_refused_by_the_name_of_its_key(
    living: Living, template, tmp_path: Path, line: str, wrong: str, named: str
):
    config = tmp_path / "wrong.toml"
    config.write_text((template.folder / "tiny.toml").read_text().replace(line, wrong))
    before = len(living.objects("config"))
    refused = living.cli("train", config)
    assert refused.returncode == 12
    assert named in refused.stderr
    # Whoever does not go through our command line is refused as well; a worker's words stay inside.
    with config.open("rb") as source, pytest.raises(ContentRefused, match="step 0"):
        living.call("Train", {"source_fd": 0, "source_name": "wrong"}, (source.fileno(),))
    assert len(living.objects("config")) == before


def test_a_config_by_path_is_sealed_and_trained(living: Living, template):
    trained = living.cli("train", template.folder / "tiny.toml", "--name", "by-path", "--json")
    assert trained.returncode == 0, trained.stderr
    assert json.loads(trained.stdout.splitlines()[-1])["kind"] == "done"
    assert [row["name"] for row in living.objects("config")].count("tiny") == 2


def test_a_second_daemon_on_the_same_home_is_refused(awake: Living):
    refused = awake.cli("daemon", "--foreground")
    assert refused.returncode == 16
    assert "another daemon runs in" in refused.stderr
    assert awake.call("Status")["pid"] == awake.pid


def test_ctrl_c_leaves_the_job_running(living: Living):
    command = [*PYTHON, "appliance", "--home", str(living.home), "train", "endless", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        job = json.loads(watching.stdout.readline())["job"]
        assert json.loads(watching.stdout.readline())["kind"] == "started"
        interrupt(watching)
        _, said = watching.communicate(timeout=20)
    assert watching.returncode == 130
    assert f"job {job} goes on" in said
    seen = living.wait_for(job, "checkpoint")["step"]
    assert living.wait_for(job, "checkpoint", 2)["step"] > seen
    assert living.call("Status")["jobs_running"] == [job]


def test_a_stopped_and_resumed_job_ends_in_the_same_bits(living: Living, steady_weights: bytes):
    job = living.train("steady")
    living.wait_for(job, "checkpoint")
    assert living.cli("stop", job).returncode == 0
    stopped = living.last_word(job)
    assert stopped["kind"] == "stopped"
    assert 0 < stopped["step"] < 1500
    resumed = living.cli("train", "--resume", job, "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout.splitlines()[-1])["kind"] == "done"
    assert living.plaintext(living.job(job)["results"][-1]) == steady_weights
    sealed = living.objects()
    again = living.cli("train", "--resume", job)
    assert again.returncode == 2
    assert "is complete after 1500 steps: nothing is left to resume" in again.stderr
    assert living.job(job)["state"] == "done"
    assert living.objects() == sealed


def test_shutdown_keeps_the_last_checkpoint(living: Living):
    job = living.train("endless")
    living.wait_for(job, "checkpoint")
    done = living.cli("shutdown")
    assert done.returncode == 0, done.stderr
    assert living.process.wait(timeout=20) == 0
    living.process = None
    living.demand_nothing_half_written()
    living.demand_sound_log()
    living.start()
    ended = living.job(job)
    assert ended["state"] == "failed"
    assert ended["reason"] == "shutdown"
    assert living.plaintext(ended["results"][-1])
    with pytest.raises(SealedError):
        living.resume(job)


def test_a_wrong_passphrase_opens_nothing_and_is_logged(tmp_path: Path):
    appliance = Living(tmp_path / "home", tmp_path / "public")
    options = ("--profile", "development", "--yes", "--public", appliance.public, "--passphrase-fd", 0)
    assert appliance.cli("init", *options, input="right words\n").returncode == 0
    try:
        appliance.start()
        wrong = appliance.cli("unseal", "--passphrase-fd", "0", input="wrong words\n")
        assert wrong.returncode == 19
        assert "wrong passphrase; nothing was opened" in wrong.stderr
        assert appliance.call("Status")["sealed"]
        assert appliance.cli("train", "tiny").returncode == 14
        assert appliance.cli("unseal", "--passphrase-fd", "0", input="right words\n").returncode == 0
        assert not appliance.call("Status")["sealed"]
        appliance.shutdown()
    finally:
        appliance.kill()
    entries = appliance.entries()
    said = [json.loads(line) for line in entries.splitlines()]
    failed = next(entry for entry in said if entry["kind"] == "unseal-failed")
    assert failed["context"]["reason"] == "wrong-secret"
    assert "words" not in entries + appliance.diagnostics.read_text()
    appliance.demand_sound_log()


def test_a_home_deep_in_the_tree_is_served_though_its_socket_has_a_long_path(template, tmp_path: Path):
    """A Unix socket's path ends at 108 bytes; a clone's does not."""
    deep = tmp_path.joinpath(*["a-folder-with-a-long-name"] * 6, "home")
    assert len(str(deep)) > 160
    deep.parent.mkdir(parents=True)
    appliance = Living(copy_home(template.home, deep), template.public)
    try:
        started = appliance.cli("daemon", "--detach")
        assert started.returncode == 0, started.stderr
        assert "unsealed" in appliance.cli("unseal").stdout
        assert appliance.cli("shutdown").stdout == "stopped\n"
    finally:
        appliance.kill()


def test_an_empty_home_has_no_daemon(tmp_path: Path):
    refused = Living(tmp_path / "none", tmp_path).cli("daemon", "--foreground")
    assert refused.returncode == 20
    assert "make one with `appliance init`" in refused.stderr
    eventually(lambda: not (tmp_path / "none").exists(), "no home to be made by asking")
