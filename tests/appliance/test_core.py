"""What the custodian knows: sealed or not, who asks, what the host is."""

from __future__ import annotations

import os

import pytest

from appliance.custodian.core import ISOLATION_MAX_AGE_S, job_entity
from appliance.errors import SealedError
from audit.errors import Malformed


def test_sealed_has_no_custody_and_no_commitments(sim):
    keyring = sim.core.custody.keyring
    assert not sim.core.sealed
    sim.seal()
    assert sim.core.sealed
    with pytest.raises(SealedError, match="the vault is sealed: open it with `appliance unseal`"):
        sim.core.custody  # noqa: B018  it raises
    with pytest.raises(SealedError, match="wiped from memory"):
        keyring.bundle_seed  # noqa: B018  it raises
    with pytest.raises(Malformed, match="unseal"):
        sim.core.gate.outcome("note", "Custodian:custodian", "note", "Appliance:x", {}, {"seed": 1})
    sim.core.gate.outcome("note", "Custodian:custodian", "note", "Appliance:x", {})


def test_wiping_overwrites_the_secrets_in_place(sim):
    seed = sim.core.custody.keyring.bundle_seed
    assert any(seed)
    sim.seal()
    with pytest.raises(ValueError, match="released"):
        bytes(seed)
    sim.core.wipe()


def test_the_world_is_looked_at_again_after_a_second(isolated_sim):
    sim = isolated_sim
    assert sim.core.world().isolated
    sim.plug_in_a_cable()
    sim.clock.pass_(ISOLATION_MAX_AGE_S)
    assert sim.core.world().isolated
    sim.clock.pass_(0.001)
    world = sim.core.world()
    assert (world.profile, world.isolated, world.sealed) == ("isolated", False, False)


def test_a_uid_that_nobody_enrolled_has_no_role(sim):
    assert sim.core.person(os.getuid()).id == "operator"
    assert sim.core.person(os.getuid()).attrs["roles"] == ("operator",)
    stranger = sim.core.person(4242)
    assert (stranger.id, stranger.attrs["roles"]) == ("uid-4242", ())


def test_weaknesses_are_said(sim):
    said = " ".join(sim.core.warnings())
    assert "development profile: this host may be on a network" in said
    assert "vault keys lie in a file on this disk (file: custody): for demonstrations only" in said
    assert "the log key lies in a file on this disk" in said


def test_the_isolated_profile_is_no_weakness(isolated_sim):
    assert "development" not in " ".join(isolated_sim.core.warnings())


def test_a_log_that_cannot_be_written_is_not_alive(sim):
    assert sim.core.log_alive
    sim.clear_write_bits_of_the_file()
    assert not sim.core.log_alive


def test_a_job_names_its_objects_in_order(sim):
    entity = job_entity("train-1", "ada", "train", ["b", "a"], ("clinical",))
    assert (entity.type, entity.id) == ("Job", "train-1")
    assert entity.attrs == {
        "owner": "ada",
        "purpose": "train",
        "objects": ["a", "b"],
        "compartments": ("clinical",),
    }
