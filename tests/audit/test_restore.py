"""The link from a restored appliance's log to the one before it."""

from __future__ import annotations

import json

import pytest

from audit.__main__ import main
from audit.entry import Record, encode_entry, parse_entry
from audit.errors import BadSignature, CouldNotCheck, Malformed
from audit.log import Log
from audit.note import NoteSigner
from audit.restore import CONTINUES, continued_by, last_head
from audit.signing import LogSigner
from audit.verify import verify_log

NEW = NoteSigner("log.example/second", bytes([7]) * 32)
TIME = "2026-01-02T03:04:05.000000Z"


def genesis(said):
    record = Record("genesis", "Custodian:custodian", "init", "Appliance:x", {CONTINUES: said})
    return parse_entry(encode_entry(record, 0, TIME))


@pytest.fixture
def linked(finished, signer, clock, tmp_path):
    older = last_head(finished[0], signer.vkey)
    log = Log.create(tmp_path / "second", NEW, clock)
    log.append([Record("genesis", "Custodian:custodian", "init", "Appliance:x", {CONTINUES: older.context})])
    log.close()
    return tmp_path / "second", older


def test_the_verifier_shows_which_log_a_restored_one_continues(linked, finished, signer):
    report = verify_log(linked[0], NEW.vkey)
    assert report.continues == linked[1]
    assert report.continues.head == verify_log(finished[0], signer.vkey).head
    assert verify_log(finished[0], signer.vkey).continues is None


def test_the_command_shows_the_link(linked, tmp_path, capsys):
    (tmp_path / "vkey").write_text(NEW.vkey.text)
    command = ["verify", str(linked[0]), "--vkey", str(tmp_path / "vkey")]
    assert main(command) == 0
    told = capsys.readouterr().out
    assert "restored   this log continues log.example/test, which had 300 entries, root" in told
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["continues"] == dict(linked[1].context)


def test_the_link_names_the_first_key_of_an_older_log_whose_key_rotated(logs, signer, record):
    log = logs.create()
    log.append([record()])
    log.rotate_key(LogSigner(NoteSigner(signer.name, bytes(32))), "Custodian:custodian", "Appliance:x", {})
    log.append([record()])
    log.close()
    older = last_head(logs.home, signer.vkey)
    assert (older.head.size, older.vkey) == (3, signer.vkey)


def test_a_head_that_the_older_key_did_not_sign_is_not_linked(finished, stranger, tmp_path):
    with pytest.raises(BadSignature):
        last_head(finished[0], stranger.vkey)
    with pytest.raises(CouldNotCheck):
        last_head(tmp_path, stranger.vkey)


@pytest.mark.parametrize(
    "change",
    [
        {"origin": "log.example/other"},
        {"origin": 7},
        {"size": -1},
        {"size": True},
        {"size": "300"},
        {"size": 2**63},
        {"root": "ab"},
        {"root": "G" * 64},
        {"root": None},
        {"vkey": "none"},
        {"vkey": 1},
        {"more": 1},
    ],
)
def test_a_link_in_another_form_is_malformed(finished, signer, change):
    said = {**last_head(finished[0], signer.vkey).context, **change}
    with pytest.raises(Malformed):
        continued_by(genesis(said))


def test_a_link_that_is_no_object_is_malformed():
    with pytest.raises(Malformed, match="expected continues with"):
        continued_by(genesis("the log before"))
