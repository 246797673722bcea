"""The whole care of a vault by commands that people type: verify, back up, rehearse, restore, shred."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.processes.living import PYTHON, Living, run

pytestmark = pytest.mark.processes


def done(living: Living, *words: object) -> str:
    told = living.cli(*words)
    assert told.returncode == 0, told.stderr
    return told.stdout


def test_a_backup_is_taken_rehearsed_and_restored_and_the_restored_one_works(living: Living, tmp_path: Path):
    assert "each is what its log entry says" in done(living, "objects", "verify")
    out, key_file = tmp_path / "backup", tmp_path / "kept-apart"
    shutil.copy2(living.home / "keys/vault.identity", key_file)
    assert f"backed up: {len(living.objects())} objects" in done(living, "backup", "--out", out)
    living.kill()  # the host is lost
    told = json.loads(done(living, "backup", "rehearse", out, "--key-file", key_file, "--json"))
    assert told["objects"] == len(list((out / "vault").iterdir()))
    assert living.cli("backup", "rehearse", out).returncode == 2
    restored = Living(tmp_path / "restored", living.public)
    done(restored, "restore-log", "--from", out, "--yes")
    shutil.copy2(key_file, restored.home / "keys/vault.identity")
    try:
        restored.start().unseal()
        assert restored.last_word(restored.train("tiny"))["kind"] == "done"
        assert "each is what its log entry says" in done(restored, "objects", "verify")
        restored.shutdown()
    finally:
        restored.kill()


def test_damage_has_its_exit_code_and_name(living: Living):
    victim = living.objects("corpus")[0]
    payload = living.home / "vault" / victim["id"] / "payload"
    payload.chmod(0o600)
    data = bytearray(payload.read_bytes())
    data[-1] ^= 1
    payload.write_bytes(data)
    told = living.cli("objects", "verify")
    assert told.returncode == 6
    assert f"corpus/{victim['name']}@1 {victim['id']}: its payload has SHA-256" in told.stdout


def test_two_officers_shred_a_model_and_nothing_of_it_opens(living: Living, template, tmp_path: Path):
    if not shutil.which("ssh-keygen"):
        pytest.skip("needs ssh-keygen, which signs as officers do")
    weights = living.objects("weights")[-1]
    name, request = f"weights/{weights['name']}@{weights['version']}", tmp_path / "shred.request"
    done(living, "request", "shred", name, "--reason", "not needed", "--out", request)
    header = (living.home / "vault" / weights["id"] / "header").read_bytes()
    for officer in ("alice", "bob"):
        signed = tmp_path / f"{officer}.request"
        shutil.copy(request, signed)
        sign = ["ssh-keygen", "-q", "-Y", "sign", "-f", template.folder / officer, "-n", "approval@appliance"]
        subprocess.run([*sign, signed], check=True, capture_output=True)
        if officer == "alice":
            done(living, "approve", request, f"{signed}.sig")
            alone = living.cli("shred", name, "--request", request, "--yes")
            assert (alone.returncode, "shredded" in alone.stdout) == (8, False)
    done(living, "approve", request, tmp_path / "bob.request.sig")
    told = done(living, "shred", name, "--request", request, "--yes")
    assert f"shredded: {weights['id'][:16]}, log entry" in told
    assert not (living.home / "vault" / weights["id"]).exists()
    (tmp_path / "header").write_bytes(header)
    assert "shredded" in done(living, "objects", "show", name)
    assert "each is what its log entry says" in done(living, "objects", "verify")
    living.shutdown()
    living.demand_sound_log()
    listing = tmp_path / "objects.json"
    living.start().unseal()
    listing.write_text(done(living, "objects", "list", "--json"))
    living.shutdown()
    account = [*PYTHON, "audit", "account", living.home / "log", "--vkey", living.public / "log.vkey"]
    counted = run(*account, "--objects", listing)
    assert counted.returncode == 0, counted.stdout + counted.stderr
