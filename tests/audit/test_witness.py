"""A witness cosigns what only grew, and has a refusal of its own for each way that it did not."""

from __future__ import annotations

import hashlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import example, given
from hypothesis import strategies as st

from audit.checkpoint import TreeHead, sign_tree_head
from audit.cosignature import (
    Cosigner,
    demand_quorum,
    merge_cosignatures,
    verify_cosignatures,
)
from audit.errors import (
    AuditError,
    BadSignature,
    Invalid,
    Malformed,
    NotLatest,
    OldBeyondNew,
    UnknownOrigin,
)
from audit.merkle import consistency_proof, leaf_hash, root
from audit.note import NoteSigner, SignatureLine, VerifierKey
from audit.witness import (
    MAX_CHALLENGE_BYTES,
    Challenge,
    format_challenge,
    origin_of,
    parse_challenge,
    verify_challenge,
)

LOG = NoteSigner("log.example/test", bytes(range(32)))
WITNESS = Cosigner.from_seed("witness.example/w", bytes([7]) * 32)
OTHER = Cosigner.from_seed("witness.example/other", bytes([8]) * 32)
NOW = 1_750_000_000
hashes = st.binary(min_size=32, max_size=32)


def leaves(count, history=b"a"):
    return [leaf_hash(history + str(number).encode()) for number in range(count)]


def head(count, history=b"a"):
    return TreeHead(LOG.name, count, root(leaves(count, history)))


def proof(old, new, history=b"a"):
    rows = leaves(new, history)
    return tuple(consistency_proof(old, new, lambda height, i: root(rows[i << height : (i + 1) << height])))


def challenge(old, new, history=b"a", signer=LOG):
    return Challenge(old, proof(old, new, history), sign_tree_head(head(new, history), signer))


@pytest.mark.parametrize(
    ("old", "new"), [(0, 0), (0, 1), (0, 9), (1, 1), (1, 2), (3, 9), (8, 9), (9, 9), (9, 300)]
)
def test_a_log_that_only_grew_may_be_cosigned(old, new):
    latest = head(old) if old else None
    assert verify_challenge(challenge(old, new), [LOG.vkey], latest) == head(new)


def test_an_unknown_origin_is_refused_before_its_signature_is_looked_at():
    stranger = NoteSigner("log.example/other", bytes(32))
    with pytest.raises(
        UnknownOrigin, match=r"expected a log of log\.example/other, found 'log\.example/test'"
    ):
        verify_challenge(challenge(0, 3), [stranger.vkey], None)


def test_without_any_key_every_origin_is_unknown():
    with pytest.raises(UnknownOrigin, match="expected a log of which a key is given"):
        verify_challenge(challenge(0, 3), [], None)


def test_a_head_signed_by_another_key_of_the_same_name_is_refused():
    forger = NoteSigner(LOG.name, bytes(32))
    with pytest.raises(BadSignature, match=r"expected a signature by log\.example/test"):
        verify_challenge(challenge(0, 3, signer=forger), [LOG.vkey], None)


def test_a_flipped_bit_in_the_signature_is_refused():
    shown = challenge(0, 3)
    note = shown.note.replace(b"\n3\n", b"\n4\n")
    with pytest.raises(BadSignature, match="does not fit the signed bytes"):
        verify_challenge(Challenge(0, (), note), [LOG.vkey], None)


def test_an_old_size_above_the_new_one_is_refused():
    with pytest.raises(OldBeyondNew, match="expected an old size of at most 3, found 4"):
        verify_challenge(Challenge(4, (), challenge(0, 3).note), [LOG.vkey], head(4))


@pytest.mark.parametrize(("old", "latest"), [(0, 5), (3, 5), (3, 0), (6, 5)])
def test_an_old_size_that_is_not_my_latest_is_refused_and_mine_is_said(old, latest):
    mine = head(latest) if latest else None
    with pytest.raises(NotLatest, match=rf"old size {old} is not my latest \(mine is {latest}\)"):
        verify_challenge(challenge(old, 9), [LOG.vkey], mine)


