"""`appliance objects` and `appliance backup` as people type them: one object, its lineage, what is wrong."""

from __future__ import annotations

import json
import os

import pytest
from click.testing import CliRunner

from appliance.cli.objects import find_object
from appliance.cli.root import appliance
from appliance.cli.session import Session
from appliance.errors import UnknownObject, UsageError


def row(letter, kind, name, version, parents=(), state="ready"):
    return {
        "id": letter * 64,
        "kind": kind,
        "name": name,
        "version": version,
        "size_bytes": 1536,
        "sha256": "cd" * 32,
        "parents": [each * 64 for each in parents],
        "compartments": ["a", "b"] if kind == "corpus" else [],
        "state": state,
        "job": "",
        "log_index": ord(letter),
        "created": "2026-01-01T00:00:00Z",
    }


#   corpus a ──┬─▶ weights c ─▶ weights d ─▶ weights f
#   config b ──┘                └────────────▲
ROWS = [
    row("a", "corpus", "words", 1),
    row("b", "config", "tiny", 1),
    row("c", "weights", "tiny", 1, "ab"),
    row("d", "weights", "tiny", 2, "c", state="shredded"),
    row("f", "weights", "other", 1, "dc"),
]


class Daemon:
    """Answers streams as the test lays them out, and remembers what it was asked."""

    def __init__(self):
        self.answers = {"ListObjects": [{"object": each} for each in ROWS]}
        self.asked = {}

    def stream(self, method, parameters, fds=()):
        self.asked[method] = parameters
        answer = self.answers[method]
        yield from answer(parameters, fds) if callable(answer) else answer


@pytest.fixture
def daemon(monkeypatch):
    fake = Daemon()
    monkeypatch.setattr(Session, "stream", lambda _, *given: fake.stream(*given))
    return fake


@pytest.fixture
def run(daemon, tmp_path):
    return lambda *words: CliRunner().invoke(appliance, ["--home", str(tmp_path), *words])


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("weights/tiny", "c"),  # version 2 was shredded: the newest that is left
        ("weights/tiny@2", "d"),
        ("corpus/words", "a"),
        ("ffffffff", "f"),
        ("b" * 64, "b"),
    ],
)
def test_an_object_is_found_as_people_call_it(text, letter):
    assert find_object({each["id"]: each for each in ROWS}, text)["id"] == letter * 64


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("weights/none", UnknownObject, "expected one, found none"),
        ("weights/tiny@9", UnknownObject, "expected one, found none"),
        ("eeeeeeee", UnknownObject, "found none; see `appliance objects`"),
        ("fff", UsageError, "expected KIND/NAME, or 8 digits of an id, found 'fff'"),
    ],
)
def test_what_names_no_object_is_refused(text, error, said):
    with pytest.raises(error, match=said):
        find_object({each["id"]: each for each in ROWS}, text)


def test_two_objects_whose_ids_begin_alike_need_more_digits():
    twins = {letter: {**ROWS[0], "id": letter} for letter in ("a" * 63 + "0", "a" * 63 + "1")}
    with pytest.raises(UnknownObject, match="found 2, so give more digits"):
        find_object(twins, "aaaaaaaaaa")


def test_one_object_is_shown_with_what_it_was_made_of_and_into(run):
    done = run("objects", "show", "weights/tiny@1")
    assert done.exit_code == 0, done.output
    assert "weights/tiny@1" in done.stdout
    assert "made of       corpus/words@1" in done.stdout
    assert "made into     weights/tiny@2" in done.stdout
    assert ", shredded" in done.stdout
    assert "compartments  a, b" in run("objects", "show", "corpus/words").stdout
    assert json.loads(run("objects", "show", "weights/tiny@1", "--json").stdout)["children"] == [
        "d" * 64,
        "f" * 64,
    ]


def test_the_lineage_is_a_tree_in_both_directions_and_names_each_branch_once(run):
    lines = run("objects", "lineage", "weights/other").stdout.splitlines()
    assert [line.split("  entry")[0] for line in lines] == [
        "weights/other@1  ffffffffffffffff",
        "made of",
        "  weights/tiny@2  dddddddddddddddd",
        "    weights/tiny@1  cccccccccccccccc",
        "      corpus/words@1  aaaaaaaaaaaaaaaa",
        "      config/tiny@1  bbbbbbbbbbbbbbbb",
        "  weights/tiny@1  cccccccccccccccc",
        "made into nothing",
    ]
    assert lines[6].endswith("(see above)")
    said = json.loads(run("objects", "lineage", "corpus/words", "--json").stdout)
    assert [each["id"][0] for each in said["descendants"]] == ["c", "d", "f"]
    assert said["ancestors"] == []


def progress(done, about="", finding=""):
    return {"objects": done, "done_bytes": done * 100, "total_bytes": 200, "about": about, "finding": finding}


def test_a_vault_that_is_whole_says_so(run, daemon):
    daemon.answers["VerifyObjects"] = [progress(1), progress(2)]
    done = run("objects", "verify")
    assert done.exit_code == 0, done.output
    assert done.stdout == "verified: 2 objects, 200 B; each is what its log entry says\n"
    assert daemon.asked["VerifyObjects"] == {"object": ""}
    assert run("objects", "verify", "weights/tiny@1").exit_code == 0
    assert daemon.asked["VerifyObjects"] == {"object": "c" * 64}


def test_findings_are_printed_and_end_with_the_exit_code_of_damage(run, daemon):
    daemon.answers["VerifyObjects"] = [progress(1, "weights/x@1 ab", "gone\x1b[2J"), progress(2)]
    done = run("objects", "verify")
    assert done.exit_code == 6
    assert done.stdout == "weights/x@1 ab: gone\\x1b[2J\n"
    assert "1 findings in 2 objects: restore what is damaged" in done.stderr
    done = run("objects", "verify", "--json")
    assert (done.exit_code, json.loads(done.stdout)["findings"][0]["about"]) == (6, "weights/x@1 ab")


def test_a_backup_goes_into_a_folder_that_is_handed_over(run, daemon, tmp_path):
    def back_up(parameters, fds):
        os.mkdir("here", dir_fd=fds[parameters["folder_fd"]])
        return [
            {"done": 1, "total": 2, "copied_bytes": 10, "log_index": None},
            {"done": 2, "total": 2, "copied_bytes": 2048, "log_index": 40},
        ]

    daemon.answers["Backup"] = back_up
    done = run("backup", "--out", str(tmp_path / "new/folder"))
    assert done.exit_code == 0, done.output
    assert done.stdout == "backed up: 2 objects, 2.0 KiB copied, log entry 40\n"
    assert "appliance backup rehearse" in done.stderr
    assert (tmp_path / "new/folder/here").is_dir()
    assert daemon.asked["Backup"]["name"] == str(tmp_path / "new/folder")
    assert run("backup").exit_code == 2
