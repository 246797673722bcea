"""One line, one person, one key; what would blur that is refused with its line number."""

from __future__ import annotations

import base64
import shutil
import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from policy.allowed_signers import MAX_FILE_CHARS, parse_allowed_signers, with_officer, without_officer
from policy.errors import Malformed
from policy.sshsig import public_key_line, sign
from policy.wire import encode_string

KEYGEN = shutil.which("ssh-keygen")


def line(person: str, number: int, options: str = "") -> str:
    # Any 32 bytes serve as a key where nothing is verified.
    return f"{person} {options}{public_key_line(bytes([number] * 32), 'made for a test')}"


def test_people_comments_and_blank_lines_are_read():
    two_purposes = 'namespaces="approval@appliance,file" '
    text = f"# officers\n\n{line('ada@lab', 1)}\r\n  \n{line('bob', 2, two_purposes)}\n"

    ada, bob = parse_allowed_signers(text)

    assert (ada.person, ada.namespaces) == ("ada@lab", ())
    assert (bob.person, bob.namespaces) == ("bob", ("approval@appliance", "file"))
    assert ada.key.key == bytes([1] * 32)
    assert parse_allowed_signers("") == ()


def test_one_person_may_have_two_keys():
    assert [signer.person for signer in parse_allowed_signers(f"{line('ada', 1)}\n{line('ada', 2)}")] == [
        "ada"
    ] * 2


KEY = public_key_line(bytes([1] * 32), "")
BLOB = KEY.split()[1]
RSA = base64.b64encode(encode_string(b"ssh-rsa") + encode_string(b"\3") + encode_string(b"x" * 256)).decode()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"ada {KEY}\nbob {KEY}", "line 2: expected each key once, found that of ada for bob"),
        (f"ada {KEY}\nada {KEY}", "line 2: expected each key once"),
        (f"{line('ada', 1)}\n{line('Ada', 2)}", "line 2: expected ada spelled as before, found Ada"),
        (f"ada,bob {KEY}", "line 1: expected one person's name without patterns, found 'ada,bob'"),
        (f"* {KEY}", r"found '\*'"),
        (f"*@lab {KEY}", "without patterns"),
        (f"!ada {KEY}", "without patterns"),
        (f"\N{CYRILLIC SMALL LETTER A}da {KEY}", "without patterns"),
        (f'"ada" {KEY}', "without patterns"),
        (f'ada" {KEY}', "expected quotes in pairs"),
        (f"ada cert-authority {KEY}", "found 'cert-authority'; certificates are not accepted"),
        (f'ada valid-before="20300101" {KEY}', "nor are dates, since there is no trusted clock"),
        (f'ada namespaces="file",valid-after="20200101" {KEY}', "nor are dates"),
        (f"ada namespaces=file {KEY}", 'expected a key type or namespaces="…"'),
        (f'ada namespaces="" {KEY}', "expected namespaces without patterns, found ''"),
        (f'ada namespaces="*" {KEY}', r"expected namespaces without patterns, found '\*'"),
        (f'ada namespaces="approval@*" {KEY}', "without patterns"),
        ("ada", "expected one of ssh-ed25519"),
        ("ada ssh-ed25519", "expected one of ssh-ed25519.* and a key, found 'ssh-ed25519'"),
        ('ada namespaces="file"', "expected one of ssh-ed25519"),
        (f"ada ssh-rsa {RSA}", "found 'ssh-rsa'"),
        (f'ada namespaces="file" ssh-rsa {RSA}', "found 'ssh-rsa AAAA"),
        (f"ada ssh-ed25519 {RSA}", "line 1: public key: expected one of .*found 'ssh-rsa'"),
        (f"ada ecdsa-sha2-nistp256 {BLOB}", "expected a key of type ecdsa-sha2-nistp256, found ssh-ed25519"),
        (f"ada ssh-ed25519-cert-v01@openssh.com {BLOB}", "certificates are not accepted"),
        (f"ada ssh-ed25519 {BLOB[:-2]}", "line 1: public key: expected"),
        (f"ada ssh-ed25519 {BLOB}!", "line 1: public key: expected base64"),
        ("#" * (MAX_FILE_CHARS + 1), f"at most {MAX_FILE_CHARS} characters"),
    ],
    ids=lambda value: value[:40],
)
def test_a_line_that_could_count_for_two_is_refused(text, message):
    with pytest.raises(Malformed, match=message):
        parse_allowed_signers(text)


@pytest.mark.skipif(KEYGEN is None, reason="ssh-keygen is not installed: no second opinion")
def test_openssh_reads_our_lines_as_we_do(tmp_path):
    from nacl.signing import SigningKey  # noqa: PLC0415  only where ssh-keygen is

    seed = bytes(32)
    text = f'ada namespaces="approval@appliance" {public_key_line(bytes(SigningKey(seed).verify_key), "c")}\n'
    (tmp_path / "allowed").write_text(text)
    for space in ("approval@appliance", "file"):
        (tmp_path / "signature").write_text(sign(seed, space, b"m"))
        files = ["-f", str(tmp_path / "allowed"), "-s", str(tmp_path / "signature")]
        command = [str(KEYGEN), "-Y", "verify", "-I", "ada", "-n", space, *files]
        accepted = subprocess.run(command, input=b"m", capture_output=True, check=False).returncode == 0
        assert accepted is (space in parse_allowed_signers(text)[0].namespaces)


@settings(max_examples=100, deadline=None)
@example(text="\x0c", before="")
@given(st.text(max_size=60), st.sampled_from(["", f"ada {KEY}\n", "bob ", 'eve namespaces="']))
def test_noise_is_read_as_people_or_refused(text, before):
    try:
        signers = parse_allowed_signers(before + text)
    except Malformed:
        return
    assert all(signer.person.isascii() and signer.key.blob for signer in signers)


def test_an_officer_is_added_with_a_line_of_their_own_and_taken_away_with_all_of_them():
    before = f"# officers\n{line('ada', 1)}\n{line('bob', 2)}"
    after = with_officer(before, "ada", public_key_line(bytes([3] * 32), "a comment"), "approval@appliance")
    signers = parse_allowed_signers(after)
    assert [signer.person for signer in signers] == ["ada", "bob", "ada"]
    assert signers[2].namespaces == ("approval@appliance",)
    assert "a comment" not in after
    assert with_officer("", "ada", KEY, "x").startswith("ada namespaces=")
    left = without_officer(after, "ada")
    assert [signer.person for signer in parse_allowed_signers(left)] == ["bob"]
    assert left.startswith("# officers\n")


def test_an_officer_set_apart_by_a_tab_is_taken_away_too():
    assert parse_allowed_signers(without_officer(f"  ada\t{KEY}\n", "ada")) == ()


@pytest.mark.parametrize("person", ["a b", "*", "", "a\nb", "#a"])
def test_nobody_is_added_under_a_name_that_is_more_than_one(person):
    with pytest.raises(Malformed, match="expected one person's name, found"):
        with_officer("", person, KEY, "x")


@pytest.mark.parametrize("person", ["ad", "bob", ""])
def test_who_is_not_there_cannot_be_taken_away(person):
    with pytest.raises(Malformed, match="to take away, found none"):
        without_officer(f"{line('ada', 1)}\n", person)
