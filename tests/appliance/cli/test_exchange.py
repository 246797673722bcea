"""What is imported, sampled and exported, and the receipts for it."""

from __future__ import annotations

import base64
import hashlib
import json
import os

import pytest

from appliance.errors import (
    PolicyRefused,
)
from tests.appliance.cli.fake_daemon import (
    OBJECT,
)


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
