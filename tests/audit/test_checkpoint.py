from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.checkpoint import TreeHead, sign_tree_head, verify_tree_head
from audit.errors import Invalid, Malformed
from audit.merkle import EMPTY_ROOT
from audit.note import NoteSigner, sign_note

ROOT = base64.b64encode(bytes(32)).decode()


@given(st.integers(1, 2**63 - 1), st.binary(min_size=32, max_size=32))
def test_a_tree_head_and_its_text_are_inverses(size, root):
    head = TreeHead("log.example/one", size, root)
    assert TreeHead.parse(head.text) == head


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "three lines"),
        (f"origin\n3\n{ROOT}", "three lines"),
        (f"\n3\n{ROOT}\n", "three lines"),
        (f"origin\n3\n{ROOT}\nextension\n", "three lines"),
        (f"origin\n03\n{ROOT}\n", "leading zeros"),
        (f"origin\n-3\n{ROOT}\n", "leading zeros"),
        (f"origin\n٣\n{ROOT}\n", "leading zeros"),
        (f"origin\n9223372036854775808\n{ROOT}\n", "leading zeros"),
        (f"origin\n99999999999999999999\n{ROOT}\n", "leading zeros"),
        ("origin\n3\nAAAA\n", "expected 32 bytes, found 3"),
        ("origin\n3\n!\n", "expected base64"),
        (f"origin\n0\n{ROOT}\n", "empty tree"),
    ],
)
def test_a_malformed_tree_head_is_refused_with_the_reason(text, message):
    with pytest.raises(Malformed, match=message):
        TreeHead.parse(text)


def test_the_empty_tree_has_its_own_root():
    head = TreeHead("origin", 0, EMPTY_ROOT)
    assert TreeHead.parse(head.text) == head


def test_only_the_log_of_that_name_signs_its_head(signer):
    with pytest.raises(Malformed, match=r"expected the signer of that name, found log\.example/test"):
        sign_tree_head(TreeHead("another", 1, bytes(32)), signer)


def test_a_head_of_another_origin_under_the_same_key_is_refused(signer):
    note = sign_note(TreeHead("another.example", 1, bytes(32)).text, [signer])
    with pytest.raises(Invalid, match=r"expected the log log\.example/test, found one of another\.example"):
        verify_tree_head(note, signer.vkey)


def test_a_signed_head_verifies(signer):
    head = TreeHead(signer.name, 7, bytes(32))
    assert verify_tree_head(sign_tree_head(head, signer), signer.vkey) == head
    assert NoteSigner(signer.name, signer.seed).vkey == signer.vkey
