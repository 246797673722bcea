"""The code digest names every file of the four packages, and nothing beside them."""

from __future__ import annotations

import hashlib
import sys

import pytest

from appliance.code import PACKAGES, code_digest


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of two files; its digest is read as ours is."""
    folder = tmp_path / "digested_package"
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "inner" / "data.cedar").write_bytes(b"permit")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    sys.modules.pop("digested_package", None)


def digest():
    return code_digest(("digested_package",))


def test_it_is_the_digest_of_sorted_lines(package):
    lines = [
        f"digested_package/__init__.py {hashlib.sha256(b'').hexdigest()}\n",
        f"digested_package/inner/data.cedar {hashlib.sha256(b'permit').hexdigest()}\n",
    ]
    assert digest() == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_any_change_changes_it_and_byte_code_does_not(package):
    seen = [digest()]
    (package / "__pycache__").mkdir(exist_ok=True)
    (package / "__pycache__" / "x.pyc").write_bytes(b"compiled")
    assert digest() == seen[0]
    for change in (
        lambda: (package / "inner" / "data.cedar").write_bytes(b"forbid"),
        lambda: (package / "inner" / "data.cedar").rename(package / "inner" / "other.cedar"),
        lambda: (package / "added.so").write_bytes(b""),
        lambda: (package / "added.so").unlink() or (package / "inner" / "other.cedar").unlink(),
    ):
        change()
        seen.append(digest())
    assert len(set(seen)) == len(seen)


def test_our_own_is_the_same_each_time():
    assert code_digest() == code_digest()
    assert code_digest() != code_digest(PACKAGES[:3])
