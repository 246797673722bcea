"""An appliance that follows a root: a key that a version leaves out, or a bundle it revokes, stays out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes.conftest import Template, checked
from tests.processes.living import PYTHON, Living

pytestmark = pytest.mark.processes

APPLIANCE = (*PYTHON, "appliance")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Three keys of the root, of which two sign; one researcher at first, another later."""
    (tmp_path / "why.txt").write_text("A laptop was stolen.\n")
    for name in ("ann", "bob", "cem", "first", "later", "courier"):
        checked(*APPLIANCE, "keygen", "signer", name, "--out", tmp_path)
    roles = ("--role", "root=2:ann.vkey,bob.vkey,cem.vkey", "--role", "researcher=1:first.vkey")
    roles = (*roles, "--role", "courier=1:courier.vkey")
    checked(*APPLIANCE, "root", "create", *roles, "--out", "r0001.json", cwd=tmp_path)
    sign_root(tmp_path, "r0001.json")
    return tmp_path


def sign_root(keys: Path, name: str) -> None:
    for signer in ("ann", "cem"):
        checked(*APPLIANCE, "root", "sign", name, "--sign", f"{signer}.key", cwd=keys)


@pytest.fixture
def rooted(keys: Path) -> Iterator[Living]:
    home = keys / "home"
    checked(
        *(*APPLIANCE, "--home", home, "init", "--profile", "development", "--custody", "file:"),
        *("--trust-root", keys / "r0001.json", "--person", f"{os.getuid()}=carol"),
        *("--public", keys / "public", "--yes"),
    )
    appliance = Living(home, keys / "public")
    yield appliance
    appliance.kill()


def bundle(template: Template, keys: Path, signer: str, seq: int, *roots: str) -> Path:
    made = checked(
        *(*APPLIANCE, "bundle", "create", template.folder / "tiny.toml", "--to", "public/transfer.recipient"),
        *("--sign", f"{signer}.key", "--channel", "lab", "--seq", seq, "--out", ".", "--json"),
        *[word for name in roots for word in ("--root", name)],
        cwd=keys,
    )
    return keys / json.loads(made)["bundle"]


def test_a_root_is_followed_and_stays_followed(rooted: Living, keys: Path, template: Template):
    rooted.start().unseal()
    good, revoked = bundle(template, keys, "first", 1), bundle(template, keys, "first", 5)
    assert rooted.cli("import", good).returncode == 0
    refused = rooted.cli("import", bundle(template, keys, "later", 2))
    assert refused.returncode == 7, refused.stderr
    shown = json.loads(checked(*APPLIANCE, "bundle", "inspect", revoked, "--json"))
    checked(
        *(*APPLIANCE, "root", "create", "--after", "r0001.json", "--role", "researcher=1:later.vkey"),
        *("--revoke", shown["digest"], "--out", "r0002.json"),
        cwd=keys,
    )
    unsigned = bundle(template, keys, "later", 3, "r0001.json", "r0002.json")
    assert rooted.cli("import", unsigned).returncode == 7
    sign_root(keys, "r0002.json")
    notice = checked(
        *(*APPLIANCE, "bundle", "create", "why.txt", "--kind", "revocation", "--sign", "courier.key"),
        *("--to", "public/transfer.recipient", "--root", "r0001.json", "--root", "r0002.json"),
        *("--out", ".", "--json"),
        cwd=keys,
    )
    brought = rooted.cli("import", keys / json.loads(notice)["bundle"])
    assert brought.returncode == 0, brought.stderr
    assert rooted.cli("import", bundle(template, keys, "later", 4)).returncode == 0
    rooted.shutdown()
    rooted.start().unseal()
    assert rooted.cli("import", bundle(template, keys, "first", 6)).returncode == 7
    checked(
        *(*APPLIANCE, "root", "create", "--after", "r0002.json", "--role", "researcher=1:first.vkey"),
        *("--out", "r0003.json"),
        cwd=keys,
    )
    sign_root(keys, "r0003.json")
    three = ("r0001.json", "r0002.json", "r0003.json")
    assert rooted.cli("import", bundle(template, keys, "first", 7, *three)).returncode == 0
    said = rooted.cli("import", revoked)
    assert said.returncode == 10, said.stderr
    assert "revoked by version 3" in said.stderr
    rooted.shutdown()
    rooted.demand_sound_log()
