"""Attacks on the two-person rule, each of which must not count."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from policy.allowed_signers import parse_allowed_signers
from policy.approvals import (
    MAX_ITEMS,
    MAX_REQUEST_BYTES,
    NAMESPACE,
    Approval,
    ApprovalRequest,
    check_current,
    count_distinct,
    parse_request,
    request_id,
    verify_approval,
)
from policy.errors import ApprovalExpired, ApprovalRefused, Malformed, PolicyError, SignatureInvalid
from policy.sshsig import public_key_line, sign

KEYGEN = shutil.which("ssh-keygen")
REQUEST = ApprovalRequest(
    log_origin="lab.example/appliance-1",
    nonce="0123456789abcdef" * 2,
    requester="ada",
    action="export",
    objects=("a" * 64,),
    recipients=("age1recipient",),
    options={"sign": "yes"},
    reason="the Zürich evaluation needs it",
    policy_set="b" * 64,
    expires="2031-05-04T09:00:00Z",
    purpose="evaluation",
)
BYTES = REQUEST.encode()


def seed(number: int) -> bytes:
    return bytes([number] * 32)


def officer(person: str, number: int, options: str = "") -> str:
    return f"{person} {options}{public_key_line(bytes(SigningKey(seed(number)).verify_key), 'key')}\n"


OFFICERS = parse_allowed_signers(
    officer("ada", 1) + officer("bob", 2) + officer("bob", 3) + officer("cleo", 4)
)


def approve(number: int, data: bytes = BYTES) -> Approval:
    return verify_approval(sign(seed(number), NAMESPACE, data), data, OFFICERS)


def test_two_officers_count_as_two():
    given = [approve(2), approve(4)]

    assert [approval.person for approval in given] == ["bob", "cleo"]
    assert given[0].request_id == REQUEST.id == request_id(BYTES)
    assert given[0].key_fingerprint.startswith("SHA256:")
    assert count_distinct(given, "ada") == 2


def test_one_person_with_two_keys_counts_once():
    assert count_distinct([approve(2), approve(3)], "ada") == 1


def test_the_same_approval_twice_counts_once():
    assert count_distinct([approve(2), approve(2)], "ada") == 1


def test_nothing_counts_as_nothing():
    assert count_distinct([], "ada") == 0


def test_the_requester_cannot_approve():
    with pytest.raises(
        ApprovalRefused, match="ada asked for this and cannot approve it; a second person must"
    ):
        approve(1)
    assert count_distinct([Approval("r", "ada", "k"), Approval("r", "bob", "k")], "ada") == 1


def test_approvals_of_several_requests_are_not_added_up():
    other = replace(REQUEST, nonce="f" * 32).encode()

    with pytest.raises(ApprovalRefused, match="found them of several"):
        count_distinct([approve(2), approve(4, other)], "ada")


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": "f" * 32},
        {"log_origin": "lab.example/appliance-2"},
        {"requester": "eve"},
        {"action": "shred"},
        {"objects": ("c" * 64,)},
        {"recipients": ("age1attacker",)},
        {"options": {"sign": "no"}},
        {"reason": "another"},
        {"policy_set": "c" * 64},
        {"expires": "2041-05-04T09:00:00Z"},
        {"purpose": "sale"},
    ],
    ids=str,
)
def test_an_approval_counts_for_no_other_request(change):
    with pytest.raises(SignatureInvalid, match="is not over this message"):
        verify_approval(sign(seed(2), NAMESPACE, BYTES), replace(REQUEST, **change).encode(), OFFICERS)


def test_a_signature_by_a_stranger_or_a_removed_officer_is_refused():
    with pytest.raises(
        SignatureInvalid, match=r"SHA256:\S+ belongs to no enrolled officer; see the officers file"
    ):
        approve(9)
    with pytest.raises(SignatureInvalid, match="belongs to no enrolled officer"):
        verify_approval(sign(seed(2), NAMESPACE, BYTES), BYTES, ())


def test_a_signature_for_another_purpose_is_refused():
    with pytest.raises(SignatureInvalid, match="found one for file"):
        verify_approval(sign(seed(2), "file", BYTES), BYTES, OFFICERS)


def test_a_key_enrolled_for_something_else_is_refused():
    only_files = parse_allowed_signers(officer("bob", 2, 'namespaces="file" '))
    both = parse_allowed_signers(officer("bob", 2, 'namespaces="file,approval@appliance" '))
    signature = sign(seed(2), NAMESPACE, BYTES)

    assert verify_approval(signature, BYTES, both).person == "bob"
    with pytest.raises(ApprovalRefused, match="the key of bob may sign for file only"):
        verify_approval(signature, BYTES, only_files)


def test_a_signature_over_something_that_is_no_request_is_refused():
    with pytest.raises(Malformed, match="expected JSON in ASCII"):
        verify_approval(sign(seed(2), NAMESPACE, b"yes\n"), b"yes\n", OFFICERS)


@pytest.mark.skipif(KEYGEN is None, reason="ssh-keygen is not installed: no second opinion")
def test_an_officer_signs_the_file_with_ssh_keygen(tmp_path):
    subprocess.run([str(KEYGEN), "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    (tmp_path / "request.json").write_bytes(BYTES)
    command = [
        str(KEYGEN),
        "-Y",
        "sign",
        "-n",
        NAMESPACE,
        "-f",
        str(tmp_path / "key"),
        str(tmp_path / "request.json"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    officers = parse_allowed_signers("dora " + (tmp_path / "key.pub").read_text())

    approval = verify_approval((tmp_path / "request.json.sig").read_text(), BYTES, officers)

    assert approval.person == "dora"


NOW = datetime(2031, 5, 4, 8, 0, tzinfo=UTC)


def test_a_request_is_for_one_appliance_one_set_of_rules_and_a_time():
    here = {"log_origin": REQUEST.log_origin, "policy_set": REQUEST.policy_set, "now": NOW}
    check_current(REQUEST, **here)

    with pytest.raises(
        ApprovalRefused, match=r"is for the appliance lab\.example/appliance-1, here is other"
    ):
        check_current(REQUEST, **{**here, "log_origin": "other"})
    with pytest.raises(ApprovalRefused, match="is for the rules bbbb"):
        check_current(REQUEST, **{**here, "policy_set": "c" * 64})
    for late_s in (0, 1):
        with pytest.raises(ApprovalExpired, match="expired at 2031-05-04T09:00:00Z; ask anew"):
            check_current(REQUEST, **{**here, "now": NOW + timedelta(hours=1, seconds=late_s)})
    check_current(REQUEST, **{**here, "now": NOW + timedelta(seconds=3599)})


def test_a_request_is_one_line_of_ascii_that_reads_back():
    assert BYTES.isascii()
    assert BYTES.count(b"\n") == 1
    assert BYTES.endswith(b"}\n")
    assert parse_request(BYTES) == REQUEST
    assert list(json.loads(BYTES)) == sorted(json.loads(BYTES))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "expected version 1, found 2"),
        ({"version": True}, "expected version 1, found True"),
        ({"version": 1.0}, "expected version 1, found 1.0"),
        ({"log_origin": ""}, "expected log_origin"),
        ({"log_origin": "two words"}, "expected log_origin"),
        ({"nonce": "00"}, "expected nonce"),
        ({"nonce": 7}, "expected nonce to match .* found 7"),
        ({"requester": "\N{CYRILLIC SMALL LETTER A}da"}, "expected requester"),
        ({"requester": ""}, "expected requester"),
        ({"action": "Export"}, "expected action"),
        ({"policy_set": ""}, "expected policy_set"),
        ({"expires": "2031-02-30T09:00:00Z"}, "expected a time in expires, found '2031-02-30"),
        ({"expires": "tomorrow"}, "expected expires"),
        ({"expires": "never"}, "expected expires"),
        ({"reason": ""}, "expected a reason, found none; say why with --reason"),
        ({"reason": "   "}, "expected a reason"),
        ({"reason": "x" * 501}, "expected reason in 500 printable characters"),
        ({"reason": "safe\u202egnihton"}, "printable characters"),
        ({"reason": "a\nb"}, "printable characters"),
        ({"purpose": "a\tb"}, "expected purpose in 100 printable"),
        ({"purpose": 1}, "expected purpose"),
        ({"objects": ("b", "a")}, "expected objects sorted and each once"),
        ({"objects": ("a", "a")}, "expected objects sorted and each once"),
        ({"objects": ("../x",)}, "expected objects to match"),
        ({"objects": tuple(f"{n:03}" for n in range(MAX_ITEMS + 1))}, f"at most {MAX_ITEMS} objects"),
        ({"recipients": ("a b",)}, "expected recipients to match"),
        ({"options": {"Bad": "x"}}, "expected options to match"),
        ({"options": {"ok": "\x07"}}, "expected option ok in 256 printable"),
        ({"options": {"ok": 1}}, "expected option ok"),
    ],
    ids=repr,
)
def test_a_request_with_a_field_that_says_less_than_it_must_is_refused(change, message):
    with pytest.raises(Malformed, match=message):
        replace(REQUEST, **change)
    told = {**json.loads(BYTES), **change}
    with pytest.raises(Malformed, match=message):
        parse_request(json.dumps(told, sort_keys=True, separators=(",", ":")).encode() + b"\n")


FIELDS = json.loads(BYTES)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (BYTES[:-1], "canonical form"),
        (BYTES + b"\n", "canonical form"),
        (BYTES.replace(b'":"', b'": "', 1), "canonical form"),
        (BYTES.replace(b'"action":"export"', b'"action":"shred","action":"export"'), "canonical form"),
        (
            BYTES.replace(b"\\u00fc", b"\\u00FC"),
            "canonical form, found another spelling; sign the file as it is",
        ),
        (BYTES.replace(b"\\u00fc", "ü".encode()), "expected JSON in ASCII"),
        (b"", "expected JSON in ASCII"),
        (b"[" * 60000, "expected JSON in ASCII"),
        (b"1" * 5000, "expected JSON in ASCII"),
        (b"[]\n", "expected the fields .* found list"),
        (json.dumps({**FIELDS, "more": 1}).encode(), "expected the fields"),
        (
            json.dumps({name: FIELDS[name] for name in FIELDS if name != "nonce"}).encode(),
            "expected the fields",
        ),
        (json.dumps({**FIELDS, "objects": "abc"}).encode(), "expected a list in objects, found 'abc'"),
        (json.dumps({**FIELDS, "recipients": None}).encode(), "expected a list in recipients"),
        (json.dumps({**FIELDS, "options": []}).encode(), "expected a dict in options"),
        (json.dumps({**FIELDS, "objects": [["a"]]}).encode(), "expected objects to match"),
        (b" " * (MAX_REQUEST_BYTES + 1), f"at most {MAX_REQUEST_BYTES} bytes"),
    ],
    ids=lambda value: str(value[:24]),
)
def test_bytes_that_are_not_the_canonical_form_are_refused(data, message):
    with pytest.raises(Malformed, match=message):
        parse_request(data)


def test_every_flipped_byte_and_every_cut_costs_the_approval():
    signature = sign(seed(2), NAMESPACE, BYTES)
    for at in range(len(BYTES)):
        for bad in (BYTES[:at] + bytes([BYTES[at] ^ 1]) + BYTES[at + 1 :], BYTES[:at]):
            with pytest.raises(PolicyError):
                verify_approval(signature, bad, OFFICERS)


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,20}", fullmatch=True)
TEXTS = st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=40)


@settings(max_examples=100, deadline=None)
@given(NAMES, st.frozensets(NAMES.filter(lambda name: "@" not in name and "+" not in name)), TEXTS)
def test_any_request_that_can_be_made_reads_back_the_same(requester, objects, reason):
    request = replace(REQUEST, requester=requester, objects=tuple(sorted(objects)), reason=reason)

    assert parse_request(request.encode()) == request
    assert request_id(request.encode()) == request.id


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_noise_is_refused_and_nothing_else_is_raised(data):
    with pytest.raises(Malformed):
        parse_request(data)
