"""The auditor's program on what a real appliance left: its log, and its own list of objects."""

from __future__ import annotations

import hashlib
import json

import pytest

from tests.processes.living import PYTHON, run

pytestmark = pytest.mark.processes


def auditor(living, command, *arguments):
    vkey = living.public / "log.vkey"
    return run(*PYTHON, "audit", command, living.home / "log", *arguments, "--vkey", vkey)


@pytest.fixture
def objects(living, tmp_path):
    """What `appliance objects list --json` hands over, as a file; and the log, at rest."""
    done = living.cli("objects", "list", "--json")
    assert done.returncode == 0, done.stderr
    (tmp_path / "objects.json").write_text(done.stdout)
    living.shutdown()
    return tmp_path / "objects.json"


def test_every_read_of_a_real_appliance_is_accounted_for(living, objects):
    done = auditor(living, "account", "--objects", objects, "--json")
    assert done.returncode == 0, done.stdout
    facts = json.loads(done.stdout)
    listed = len(json.loads(objects.read_text()))
    assert (facts["ok"], facts["created"], facts["recovered"]) == (True, listed, 0)
    assert facts["reads"] > listed


def test_a_config_given_as_a_file_is_accounted_for(living, tmp_path):
    """Sealing it is a job of its own, begun by a decision to create."""
    config = tmp_path / "given.toml"
    config.write_text(
        "[model]\nlayers = 1\nwidth = 16\nheads = 1\ncontext = 32\n"
        '[train]\nsteps = 2\nbatch = 1\nwarmup_steps = 1\n[data]\ncorpus = "corpus"\n'
    )
    trained = living.cli("train", config)
    assert trained.returncode == 0, trained.stderr
    (tmp_path / "objects.json").write_text(living.cli("objects", "list", "--json").stdout)
    living.shutdown()
    done = auditor(living, "account", "--objects", tmp_path / "objects.json", "--json")
    assert done.returncode == 0, done.stdout


def test_a_catalog_that_hides_and_invents_is_found_out(living, objects):
    rows = json.loads(objects.read_text())
    hidden, changed = rows[0], rows[1]
    changed["name"] = "another"
    invented = {**rows[2], "id": "ab" * 32}
    objects.write_text(json.dumps([*rows[1:], invented]))
    done = auditor(living, "account", "--objects", objects, "--json")
    assert done.returncode == 6
    named = {(item["code"], item["index"]) for item in json.loads(done.stdout)["named"]}
    assert named == {
        ("not-in-list", hidden["log_index"]),
        ("differs", changed["log_index"]),
        ("not-in-log", None),
    }


def test_the_page_tells_the_reads_of_a_real_training(living, objects, tmp_path):
    page = tmp_path / "page.html"
    done = auditor(living, "report", "--objects", objects, "--out", page)
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    for told in ("job-uses-what-its-decision-named", "corpus/corpus", "weights/tiny", "genesis", "unsealed"):
        assert told in text
    assert "None was found." in text


def test_a_receipt_and_a_commitment_of_a_real_log(living, objects, tmp_path):
    weights = next(row for row in json.loads(objects.read_text()) if row["kind"] == "weights")
    out = tmp_path / "created"
    assert auditor(living, "prove", weights["log_index"], "--out", out).returncode == 0
    verdict = auditor(living, "verify", "--receipt", f"{out}.tlog-proof")
    assert verdict.returncode == 0, verdict.stderr
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(living.keyring().entry_secret).hex().encode())
    shown = run(
        *PYTHON, "audit", "show", living.home / "log", "--object", weights["id"], "--kind", "object-created"
    )
    assert shown.stdout.split()[0] == str(weights["log_index"])
    digest = hashlib.sha256(living.plaintext(weights["id"])).hexdigest()
    for claim, code in ((f"plaintext_sha256={digest}", 0), ("flops=1", 6), ("name=tiny", 12)):
        assert auditor(living, "open", weights["log_index"], "--secret", secret, claim).returncode == code
