"""A model's signature is one profile of OpenSSF Model Signing, and nothing near it."""

import base64
import json
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from appliance.bundle import canonical
from appliance.bundle.dsse import pae
from appliance.errors import ContentRefused, SignatureError
from appliance.export.signing import load_export_key, public_pem, sign_model, verify_model_signature

KEY = ec.derive_private_key(99, ec.SECP256R1())
OTHER = ec.derive_private_key(98, ec.SECP256R1())
DIGESTS = {"model.safetensors": "ab" * 32, "lineage/statement.json": "cd" * 32}
SIGNATURE = sign_model("demo", DIGESTS, KEY)


def pem(key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def test_signature_says_what_was_signed():
    signed = verify_model_signature(SIGNATURE, public_pem(KEY))
    assert (signed.name, dict(signed.digests)) == ("demo", DIGESTS)


def test_equal_folders_get_equal_signatures():
    assert sign_model("demo", dict(reversed(DIGESTS.items())), KEY) == SIGNATURE


def test_another_key_is_refused():
    with pytest.raises(SignatureError, match="by this export key"):
        verify_model_signature(SIGNATURE, public_pem(OTHER))


def test_hint_changed_to_another_key_does_not_help():
    document = json.loads(SIGNATURE)
    theirs = json.loads(sign_model("demo", DIGESTS, OTHER))
    document["verificationMaterial"] = theirs["verificationMaterial"]
    with pytest.raises(SignatureError, match="the file was altered"):
        verify_model_signature(canonical.encode(document), public_pem(OTHER))


def test_every_flipped_byte_and_truncation_is_refused():
    public = public_pem(KEY)
    for at in range(len(SIGNATURE)):
        broken = bytearray(SIGNATURE)
        broken[at] ^= 1
        with pytest.raises(SignatureError):
            verify_model_signature(bytes(broken), public)
        with pytest.raises(SignatureError):
            verify_model_signature(SIGNATURE[:at], public)


def resigned(change) -> bytes:
    """Sign a changed statement with the right key."""

    document = json.loads(SIGNATURE)
    statement = json.loads(base64.b64decode(document["dsseEnvelope"]["payload"]))
    change(statement)
    payload = canonical.encode(statement)
    value = KEY.sign(pae("application/vnd.in-toto+json", payload), ec.ECDSA(hashes.SHA256()))
    document["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    document["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(value).decode()
    return canonical.encode(document)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s["predicate"]["serialization"].update(ignore_paths=["lineage"]),
        lambda s: s["predicate"]["serialization"].update(allow_symlinks=True),
        lambda s: s["predicate"]["serialization"].update(method="shards"),
        lambda s: s["predicate"]["resources"].reverse(),
        lambda s: s["predicate"]["resources"].pop(),
        lambda s: s["predicate"]["resources"][0].update(algorithm="blake3"),
        lambda s: s["predicate"]["resources"][0].update(name="../x"),
        lambda s: s["subject"][0]["digest"].update(sha256="00" * 32),
        lambda s: s["subject"].clear(),
        lambda s: s.update(extra=1),
        lambda s: s.update(predicateType="https://model_signing/Digests/v0.1"),
    ],
)
def test_other_profiles_are_refused_although_signed(change):
    with pytest.raises(ContentRefused):
        verify_model_signature(resigned(change), public_pem(KEY))


def test_control_unchanged_statement_signed_again_is_accepted():
    assert verify_model_signature(resigned(lambda _: None), public_pem(KEY)).name == "demo"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"x",
        pem(ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))),
        pem(ec.derive_private_key(5, ec.SECP384R1())),
    ],
)
def test_other_keys_do_not_load(text):
    with pytest.raises(ContentRefused, match="export key: expected"):
        load_export_key(text)
    with pytest.raises(ContentRefused, match="export key: expected"):
        verify_model_signature(SIGNATURE, text)


def test_key_is_read_back():
    assert public_pem(load_export_key(pem(KEY))) == public_pem(KEY)


def public_verify(exported, *, offline: bool = True) -> subprocess.CompletedProcess:
    """Run the plain public command as a recipient types it, cut off from the network where allowed."""
    (exported.folder.parent / "export.pub").write_bytes(exported.export_pub)
    command = [sys.executable, "-m", "model_signing", "verify", "key", "--public_key", "export.pub"]
    command += ["--signature", "model/model.sig", "model"]
    cut_off = ["unshare", "--net", "--map-root-user"] if offline and can_unshare() else []
    return subprocess.run(
        cut_off + command,
        cwd=exported.folder.parent,
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )


def can_unshare() -> bool:
    try:
        done = subprocess.run(
            ["unshare", "--net", "--map-root-user", "true"], check=False, capture_output=True
        )
    except FileNotFoundError:
        return False
    return done.returncode == 0


def test_public_command_accepts_the_folder_offline(exported):
    if not can_unshare():
        print("no network namespace here: the public command ran with the host's network")
    done = public_verify(exported)
    assert (done.returncode, done.stdout.strip()) == (0, "Verification succeeded"), done.stderr


@pytest.mark.parametrize("attack", ["change", "add", "remove", "lineage", "signature"])
def test_public_command_refuses_a_tampered_folder(exported, attack):
    folder = exported.folder
    if attack == "change":
        (folder / "model.safetensors").write_bytes(b"other")
    elif attack == "add":
        (folder / "extra.bin").write_bytes(b"x")
    elif attack == "remove":
        (folder / "config.json").unlink()
    elif attack == "lineage":
        (folder / "lineage" / "train.entry").write_bytes(b"{}")
    else:
        (folder / "model.sig").write_bytes(sign_model("model", dict(exported.lineage.subjects), OTHER))
    done = public_verify(exported, offline=False)
    assert done.returncode == 1
    assert "Verification failed" in done.stderr