def test_a_log_set_back_is_refused_with_the_size_that_it_had():
    """Set back from 9 to 5 entries, then grown to 7: it has no proof from 9, and none from 5 counts."""
    with pytest.raises(NotLatest, match="mine is 9"):
        verify_challenge(challenge(5, 7), [LOG.vkey], head(9))
    with pytest.raises(OldBeyondNew):
        verify_challenge(Challenge(9, (), challenge(5, 7).note), [LOG.vkey], head(9))


@pytest.mark.parametrize(("old", "new"), [(1, 2), (3, 9), (8, 9), (8, 16)])
def test_a_fork_is_refused_whatever_proof_comes_with_it(old, new):
    for shown in (proof(old, new, b"b"), proof(old, new), ()):
        forked = Challenge(old, shown, sign_tree_head(head(new, b"b"), LOG))
        with pytest.raises(Invalid, match="consistency proof"):
            verify_challenge(forked, [LOG.vkey], head(old))


def test_another_root_at_the_same_size_is_refused():
    with pytest.raises(Invalid, match="sizes 5 and 5 need no hashes and root"):
        verify_challenge(challenge(5, 5, b"b"), [LOG.vkey], head(5))


def test_a_first_head_with_a_proof_is_refused():
    shown = challenge(0, 3)
    with pytest.raises(Invalid, match="sizes 0 and 3 need no hashes"):
        verify_challenge(Challenge(0, (bytes(32),), shown.note), [LOG.vkey], None)


def test_a_later_key_of_the_log_may_be_given_beside_the_first():
    later = NoteSigner(LOG.name, bytes([3]) * 32)
    shown = challenge(3, 9, signer=later)
    assert verify_challenge(shown, [LOG.vkey, later.vkey], head(3)) == head(9)
    with pytest.raises(BadSignature):
        verify_challenge(shown, [LOG.vkey], head(3))


# ---- the body ------------------------------------------------------------------------------------------


def test_the_body_is_that_of_add_checkpoint():
    """The example of C2SP tlog-witness v1.0.0, whose log key is not published: its form is read."""
    body = (
        "old 20852014\n"
        "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n"
        "jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n"
        "5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n"
        "/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n"
        "\n"
        "example.com/behind-the-sofa\n"
        "20852163\n"
        "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
        "\n"
        "\u2014 example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1"
        "gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    ).encode()
    shown = parse_challenge(body)
    assert (shown.old, len(shown.proof), origin_of(shown)) == (20852014, 4, "example.com/behind-the-sofa")
    assert format_challenge(shown) == body


@given(old=st.integers(0, 2**63 - 1), nodes=st.lists(hashes, max_size=63))
def test_a_challenge_reads_back_as_written(old, nodes):
    written = Challenge(old, tuple(nodes), sign_tree_head(head(3), LOG))
    assert parse_challenge(format_challenge(written)) == written


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "expected 'old SIZE'"),
        (b"old 1\n", "expected 'old SIZE'"),
        (b"new 1\n\nnote", "expected 'old SIZE'"),
        (b"old 01\n\nnote", "leading zeros"),
        (b"old -1\n\nnote", "leading zeros"),
        (b"old 9223372036854775808\n\nnote", "decimal number"),
        (b"old 1\nAA==\n\nnote", "hashes of 32 bytes"),
        (b"old 1\n*\n\nnote", "expected base64"),
        (b"old 1\n" + b"A" * 43 + b"=\n" * 64 + b"\nnote", "at most 63 proof lines"),
        (b"old \xff\n\nnote", "expected ASCII"),
        (b"x" * (MAX_CHALLENGE_BYTES + 1), "at most"),
    ],
)
def test_a_malformed_body_is_refused_with_the_reason(body, reason):
    with pytest.raises(Malformed, match=reason):
        parse_challenge(body)


@given(st.binary(max_size=300))
@example(b"old 0\n\n")
@example(b"old 0\n\n\n\n")
def test_rubbish_is_malformed_and_nothing_else(data):
    try:
        shown = parse_challenge(data)
        origin_of(shown)
    except Malformed:
        return
    assert format_challenge(shown) == data


