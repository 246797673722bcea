"""Our signatures and OpenSSH's are the same thing, and every change to one is noticed."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from policy.errors import Malformed, PolicyError, SignatureInvalid
from policy.sshkey import ECDSA, ED25519, SK_ECDSA, SK_ED25519, ed25519_key, parse_public_key
from policy.sshsig import (
    MAX_ARMOR_CHARS,
    parse_signature,
    public_key_line,
    sign,
    verify_signature,
)
from policy.wire import encode_string

KEYGEN = shutil.which("ssh-keygen")
needs_ssh_keygen = pytest.mark.skipif(KEYGEN is None, reason="ssh-keygen is not installed: no second opinion")
SPACE = "approval@appliance"
MESSAGE = b"export the model\n"
SEED = bytes(range(32))


def keygen(*arguments: str | Path, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([str(KEYGEN), *map(str, arguments)], input=data, capture_output=True, check=False)


def openssh_accepts(folder: Path, line: str, armored: str, message: bytes, space: str = SPACE) -> bool:
    (folder / "allowed").write_text(f"ada {line}\n")
    (folder / "signature").write_text(armored)
    files = ("-f", folder / "allowed", "-s", folder / "signature")
    done = keygen("-Y", "verify", "-I", "ada", "-n", space, *files, data=message)
    return done.returncode == 0


def mpint(number: int) -> bytes:
    return encode_string(number.to_bytes(number.bit_length() // 8 + 1, "big"))


def armor(blob: bytes) -> str:
    text = base64.b64encode(blob).decode()
    lines = [text[at : at + 70] for at in range(0, len(text), 70)]
    return "\n".join(["-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""])


def envelope(
    key: bytes,
    value: bytes,
    *,
    magic: bytes = b"SSHSIG",
    version: int = 1,
    space: bytes = SPACE.encode(),
    reserved: bytes = b"",
    hash_name: bytes = b"sha512",
    tail: bytes = b"",
) -> str:
    strings = b"".join(encode_string(field) for field in (key, space, reserved, hash_name, value))
    return armor(magic + version.to_bytes(4, "big") + strings + tail)


def to_sign(message: bytes, hash_name: str = "sha512", space: str = SPACE) -> bytes:
    fields = (space.encode(), b"", hash_name.encode(), hashlib.new(hash_name, message).digest())
    return b"SSHSIG" + b"".join(encode_string(field) for field in fields)


class Token:
    """A security key in software: what it signs is what PROTOCOL.u2f says that hardware signs."""

    def __init__(self, kind: str, application: bytes = b"ssh:") -> None:
        self.kind, self.application = kind, application
        self.ed25519 = SigningKey(SEED)
        self.p256 = ec.derive_private_key(int.from_bytes(SEED, "big"), ec.SECP256R1())

    @property
    def blob(self) -> bytes:
        point = self.p256.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        parts = {
            ED25519: (bytes(self.ed25519.verify_key),),
            SK_ED25519: (bytes(self.ed25519.verify_key), self.application),
            ECDSA: (b"nistp256", point),
            SK_ECDSA: (b"nistp256", point, self.application),
        }[self.kind]
        return b"".join(encode_string(part) for part in (self.kind.encode(), *parts))

    @property
    def line(self) -> str:
        return f"{self.kind} {base64.b64encode(self.blob).decode()} token"

    def value(self, message: bytes, flags: int = 1) -> bytes:
        tail = b""
        if self.kind.startswith("sk-"):
            tail = bytes([flags]) + (7).to_bytes(4, "big")
            message = hashlib.sha256(self.application).digest() + tail + hashlib.sha256(message).digest()
        if "ed25519" in self.kind:
            raw = self.ed25519.sign(message).signature
        else:
            r, s = decode_dss_signature(self.p256.sign(message, ec.ECDSA(SHA256())))
            raw = mpint(r) + mpint(s)
        return encode_string(self.kind.encode()) + encode_string(raw) + tail

    def armored(self, message: bytes = MESSAGE, flags: int = 1) -> str:
        return envelope(self.blob, self.value(to_sign(message), flags))


ALL_KINDS = pytest.mark.parametrize("kind", [ED25519, ECDSA, SK_ED25519, SK_ECDSA])


@needs_ssh_keygen
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
@pytest.mark.parametrize("options", [(), ("-O", "hashalg=sha256")], ids=["sha512", "sha256"])
def test_what_ssh_keygen_signs_verifies_here(tmp_path, kind, options):
    keygen("-q", "-t", kind, "-N", "", "-f", tmp_path / "key")
    (tmp_path / "m").write_bytes(MESSAGE)
    done = keygen("-Y", "sign", "-n", SPACE, "-f", tmp_path / "key", *options, tmp_path / "m")
    assert done.returncode == 0, done.stderr

    key = verify_signature((tmp_path / "m.sig").read_text(), SPACE, MESSAGE)

    assert key.fingerprint.encode() in keygen("-l", "-f", tmp_path / "key.pub").stdout
    with pytest.raises(SignatureInvalid, match="not over this message"):
        verify_signature((tmp_path / "m.sig").read_text(), SPACE, MESSAGE + b" ")


@needs_ssh_keygen
def test_what_is_signed_here_verifies_with_ssh_keygen(tmp_path):
    line = public_key_line(bytes(SigningKey(SEED).verify_key), "signer")
    armored = sign(bytearray(SEED), SPACE, MESSAGE)

    assert openssh_accepts(tmp_path, line, armored, MESSAGE)
    assert not openssh_accepts(tmp_path, line, armored, MESSAGE + b"x")
    assert not openssh_accepts(tmp_path, line, armored, MESSAGE, "file")


@needs_ssh_keygen
@ALL_KINDS
def test_openssh_and_we_agree_on_every_kind_of_key(tmp_path, kind):
    token = Token(kind)

    assert openssh_accepts(tmp_path, token.line, token.armored(), MESSAGE)
    assert verify_signature(token.armored(), SPACE, MESSAGE).blob == token.blob


@ALL_KINDS
def test_a_signature_over_other_bytes_is_refused(kind):
    with pytest.raises(SignatureInvalid, match="is not over this message"):
        verify_signature(Token(kind).armored(b"other"), SPACE, MESSAGE)


@pytest.mark.parametrize("kind", [SK_ED25519, SK_ECDSA])
@pytest.mark.parametrize("flags", [0, 4, 0xFE])
def test_a_token_that_nobody_touched_does_not_count(kind, flags):
    assert verify_signature(Token(kind).armored(flags=5), SPACE, MESSAGE)

    with pytest.raises(SignatureInvalid, match="made with a touch"):
        verify_signature(Token(kind).armored(flags=flags), SPACE, MESSAGE)


@pytest.mark.parametrize("kind", [SK_ED25519, SK_ECDSA])
def test_flags_and_counter_of_a_token_are_under_its_signature(kind):
    token = Token(kind)
    value = bytearray(token.value(to_sign(MESSAGE)))
    value[-1] ^= 1

    with pytest.raises(SignatureInvalid, match="not over this message"):
        verify_signature(envelope(token.blob, bytes(value)), SPACE, MESSAGE)


def test_a_token_made_for_web_logins_is_refused():
    with pytest.raises(Malformed, match=r"application to begin ssh:, found b'https://bank'"):
        verify_signature(Token(SK_ED25519, b"https://bank").armored(), SPACE, MESSAGE)


def test_a_signature_for_another_purpose_is_refused():
    with pytest.raises(
        SignatureInvalid, match=r"found one for file; sign with: ssh-keygen -Y sign -n approval@app"
    ):
        verify_signature(sign(SEED, "file", MESSAGE), SPACE, MESSAGE)


def test_a_signature_of_another_type_than_its_key_is_refused():
    armored = envelope(Token(ED25519).blob, Token(ECDSA).value(to_sign(MESSAGE)))

    with pytest.raises(SignatureInvalid, match=f"of type {ED25519}, found '{ECDSA}'"):
        verify_signature(armored, SPACE, MESSAGE)


KEY = Token(ED25519).blob
VALUE = Token(ED25519).value(to_sign(MESSAGE))
POINT = Token(ECDSA).p256.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


@pytest.mark.parametrize(
    ("armored", "message"),
    [
        (envelope(KEY, VALUE, magic=b"SSHSIX"), "found b'SSHSIX' version 1"),
        (envelope(KEY, VALUE, version=2), "found b'SSHSIG' version 2"),
        (envelope(KEY, VALUE, space=b""), "expected a namespace"),
        (envelope(KEY, VALUE, space=b"a\n"), "expected a namespace"),
        (envelope(KEY, VALUE, space="é".encode()), "expected a namespace"),
        (envelope(KEY, VALUE, reserved=b"x"), "expected nothing in the reserved field, found 1 bytes"),
        (envelope(KEY, VALUE, hash_name=b"sha1"), "expected sha256 or sha512, found b'sha1'"),
        (envelope(KEY, VALUE, tail=b"x"), "found 1 more bytes"),
        (envelope(KEY, VALUE + b"x"), "found 1 more bytes"),
        (envelope(KEY, VALUE[:-1]), "cut short"),
        (
            envelope(KEY, encode_string(ED25519.encode()) + encode_string(b"x" * 63)),
            "64 bytes of Ed25519, found 63",
        ),
        (envelope(KEY + b"x", VALUE), "found 1 more bytes"),
        (envelope(b"x" * 2000, VALUE), "at most 1024 bytes, found 2000"),
        (envelope(encode_string(b"ssh-rsa") + encode_string(b"x"), VALUE), "found 'ssh-rsa'"),
        (envelope(encode_string(b"\xff"), VALUE), "expected one of ssh-ed25519"),
        (
            envelope(encode_string(ED25519.encode()) + encode_string(b"x" * 31), VALUE),
            "32 bytes of Ed25519, found 31",
        ),
        (
            envelope(b"".join(map(encode_string, (ECDSA.encode(), b"nistp384", POINT))), VALUE),
            "point on nistp256, found 65 on b'nistp384'",
        ),
        (
            envelope(
                b"".join(map(encode_string, (ECDSA.encode(), b"nistp256", b"\x02" + POINT[1:33]))), VALUE
            ),
            "uncompressed point on nistp256, found 33",
        ),
        (
            envelope(b"".join(map(encode_string, (ECDSA.encode(), b"nistp256", POINT[:-1] + b"\0"))), VALUE),
            "not on the curve",
        ),
        ("x" * (MAX_ARMOR_CHARS + 1), f"at most {MAX_ARMOR_CHARS} characters"),
        ("", "expected -----BEGIN SSH SIGNATURE"),
        ("-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n", "expected -----BEGIN"),
        ("-----BEGIN SSH SIGNATURE-----\n!!!!\n-----END SSH SIGNATURE-----\n", "expected base64"),
        ("-----BEGIN SSH SIGNATURE-----\né\n-----END SSH SIGNATURE-----\n", "expected base64"),
        ("-----BEGIN SSH SIGNATURE-----\nU1N=\n-----END SSH SIGNATURE-----\n", "no spare bits"),
        (armor(b"SSHSIG"), "expected 4 bytes at offset 6, found 0; cut short"),
    ],
    ids=lambda value: value[-24:].strip(),
)
def test_a_form_that_openssh_does_not_write_is_refused(armored, message):
    with pytest.raises(Malformed, match=message):
        verify_signature(armored, SPACE, MESSAGE)


@pytest.mark.parametrize("r", [0, -1])
def test_an_ecdsa_number_that_is_not_positive_is_refused(r):
    raw = encode_string(r.to_bytes(1, "big", signed=True)) + mpint(5)
    value = encode_string(ECDSA.encode()) + encode_string(raw)

    with pytest.raises(Malformed, match="positive number in its shortest form"):
        verify_signature(envelope(Token(ECDSA).blob, value), SPACE, MESSAGE)


def test_a_second_spelling_of_an_ecdsa_signature_is_refused():
    token = Token(ECDSA)
    r, s = decode_dss_signature(token.p256.sign(to_sign(MESSAGE), ec.ECDSA(SHA256())))
    longer = encode_string(b"\0\0" + r.to_bytes(32, "big")) + mpint(s)

    with pytest.raises(Malformed, match="shortest form"):
        verify_signature(
            envelope(token.blob, encode_string(ECDSA.encode()) + encode_string(longer)), SPACE, MESSAGE
        )


@ALL_KINDS
def test_every_flipped_byte_and_every_cut_is_noticed(kind):
    armored = Token(kind).armored()
    blob = base64.b64decode("".join(armored.split("\n")[1:-2]))
    for at in range(len(blob)):
        flipped = blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :]
        for bad in (flipped, blob[:at]):
            with pytest.raises(PolicyError):
                verify_signature(armor(bad), SPACE, MESSAGE)


def test_line_ends_of_another_system_are_read():
    assert verify_signature(sign(SEED, SPACE, MESSAGE).replace("\n", "\r\n"), SPACE, MESSAGE)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.text(max_size=200))
def test_noise_is_refused_and_nothing_else_is_raised(blob, text):
    for bad in (armor(blob), armor(b"SSHSIG\0\0\0\1" + blob), text):
        with pytest.raises(Malformed):
            parse_signature(bad)


@settings(max_examples=20, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=100))
def test_signing_and_verifying_are_a_pair(seed, message):
    key = verify_signature(sign(seed, SPACE, message), SPACE, message)

    assert key == ed25519_key(bytes(SigningKey(seed).verify_key))
    assert parse_public_key(key.blob) == key
