"""A model travels out in two processes' steps: digests, signature, content, manifest; and opens anywhere."""

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
import safetensors.numpy

from appliance.age import X25519Identity, encode_header, payload_key
from appliance.bundle.create import label_for, plan, seal_folder
from appliance.bundle.folder import BundleFolder
from appliance.bundle.manifest import part_name
from appliance.bundle.names import media_type_of
from appliance.bundle.open import open_bundle
from appliance.bundle.parity import read_back_parts
from appliance.bundle.parts import PartOutput, PartWriter
from appliance.bundle.signer import SignerKey
from appliance.bundle.stream import PlainStream, bytes_member, digest_member
from appliance.bundle.trust import anyone_of
from appliance.export.model_folder import complete_folder
from appliance.export.verify_model import verify_model

PART_BYTES = 20_000


@pytest.fixture
def identity():
    return X25519Identity(bytearray(range(32)))


@pytest.fixture
def signer():
    return SignerKey.from_seed("appliance/demo", bytes(range(32)))


@pytest.fixture
def bundle(exported, identity, signer, tmp_path):
    """Run the steps as custodian and worker do, the worker without a signing key or a recipient."""
    own = {
        "model.safetensors": safetensors.numpy.save({"wte": np.ones((100, 100), np.float32)}),
        "config.json": b'{"layers":2}',
        "tokenizer.json": b'{"kind":"bytes"}',
    }
    # Worker, first pass: hash.
    members = [bytes_member(f"model/{name}", media_type_of(name), data) for name, data in own.items()]
    digested = [digest_member(member) for member in members]
    # Custodian: lineage and signature from digests alone, then label and plan.
    subjects = {member.name.removeprefix("model/"): member.sha256 for member in digested}
    lineage = replace(exported.lineage, subjects=subjects)
    added = complete_folder("model", lineage, exported.receipts, exported.tree_head, exported.key)
    members += [bytes_member(f"model/{name}", media_type_of(name), data) for name, data in added.items()]
    digested += [digest_member(member) for member in members[len(own) :]]
    label = label_for(
        kind="weights",
        direction="out",
        recipient=identity.recipient.text,
        signers=[signer.vkey],
        channel="export",
        seq=1,
        prev="",
        now=datetime(2026, 3, 1, tzinfo=UTC),
        entropy=os.urandom,
        tree_head=exported.tree_head.decode(),
        policy_decision="2",
    )
    planned = plan(label, digested, PART_BYTES)
    parent = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    with BundleFolder.create(parent, label.folder_name) as folder:

        def next_part(index):
            file_key, nonce = bytearray(os.urandom(16)), os.urandom(16)
            prefix = encode_header(file_key, [identity.recipient]) + nonce
            fd = folder.create_file(part_name(index))
            os.write(fd, prefix)
            return PartOutput(fd, payload_key(file_key, nonce), prefix)

        # Worker, second pass: stream.
        writer = PartWriter(planned.part_sizes, next_part)
        for chunk in PlainStream(planned.inner, members):
            writer.write(chunk)
        parts = writer.close()
        # Custodian: hash what the medium holds, then sign.
        seal_folder(folder, label, parts, [signer], read_back_parts(folder, parts, parity=True))
    os.close(parent)
    assert len(parts) > 1
    return tmp_path / label.folder_name


def check(exported, folder):
    report = verify_model(folder, exported.log_key, exported.export_pub)
    found = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert report.lineage.subjects["model.safetensors"] == found
    (folder.parent / "export.pub").write_bytes(exported.export_pub)
    command = [sys.executable, "-m", "model_signing", "verify", "key", "--public_key", "export.pub"]
    command += ["--signature", "model/model.sig", "model"]

    done = subprocess.run(command, cwd=folder.parent, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "Verification succeeded"


def test_exported_model_opens_with_our_opener_and_verifies(exported, bundle, identity, signer, tmp_path):
    open_bundle(bundle, identity, tmp_path / "out", anyone_of([signer.vkey]))
    check(exported, tmp_path / "out" / "model")


@pytest.mark.skipif(shutil.which("age") is None, reason="the public age program is not installed")
def test_exported_model_opens_with_public_tools_and_verifies(exported, bundle, identity, tmp_path):
    (tmp_path / "key.txt").write_bytes(bytes(identity.encode()) + b"\n")
    (tmp_path / "out").mkdir()
    command = "for p in p*.age; do age -d -i ../key.txt $p; done | tar -x -C ../out"
    subprocess.run(["sh", "-c", command], cwd=bundle, check=True)
    check(exported, tmp_path / "out" / "model")
