"""Requests, approvals and the officers who give them."""

from __future__ import annotations

import json

import pytest

from appliance.errors import (
    AlreadyExists,
    SignatureError,
)
from policy.approvals import ApprovalRequest


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
