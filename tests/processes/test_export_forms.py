"""A model that leaves without its architecture and rounded: the form officers signed, nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.processes.conftest import Template, checked
from tests.processes.desk import Desk
from tests.processes.living import PYTHON, Living

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen"),
]


def opened(desk: Desk) -> Path:
    (bundle,) = (desk.folder / "out").glob("*.bundle")
    target = desk.folder / "opened"
    checked(
        *(*PYTHON, "appliance", "bundle", "open", bundle, "--identity", desk.folder / "lab.identity"),
        *("--trust", desk.template.public / "bundle.vkey", "--out", target),
    )
    return target / "model"


def test_weights_leave_alone_and_rounded_as_the_officers_signed(
    living: Living, template: Template, tmp_path: Path
):
    desk = Desk(living, template, tmp_path)
    whole = desk.request.read_bytes()
    desk.request.unlink()
    form = ("--without-architecture", "--round", "bf16")
    asked = ("--to", desk.recipient, "--reason", "r", "--out", desk.request)
    desk.done("request", "export", desk.model, *form, *asked)
    document = json.loads(desk.request.read_bytes())
    assert document["options"]["architecture"] == "withheld"
    assert document["options"]["rounding"] == "bf16"
    assert "options" not in json.loads(whole) or "rounding" not in json.loads(whole)["options"]
    for officer in ("alice", "bob"):
        assert desk.approve(officer).returncode == 0
    exported = desk.export()
    assert exported.returncode == 0, exported.stderr

    model = opened(desk)
    assert not (model / "config.json").exists()
    tensors = load_file(model / "model.safetensors")
    assert tensors
    assert all(not np.any(tensor.view(np.uint32) & 0xFFFF) for tensor in tensors.values())
    keys = ("--log-key", template.public / "log.vkey", "--export-key", template.public / "export.pub")
    said = checked(*PYTHON, "appliance", "verify-model", model, *keys)
    assert "architecture withheld, rounding bf16" in said
    public = [
        *(Path(sys.executable).with_name("model_signing"), "verify", "key"),
        *("--public_key", template.public / "export.pub", "--signature", model / "model.sig", model),
    ]
    assert subprocess.run(public, capture_output=True, check=False).returncode == 0

    name = model / "model.safetensors"
    data = bytearray(name.read_bytes())
    data[-1] ^= 1
    name.write_bytes(data)
    refused = subprocess.run(
        [*PYTHON, "appliance", "verify-model", model, *keys], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 6
    assert "model.safetensors: expected SHA-256" in refused.stderr
