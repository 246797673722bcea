"""The whole demo through the code of `make demo`, on a few steps; then again, broken off, and failing."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.demo.__main__ import main, minutes
from appliance.demo.narrator import Narrator, clean_environment
from appliance.demo.previous import HOME, MARK, answering_pid, is_custodian
from appliance.demo.story import CONFIG, FIRST_STEP, Result, Script, perform
from appliance.errors import ApplianceError
from appliance.training.config import parse_config

PROGRAMS = Path(sys.executable).parent

SMALL = """\
[model]
layers = 1
width = 16
heads = 2
context = 32

[train]
steps = {steps}
batch = 4
warmup_steps = 0
eval_every = 1
checkpoint_every = 4
validation_fraction = 0.01

[data]
corpus = "python-reference"
"""
SHORT = Script(SMALL.format(steps=4), SMALL.format(steps=1), length=40)


@dataclass(frozen=True, slots=True)
class Telling:
    """One demo that was told to its end."""

    folder: Path
    text: str
    result: Result


def tell(folder: Path, script: Script, path: str | None = None) -> Telling:
    environment = clean_environment(os.environ, PROGRAMS, folder / HOME)
    if path is not None:
        environment["PATH"] = f"{PROGRAMS}:{path}"
    narrator = Narrator(io.StringIO(), folder.parent, environment, time.monotonic)
    try:
        result = perform(narrator, folder, script)
    except BaseException:
        print(narrator.out.getvalue())
        raise
    return Telling(folder, narrator.out.getvalue(), result)


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> Telling:
    """A demo in a folder so deep, and with such a name, that no shortcut with paths survives."""
    above = tmp_path_factory.mktemp("a clone, deep down") / ("d" * 60) / ("e" * 60)
    above.mkdir(parents=True)
    return tell(above / "demo", SHORT)


def daemon_of(folder: Path) -> int:
    return int((folder / MARK).read_text())


@pytest.mark.processes
def test_it_leaves_home_public_keys_bundle_and_opened_model(told):
    for path in (
        *("home/log/checkpoint", "public/log.vkey", "public/export.pub"),
        *("model/model.sig", "model/model.safetensors", "model/lineage/statement.json"),
    ):
        assert (told.folder / path).is_file(), path
    assert len(list(told.folder.glob("out/*.bundle/manifest.json"))) == 1
    assert len(list(told.folder.glob("in/*.bundle/manifest.json"))) == 1


@pytest.mark.processes
def test_one_approval_is_refused_and_two_are_enough(told):
    refused = told.text.index("forbidden-by:export-needs-two-officers")
    assert told.text.index("approved by alice: 1 of 2") < refused < told.text.index("(exit code 8")
    assert refused < told.text.index("approved by bob: 2 of 2") < told.text.index("exported demo/out/")


@pytest.mark.processes
def test_the_auditor_and_the_public_checker_agree(told):
    assert "OK  appliance.invalid/" in told.text
    assert "receipts lie on this history" in told.text
    assert "Verification succeeded" in told.text
    assert "signature    holds over" in told.text


@pytest.mark.processes
def test_the_profile_is_said_to_be_development(told):
    assert "profile    development" in told.text
    assert "warning: trained in the development profile" in told.text


@pytest.mark.processes
def test_what_training_reached_stands_beside_the_compressors(told):
    assert told.result.steps == 4
    assert 6 < told.result.bits_per_byte < 9  # four steps of a very small model: hardly better than chance
    assert f"{told.result.bits_per_byte:7.3f}  this model, after 4 steps" in told.text
    assert "gzip -9" in told.text
    assert "xz -9: of that text alone" in told.text


@pytest.mark.processes
def test_no_daemon_is_left(told):
    assert answering_pid(told.folder / HOME) is None
    assert not is_custodian(daemon_of(told.folder), None)


@pytest.mark.processes
def test_without_the_public_tools_ours_open_the_export_over_an_older_demo(tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("cat", "ls", "mv", "tr", "sed", "ssh-keygen"):
        (tools / name).symlink_to(which(name))
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / MARK).touch()
    (folder / "model").mkdir()
    (folder / "model/of-before").touch()
    telling = tell(folder, SHORT, path=str(tools))
    assert "$ appliance bundle open demo/out/" in telling.text
    assert "age -d" not in telling.text
    assert (folder / "model/model.sig").is_file()
    assert not (folder / "model/of-before").exists()


def which(name: str) -> str:
    return subprocess.run(["which", name], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.processes
def test_a_step_that_fails_says_which_and_leaves_no_daemon(tmp_path):
    script = Script(SMALL.format(steps=4).replace("python-reference", "another"), SHORT.first_step, length=40)
    with pytest.raises(ApplianceError, match=r"expected exit code 0, found 23, of\n\$ appliance train ref"):
        tell(tmp_path / "demo", script)
    assert not is_custodian(daemon_of(tmp_path / "demo"), None)


@pytest.mark.processes
def test_a_slow_machine_stops_at_a_checkpoint_and_goes_on(tmp_path):
    script = Script(SMALL.format(steps=10**8), SHORT.first_step, length=40, patience_s=2.0)
    telling = tell(tmp_path / "demo", script)
    assert "this machine is slow" in telling.text
    assert 0 < telling.result.steps < 10**8
    assert (tmp_path / "demo/model/model.sig").is_file()


@pytest.mark.processes
def test_ending_the_demo_ends_its_daemon(tmp_path):
    """As `make demo` runs it: with its real configuration, ended by SIGTERM once the daemon is there."""
    folder = tmp_path / "demo"
    command = [sys.executable, "-I", "-m", "appliance.demo", str(folder)]
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 60
    while not ((folder / MARK).exists() and (folder / MARK).read_text()):
        assert demo.poll() is None, demo.stdout.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    demo.send_signal(signal.SIGTERM)
    said = demo.communicate(timeout=60)[0].decode()
    assert demo.returncode == 130, said
    assert "interrupted" in said
    assert not is_custodian(daemon_of(folder), None)


def test_the_configs_differ_in_their_length_only():
    whole, first = parse_config(CONFIG.encode()), parse_config(FIRST_STEP.encode())
    assert whole.train.steps % whole.train.eval_every == 0  # the last figure is of the last step
    assert (whole.model, whole.data) == (first.model, first.data)
    assert (whole.train.batch, first.train.steps) == (first.train.batch, 1)


def test_a_wrong_command_line_is_a_usage_error(capsys):
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        assert main(["--help"]) == 2
        assert main(["one", "two"]) == 2
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert "expected at most one folder" in capsys.readouterr().err


def test_a_folder_of_someone_else_is_told_with_its_own_exit_code(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main([str(tmp_path)]) == 21
    assert "move it away" in capsys.readouterr().err


def test_spans_are_written_as_people_say_them():
    assert minutes(187.4) == "3 min 07 s"
