"""The sender of a bundle gets proof that it came in, encrypted to him, and can check it alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.processes.conftest import Template, checked, make_bundle
from tests.processes.living import PYTHON, Living, eventually, run

pytestmark = pytest.mark.processes

APPLIANCE = (*PYTHON, "appliance")


def test_a_receipt_travels_back_and_fits_its_bundle_only(living: Living, template: Template, tmp_path: Path):
    sent = make_bundle(template.folder, tmp_path, seq=2)
    checked(*APPLIANCE, "keygen", "recipient", "desk", "--out", tmp_path)
    back = tmp_path / "back"
    back.mkdir()
    done = living.cli(
        *("import", sent, "--json", "--receipt-to", tmp_path / "desk.recipient", "--receipt-out", back)
    )
    assert done.returncode == 0, done.stderr
    receipt = back / json.loads(done.stdout)["receipt"]
    assert [path.name for path in back.iterdir()] == [receipt.name]
    keys = ("--identity", tmp_path / "desk.identity", "--sender", template.folder / "researcher.vkey")
    keys = (*keys, "--trust", template.public / "bundle.vkey", "--log-key", template.public / "log.vkey")
    said = json.loads(checked(*APPLIANCE, "verify-receipt", receipt, "--sent", sent, *keys, "--json"))
    assert len(said["objects"]) == 4
    eventually(lambda: "receipt-sent" in living.entries(), "an entry that a receipt left")
    other = make_bundle(template.folder, tmp_path, seq=3)
    refused = run(*APPLIANCE, "verify-receipt", receipt, "--sent", other, *keys)
    assert refused.returncode == 6, refused.stderr
    assert "it belongs to another bundle" in refused.stderr
    assert living.cli("import", receipt).returncode in (7, 11, 12)
