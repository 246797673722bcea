"""What an importing worker tells of an approval bundle: signatures as they came, and nothing half-read."""

from __future__ import annotations

from hashlib import sha256

import pytest

from appliance.bundle.inner import Inner, InnerMember
from appliance.bundle.names import JSON_TEXT, TEXT
from appliance.errors import ContentRefused, ProtocolError
from appliance.worker.approvals import Approvals
from appliance.worklink import Signed
from policy.approvals import MAX_REQUEST_BYTES
from policy.sshsig import MAX_ARMOR_CHARS

REQUEST = b"{}\n"
ARMOR = b"-----BEGIN SSH SIGNATURE-----\nU1NIU0lH\n-----END SSH SIGNATURE-----\n"


class Told(list):
    """A port that keeps what is sent."""

    send = list.append


def member(name, data):
    return InnerMember(name, JSON_TEXT if name.endswith(".json") else TEXT, len(data), "00" * 32)


def bundle_of(**signatures):
    return {f"approval/{name}.sshsig": data for name, data in signatures.items()} | {
        "approval/request.json": REQUEST
    }


def take(told, members):
    sink = Approvals(told)
    sink.contents(Inner("b", "approval", 1, "t", (), tuple(member(*each) for each in members.items())))
    for name, data in members.items():
        sink.begin(member(name, data))
        for at in range(0, len(data), 7):
            sink.data(memoryview(data)[at : at + 7])
        sink.end(member(name, data))
        assert told == []  # nothing before all of it held
    sink.close()


def test_every_signature_is_told_with_the_digest_of_the_request():
    told = Told()
    take(told, bundle_of(alice=ARMOR, bob=ARMOR.replace(b"U1", b"V1")))
    digest = sha256(REQUEST).hexdigest()
    assert told == [Signed(digest, ARMOR.decode()), Signed(digest, ARMOR.replace(b"U1", b"V1").decode())]


@pytest.mark.parametrize(
    ("name", "most"),
    [("approval/request.json", MAX_REQUEST_BYTES), ("approval/alice.sshsig", MAX_ARMOR_CHARS)],
)
def test_what_is_too_large_is_refused_before_it_is_read(name, most):
    inner = Inner("b", "approval", 1, "t", (), (InnerMember(name, TEXT, most + 1, "00" * 32),))
    with pytest.raises(ContentRefused, match=f"expected at most {most} bytes"):
        Approvals(Told()).contents(inner)


def test_a_signature_with_other_letters_is_refused():
    with pytest.raises(ContentRefused, match="expected a signature in ASCII"):
        take(told := Told(), bundle_of(alice="U1NIé".encode()))
    assert told == []


@pytest.mark.parametrize("text", ["", "no_signature", "A" * 8193, "A\x00", "A\r\n"])
def test_a_worker_has_no_free_text_to_tell(text):
    with pytest.raises(ProtocolError, match="expected an armored signature"):
        Signed("00" * 32, text)
    with pytest.raises(ProtocolError, match="64 hex digits"):
        Signed("00", "A")
