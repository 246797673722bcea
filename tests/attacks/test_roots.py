"""A root that travels with a bundle is followed only where its bearer may import."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from appliance.bundle.create import create_bundle
from appliance.bundle.names import TOML
from appliance.bundle.root import (
    COURIER,
    RELEASE,
    RESEARCHER,
    ROOT,
    Role,
    Root,
    add_signature,
    unsigned_envelope,
)
from appliance.bundle.signer import SignerKey
from appliance.bundle.stream import bytes_member
from appliance.custodian.core import Core
from appliance.custodian.imports import import_bundle
from appliance.custodian.workers import Worker
from appliance.errors import PolicyRefused
from appliance.ledger import ROOT_CHANGED
from policy.model import Entity
from tests.simulator import Simulator

KEYS = {name: SignerKey.from_seed(name, bytes([number]) * 32) for number, name in enumerate("abc", 1)}


def role(names, threshold=1):
    return Role(tuple(KEYS[name].vkey for name in names), threshold)


FIRST = Root(1, {ROOT: role("a"), RESEARCHER: role("b"), RELEASE: role(""), COURIER: role("")}, ())
SECOND = replace(FIRST, version=2, roles={**FIRST.roles, RESEARCHER: role("bc")})
ROOTS = [add_signature(unsigned_envelope(root), KEYS["a"]) for root in (FIRST, SECOND)]


class NoWorker(Exception):
    """No worker is started here: whoever comes so far was let in."""


@pytest.fixture
def rooted(tmp_path, monkeypatch):
    async def start(*_, **__):
        raise NoWorker

    monkeypatch.setattr(Worker, "start", start)
    sim = Simulator(tmp_path / "sim", trust_root=ROOTS[0].decode("ascii"))
    yield sim
    sim.close()


def bring(sim, folder, person):
    core: Core = sim.core
    made = create_bundle(
        [bytes_member("config/tiny.toml", TOML, b"a = 1\n")],
        kind="config",
        to=core.facts.transfer_recipient,
        sign=KEYS["b"],
        roots=ROOTS,
        out_dir=folder,
        channel="lab",
        now=datetime.now(UTC),
    )
    fd = os.open(made, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return asyncio.run(import_bundle(core, {}, person, fd))


def test_a_person_without_the_right_to_import_moves_no_root(rooted, tmp_path):
    stranger = Entity("Person", "mallory", {"roles": (), "compartments": ()})
    with pytest.raises(PolicyRefused):
        bring(rooted, tmp_path, stranger)
    assert not rooted.core.ledger.roots
    assert all(ROOT_CHANGED.encode("ascii") not in entry for entry in rooted.core.log.entries())


def test_a_person_with_it_moves_the_root(rooted, tmp_path):
    with pytest.raises(NoWorker):
        bring(rooted, tmp_path, rooted.core.person(os.getuid()))
    assert [root.encode("ascii") for root in rooted.core.ledger.roots] == ROOTS[1:]
