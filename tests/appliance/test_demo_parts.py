"""The demo's parts: what it trains on, which folder and process it may end, that it runs what it shows."""

from __future__ import annotations

import gzip
import io
import os
import pydoc_data.topics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from appliance.bundle.content import TextChecker
from appliance.demo import corpus
from appliance.demo.narrator import INDENT, Narrator, clean_environment
from appliance.demo.previous import HOME, MARK, Ground, end, is_custodian
from appliance.errors import AlreadyExists, ApplianceError, Busy
from appliance.training.config import parse_config
from appliance.training.data import Corpus
from appliance.training.documents import SEPARATOR
from appliance.training.source import HeldBytes
from appliance.training.tokenizer import ByteTokenizer


def test_each_paragraph_stands_in_one_document_only():
    topics = {"a b": "one\n\ntwo\n\none", "C": "two\n\nthree", "d": "one\n\n\n\n"}
    assert corpus.documents(topics) == {"000-a-b": "one\n\ntwo\n", "001-c": "three\n"}


def test_a_paragraph_that_no_parser_lets_in_is_left_out():
    assert corpus.documents({"a": "fine\n\nbell \a\n\nturned \u202e round", "b": "\x1b[2J"}) == {
        "000-a": "fine\n"
    }


def test_the_reference_of_this_python_is_text_that_the_appliance_takes():
    documents = corpus.documents(pydoc_data.topics.topics)
    checker = TextChecker("reference")
    checker.feed(memoryview("".join(documents.values()).encode()))
    checker.finish()
    assert len(documents) > 50
    assert sum(map(len, documents.values())) > 200_000


def test_the_compressors_get_the_bytes_that_the_model_predicts():
    texts = [f"document {number} " * (5 + number % 7) for number in range(200)]
    config = parse_config(b'[train]\nvalidation_fraction = 0.2\n[model]\ncontext = 16\n[data]\ncorpus = "x"')
    ((name, _),) = config.data.corpus
    source = HeldBytes(SEPARATOR.join(text.encode() for text in texts))
    held_out = Corpus({name: source}, ByteTokenizer(), config).held_out.tokens.tobytes()
    found = corpus.yardsticks(texts, 0.2)
    predicted = held_out[1:]  # the first byte is given, every other is predicted
    assert found.held_out_bytes == len(predicted)
    assert found.gzip == 8 * len(gzip.compress(predicted, 9)) / len(predicted)
    assert found.xz_after_training_text < found.xz


def stand_in(*arguments: str) -> subprocess.Popen:
    """A process whose arguments are those of a custodian, and that does nothing."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", *arguments])
    wanted = b"\0".join(map(os.fsencode, arguments))
    while wanted not in Path(f"/proc/{process.pid}/cmdline").read_bytes():
        time.sleep(0.01)  # between fork and exec the arguments are still ours
    return process


def remembering(folder: Path, pid: int) -> Ground:
    """The ground of a demo that follows one whose daemon had this pid."""
    first = Ground.take(folder)
    first.record(pid)
    first.close()
    return Ground.take(folder)


def test_the_daemon_of_an_earlier_demo_is_ended(tmp_path):
    folder = tmp_path / "demo"
    process = stand_in("-m", "appliance.custodian", str(folder / HOME))
    ground = remembering(folder, process.pid)
    try:
        assert ground.end_daemon() == process.pid
        assert process.wait(timeout=10) != 0
        assert ground.end_daemon() is None
    finally:
        process.kill()
        ground.close()


@pytest.mark.parametrize(
    "arguments",
    [("-m", "appliance.custodian", "/srv/other/home"), ("-m", "something.else", "HOME"), ()],
    ids=["of-another-home", "no-custodian", "a-recycled-pid"],
)
def test_a_process_that_is_not_the_daemon_of_this_home_is_left_alone(tmp_path, arguments):
    folder = tmp_path / "demo"
    process = stand_in(*(each.replace("HOME", str(folder / HOME)) for each in arguments))
    ground = remembering(folder, process.pid)
    try:
        assert ground.end_daemon() is None
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
        ground.close()


def test_no_process_is_none_to_end(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert not end(process.pid, None)
    assert not is_custodian(process.pid, None)
    with_no_pid = Ground.take(tmp_path / "demo")
    assert with_no_pid.recorded() is None
    with_no_pid.close()


def test_a_folder_that_no_demo_made_is_never_emptied(tmp_path):
    (tmp_path / "demo").mkdir()
    mine = tmp_path / "demo/thesis.txt"
    mine.write_text("years of work")
    with pytest.raises(AlreadyExists, match=f"found one without the file {MARK}; move it away"):
        Ground.take(tmp_path / "demo")
    assert mine.read_text() == "years of work"


def test_a_link_is_not_followed_to_what_it_names(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "demo").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AlreadyExists, match="expected a folder or nothing, found something else"):
        Ground.take(tmp_path / "demo")


def test_clearing_removes_what_the_demo_made_and_follows_no_link_out(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    ground = Ground.take(tmp_path / "demo")
    (tmp_path / "demo/home/log").mkdir(parents=True)
    (tmp_path / "demo/file").touch()
    (tmp_path / "demo/link").symlink_to(outside)
    ground.clear()
    assert [path.name for path in (tmp_path / "demo").iterdir()] == [MARK]
    assert (outside / "kept").exists()
    ground.close()


def test_two_demos_do_not_share_a_folder(tmp_path):
    ground = Ground.take(tmp_path / "demo")
    with pytest.raises(Busy, match="another demo is at work"):
        Ground.take(tmp_path / "demo")
    ground.close()
    Ground.take(tmp_path / "demo").close()


class Stepping:
    """A clock that moves four seconds each time it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 4.0
        return self.now