def test_every_flipped_byte_and_every_truncation_is_refused_or_says_the_same():
    body = format_challenge(challenge(3, 9))
    for index in range(len(body)):
        for changed in (body[:index], body[:index] + bytes([body[index] ^ 1]) + body[index + 1 :]):
            with pytest.raises(AuditError):
                verify_challenge(parse_challenge(changed), [LOG.vkey], head(3))
    assert verify_challenge(parse_challenge(body), [LOG.vkey], head(3)) == head(9)


# ---- cosignatures ----------------------------------------------------------------------------------------


def cosigned(count=9, *cosigners, seconds=NOW):
    note = sign_tree_head(head(count), LOG)
    return note + b"".join(each.cosign(head(count), seconds).text.encode() for each in cosigners)


def test_a_cosignature_is_what_the_specification_says_made_with_another_library():
    """Message, key id and line computed here from C2SP tlog-cosignature, signed by `cryptography`."""
    private = Ed25519PrivateKey.from_private_bytes(bytes([7]) * 32)
    public = private.public_key().public_bytes_raw()
    name = WITNESS.vkey.name
    key_id = hashlib.sha256(name.encode() + b"\n\x04" + public).digest()[:4]
    message = f"cosignature/v1\ntime {NOW}\n{head(9).text}".encode()
    line = WITNESS.cosign(head(9), NOW)
    assert (line.name, line.key_id) == (name, key_id)
    assert line.blob == NOW.to_bytes(8, "big") + private.sign(message)
    assert WITNESS.vkey == VerifierKey(name, 4, public)
    assert VerifierKey.parse(WITNESS.vkey.text) == WITNESS.vkey


def test_each_witness_counts_once_with_its_newest_time():
    note = cosigned(9, WITNESS, OTHER) + WITNESS.cosign(head(9), NOW + 5).text.encode()
    note += WITNESS.cosign(head(9), NOW + 2).text.encode()
    found = verify_cosignatures(note, [WITNESS.vkey, OTHER.vkey])
    assert {(each.witness.name, each.seconds) for each in found} == {
        ("witness.example/w", NOW + 5),
        ("witness.example/other", NOW),
    }


def test_one_key_under_two_names_is_one_witness():
    twin = Cosigner.from_seed("witness.example/twin", bytes([7]) * 32)
    note = cosigned(9, WITNESS, twin)
    with pytest.raises(BadSignature, match="expected cosignatures by 2 of 2 witnesses, found"):
        demand_quorum(note, [WITNESS.vkey, twin.vkey], 2)


def test_a_quorum_is_counted_over_one_head():
    keys = [WITNESS.vkey, OTHER.vkey]
    assert len(demand_quorum(cosigned(9, WITNESS, OTHER), keys, 2)) == 2
    with pytest.raises(BadSignature, match=r"by 2 of 2 witnesses, found witness\.example/w"):
        demand_quorum(cosigned(9, WITNESS), keys, 2)
    with pytest.raises(BadSignature, match="by 1 of 2 witnesses, found nobody"):
        demand_quorum(cosigned(9), keys, 1)


def test_the_logs_own_key_is_no_witness():
    assert verify_cosignatures(cosigned(9), [LOG.vkey]) == ()


def test_a_cosignature_of_another_head_is_refused():
    moved = cosigned(9) + WITNESS.cosign(head(8), NOW).text.encode()
    with pytest.raises(BadSignature, match=r"signature by witness\.example/w does not fit"):
        verify_cosignatures(moved, [WITNESS.vkey])


def test_a_time_that_was_moved_is_refused():
    line = WITNESS.cosign(head(9), NOW)
    later = type(line)(line.name, line.key_id, (NOW + 1).to_bytes(8, "big") + line.blob[8:])
    with pytest.raises(BadSignature, match="does not fit"):
        verify_cosignatures(cosigned(9) + later.text.encode(), [WITNESS.vkey])


