"""A request and its approvals on a stick: small plain files, nothing else, and words that do not lie."""

from __future__ import annotations

import os

import pytest

from appliance.bundle.approval import (
    MAX_SIGNATURES,
    README,
    REQUEST,
    in_words,
    read_approvals,
    render_readme,
    write_request,
)
from appliance.bundle.folder import BundleFolder
from appliance.errors import AlreadyExists, ContentRefused, Incomplete, MediumMissing
from policy.approvals import MAX_REQUEST_BYTES, ApprovalRequest
from policy.errors import Malformed
from policy.sshsig import MAX_ARMOR_CHARS

ASKED = ApprovalRequest(
    log_origin="lab.example/appliance-1",
    nonce="0123456789abcdef" * 2,
    requester="ada",
    action="export",
    objects=("a" * 64,),
    recipients=("age1recipient",),
    options={"model": "tiny version 3"},
    reason="the Zürich evaluation needs it",
    policy_set="b" * 64,
    expires="2031-05-04T09:00:00Z",
    purpose="model export",
)


@pytest.fixture
def stick(tmp_path):
    """A folder as it left the appliance."""
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        name = write_request(fd, ASKED.encode())
        with pytest.raises(AlreadyExists, match="remove it or choose another place"):
            write_request(fd, ASKED.encode())
    finally:
        os.close(fd)
    assert name == f"{ASKED.id[:8]}.approval"
    return tmp_path / name


def read(path):
    with BundleFolder.open(path) as folder:
        return read_approvals(folder)


def test_what_was_written_is_read_back_with_the_signatures_that_came(stick):
    assert sorted(path.name for path in stick.iterdir()) == [README, REQUEST]
    assert (stick / REQUEST).read_bytes() == ASKED.encode()
    assert read(stick).signatures == {}
    (stick / "alice.sig").write_text("one")
    (stick / "bob-2.sig").write_text("other")
    back = read(stick)
    assert (back.document, back.request) == (ASKED.encode(), ASKED)
    assert back.signatures == {"alice.sig": "one", "bob-2.sig": "other"}


def test_the_words_say_all_that_is_bound_in_letters_that_everybody_can_tell_apart(stick):
    text = (stick / README).read_bytes().decode("ascii")
    for value in ("ada", "export (model export)", "tiny version 3", "a" * 64, "age1recipient", "2031-05-04"):
        assert value in text
    assert "the Z\\xfcrich evaluation needs it" in text
    assert "ssh-keygen -Y sign -n approval@appliance -f KEY request.json" in text
    assert in_words(ASKED) in text
    assert render_readme(ASKED) == text.encode()


def test_a_stick_without_the_words_is_read_all_the_same(stick):
    (stick / README).unlink()
    assert read(stick).request == ASKED


@pytest.mark.parametrize("text", ["Please sign quickly", "x" * 10_000])
def test_words_that_are_not_the_requests_are_refused(stick, text):
    (stick / README).write_text(text)
    with pytest.raises(ContentRefused, match=r"readme\.txt: expected (what follows from|at most)"):
        read(stick)


def test_a_request_that_is_missing_is_named(stick):
    (stick / REQUEST).unlink()
    with pytest.raises(Incomplete, match=r"expected request\.json in the folder"):
        read(stick)


@pytest.mark.parametrize(
    "name", ["run.me", ".hidden.sig", "a b.sig", "x.sig.exe", "é.sig", "-f.sig", "n" * 65 + ".sig"]
)
def test_anything_else_in_the_folder_is_refused(stick, name):
    (stick / name).write_text("x")
    with pytest.raises(ContentRefused, match="remove what does not belong there"):
        read(stick)


@pytest.mark.parametrize("name", [REQUEST, README, "alice.sig"])
def test_links_and_pipes_are_not_followed(stick, tmp_path, name):
    (tmp_path / "elsewhere").write_bytes(ASKED.encode())
    (stick / name).unlink(missing_ok=True)
    (stick / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ContentRefused, match="expected a regular file, found a link"):
        read(stick)
    (stick / name).unlink()
    os.mkfifo(stick / name)
    with pytest.raises(ContentRefused, match="expected a regular file"):
        read(stick)


def test_files_are_bounded(stick):
    (stick / "alice.sig").write_text("x" * (MAX_ARMOR_CHARS + 1))
    with pytest.raises(ContentRefused, match="expected at most 8192 bytes"):
        read(stick)
    (stick / "alice.sig").write_bytes(b"\xff")
    with pytest.raises(ContentRefused, match=r"alice\.sig: expected a signature in ASCII"):
        read(stick)
    (stick / "alice.sig").unlink()
    (stick / REQUEST).write_bytes(b" " * (MAX_REQUEST_BYTES + 1))
    with pytest.raises(ContentRefused, match="expected at most 65536 bytes"):
        read(stick)
    (stick / REQUEST).write_bytes(ASKED.encode() + b"\n")
    with pytest.raises(Malformed, match="another spelling"):
        read(stick)


def test_signatures_are_counted(stick):
    for number in range(MAX_SIGNATURES + 1):
        (stick / f"{number}.sig").touch()
    with pytest.raises(ContentRefused, match="at most 16 signatures, found 17"):
        read(stick)


def test_a_stick_that_is_not_there_is_a_missing_medium(tmp_path):
    with pytest.raises(MediumMissing):
        read(tmp_path / "none")