def narrator(folder: Path) -> Narrator:
    return Narrator(io.StringIO(), folder, dict(os.environ), Stepping())


def told(tell: Narrator) -> list[str]:
    return tell.out.getvalue().splitlines()


def test_what_is_shown_is_what_is_run(tmp_path):
    tell = narrator(tmp_path)
    line = "printf '%s\\n' a b c d > 'a file'; cat 'a file'"
    assert tell.run(line) == "a\nb\nc\nd\n"
    assert told(tell) == [f"$ {line}", *(INDENT + letter for letter in "abc")]
    assert (tmp_path / "a file").exists()


def test_a_pattern_chooses_the_lines_that_matter(tmp_path):
    tell = narrator(tmp_path)
    tell.run("echo noise; echo ok: held; echo noise >&2", show="^ok")
    assert told(tell)[1:] == [f"{INDENT}ok: held"]


def test_a_command_that_ends_otherwise_than_announced_ends_the_demo(tmp_path):
    with pytest.raises(
        ApplianceError, match=r"expected exit code 0, found 3, of\n\$ echo why; exit 3\n    why"
    ):
        narrator(tmp_path).run("echo why; exit 3")
    with pytest.raises(ApplianceError, match="expected exit code 8, found 0"):
        narrator(tmp_path).run("true", expect=8)
    with pytest.raises(ApplianceError, match="found 4, of"):
        narrator(tmp_path).ask("echo unheard >&2; exit 4")
    with pytest.raises(ApplianceError, match=r"found 5, of\n.*\n    last words"):
        narrator(tmp_path).follow("sh -c 'echo last words; exit 5'", patience_s=60, give_up=pytest.fail)


def test_an_announced_refusal_is_shown_as_one(tmp_path):
    tell = narrator(tmp_path)
    tell.run("echo no; exit 8", expect=8)
    assert told(tell)[1:] == [f"{INDENT}no", f"{INDENT}(exit code 8, as it should be)"]


def test_a_long_command_says_a_line_now_and_then_and_its_last(tmp_path):
    tell = narrator(tmp_path)
    tell.follow("seq 10", patience_s=60, give_up=pytest.fail)
    assert told(tell) == ["$ seq 10", *(INDENT + number for number in ("1", "4", "7", "10"))]


def test_a_command_that_takes_too_long_is_given_up_once(tmp_path):
    tell, given_up = narrator(tmp_path), []

    def give_up() -> None:
        given_up.append(True)
        (tmp_path / "enough").touch()

    tell.follow("sh -c 'until [ -e enough ]; do sleep 0.02; done'", patience_s=0.1, give_up=give_up)
    assert given_up == [True]


def test_a_line_too_long_for_a_terminal_takes_two(tmp_path):
    tell = narrator(tmp_path)
    tell.outcome("word " * 100)
    assert len(told(tell)) == 2
    assert all(len(line) <= 110 for line in told(tell))
    assert told(tell)[1].endswith(" ...")


def test_sections_are_timed(tmp_path):
    tell = narrator(tmp_path)
    tell.section("Operator", "waits")
    tell.section("Auditor", "checks")
    tell.end_section()
    assert tell.times == [("Operator: waits", 4.0), ("Auditor: checks", 4.0)]


def test_the_commands_inherit_no_agent_no_python_setting_and_no_other_appliance():
    inherited = {
        "PATH": "/usr/bin",
        "SSH_AUTH_SOCK": "/agent",
        "PYTHONPATH": "/evil",
        "APPLIANCE_HOME": "/srv",
        "TERM": "xterm",
    }
    assert clean_environment(inherited, Path("/venv/bin"), Path("/srv/x/home")) == {
        "PATH": "/venv/bin:/usr/bin",
        "APPLIANCE_HOME": "/srv/x/home",
        "TERM": "xterm",
    }
    assert clean_environment({}, Path("/b"), Path("/h"))["PATH"].startswith("/b:/")