def test_a_note_signature_is_no_cosignature():
    """The same key under type 0x01 has another id: what it signed as one never counts as the other."""
    plain = NoteSigner(WITNESS.vkey.name, bytes([7]) * 32)
    line = SignatureLine(plain.name, plain.vkey.key_id, plain.sign(head(9).text.encode()))
    assert verify_cosignatures(cosigned(9) + line.text.encode(), [WITNESS.vkey]) == ()
    posing = SignatureLine(plain.name, WITNESS.vkey.key_id, line.blob)
    with pytest.raises(BadSignature, match="expected 72 bytes, found 64"):
        verify_cosignatures(cosigned(9) + posing.text.encode(), [WITNESS.vkey])


@pytest.mark.parametrize("seconds", [-1, 2**63])
def test_a_time_out_of_range_is_not_signed(seconds):
    with pytest.raises(Malformed, match=r"expected a time from 0 to 2\^63 - 1"):
        WITNESS.cosign(head(9), seconds)


def test_an_answer_is_merged_into_the_head_that_it_is_about():
    answer = b"".join(
        each.cosign(head(9), NOW).text.encode()
        for each in (WITNESS, Cosigner.from_seed("witness.example/stranger", bytes([9]) * 32))
    )
    merged = merge_cosignatures(cosigned(9, OTHER), answer, [WITNESS.vkey, OTHER.vkey])
    assert merged == cosigned(9, OTHER, WITNESS)


def test_a_newer_answer_replaces_the_older_one():
    keys = [WITNESS.vkey]
    once = merge_cosignatures(cosigned(9), WITNESS.cosign(head(9), NOW).text.encode(), keys)
    again = merge_cosignatures(once, WITNESS.cosign(head(9), NOW + 9).text.encode(), keys)
    assert again == cosigned(9, WITNESS, seconds=NOW + 9)


def test_an_answer_for_another_head_or_by_nobody_enrolled_is_refused():
    answer = WITNESS.cosign(head(8), NOW).text.encode()
    with pytest.raises(BadSignature, match="does not fit"):
        merge_cosignatures(cosigned(9), answer, [WITNESS.vkey])
    with pytest.raises(BadSignature, match=r"expected one by witness\.example/other, found none"):
        merge_cosignatures(cosigned(9), answer, [OTHER.vkey])
    with pytest.raises(BadSignature, match="but none is enrolled"):
        merge_cosignatures(cosigned(9), answer, [])


def test_every_flipped_byte_and_every_truncation_of_an_answer_is_refused():
    answer = WITNESS.cosign(head(9), NOW).text.encode()
    for index in range(len(answer)):
        for changed in (answer[:index], answer[:index] + bytes([answer[index] ^ 1]) + answer[index + 1 :]):
            with pytest.raises(AuditError):
                merge_cosignatures(cosigned(9), changed, [WITNESS.vkey])


def test_a_witness_key_reads_back_as_written_and_shows_no_secret():
    again = Cosigner.parse(WITNESS.text + "\n")
    assert again.vkey == WITNESS.vkey
    assert again.text == WITNESS.text
    assert "07070707" not in repr(WITNESS)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "PRIVATE+KEY+",
        "PRIVATE+KEY+name+00000000+AAAA",
        WITNESS.text.removeprefix("PRIVATE+KEY+"),
        WITNESS.text.replace("witness.example/w", "witness.example/v"),
        WITNESS.text[:-8],
        WITNESS.text + "\n\n",
        WITNESS.vkey.text,
        "PRIVATE+KEY+a+00000000+*",
    ],
)
def test_a_wrong_key_file_is_refused_without_quoting_it(text):
    with pytest.raises(Malformed, match="expected one line") as refused:
        Cosigner.parse(text)
    assert "BwcH" not in str(refused.value)


def test_the_outcomes_have_codes_that_differ():
    classes = (Invalid, BadSignature, NotLatest, UnknownOrigin, OldBeyondNew)
    assert len({error.exit_code for error in classes}) == len(classes)
    assert json.dumps([error.exit_code for error in classes]) == "[6, 7, 9, 11, 12]"
