"""Sealed objects that were exchanged or changed on the disk: no plaintext, and never another object's."""

from __future__ import annotations

import pytest

from appliance.errors import Incomplete, IntegrityError, UnknownObject
from appliance.gate import NamedObject

OTHERS = "its header and payload belong to object"


@pytest.fixture
def pair(sim):
    return sim.add("weights", "one", b"one" * 50_000), sim.add("weights", "two", b"two" * 50_000)


def test_swapped_headers(sim, pair):
    one, two = pair
    grants = [sim.use(one), sim.use(two)]
    sim.swap_headers(one, two)
    for grant in grants:
        with sim.refused(IntegrityError, f"object {grant.object_id}: {OTHERS}"):
            sim.open(grant)
    sim.swap_headers(one, two)
    assert (sim.read(one), sim.read(two)) == (b"one" * 50_000, b"two" * 50_000)


def test_swapped_payloads(sim, pair):
    grants = [sim.use(each) for each in pair]
    sim.swap_payloads(*pair)
    for grant in grants:
        with sim.refused(IntegrityError, f"object {grant.object_id}: {OTHERS}"):
            sim.open(grant)


def test_swapped_folders(sim, pair):
    one, two = pair
    grant = sim.use(one)
    sim.swap_objects(one, two)
    with sim.refused(IntegrityError, f"object {one.id}: {OTHERS} {two.id}; the folder was tampered with"):
        sim.open(grant)


def test_a_payload_swapped_behind_its_own_nonce_yields_no_byte_of_the_other(sim, pair):
    one, two = (sim.folder_of(each) / "payload" for each in pair)
    mixed = one.read_bytes()[:16] + two.read_bytes()[16:]
    one.chmod(0o600)
    one.write_bytes(mixed)
    with pytest.raises(IntegrityError, match=r"chunk 2 .*does not fit its tag"):
        sim.read(pair[0])


@pytest.mark.parametrize("offset", [0, 30, 60, 120, -1, -20])
def test_a_flipped_byte_of_a_header(sim, pair, offset):
    grant = sim.use(pair[0])
    sim.flip_byte(sim.folder_of(pair[0]) / "header", offset)
    with sim.refused(IntegrityError, "header|object"):
        sim.open(grant)


@pytest.mark.parametrize("offset", [16, 70_000, -1])
def test_a_flipped_byte_of_a_payload(sim, pair, offset):
    grant = sim.use(pair[0])
    sim.flip_byte(sim.folder_of(pair[0]) / "payload", offset)
    with pytest.raises(IntegrityError, match="does not fit its tag; it was altered, cut or moved"):
        sim.open(grant)


def test_a_flipped_byte_of_the_nonce(sim, pair):
    grant = sim.use(pair[0])
    sim.flip_byte(sim.folder_of(pair[0]) / "payload", 3)
    with sim.refused(IntegrityError, OTHERS):
        sim.open(grant)


@pytest.mark.parametrize(("left", "message"), [(5, "expected a nonce of 16 bytes"), (0, "expected a nonce")])
def test_a_payload_cut_to_almost_nothing(sim, pair, left, message):
    grant = sim.use(pair[0])
    payload = sim.folder_of(pair[0]) / "payload"
    payload.chmod(0o600)
    payload.write_bytes(payload.read_bytes()[:left])
    with sim.refused(IntegrityError, message):
        sim.open(grant)


def test_a_header_wrapped_anew_for_this_vault_with_another_key_is_another_object(sim, pair):
    """Whoever knows the vault's recipient can write valid headers; the id says they are not these objects."""
    planted = sim.core.custody.mint()
    grant = sim.use(pair[0])
    (sim.folder_of(pair[0]) / "header").write_bytes(planted.header)
    with sim.refused(IntegrityError, f"object {pair[0].id}: {OTHERS}"):
        sim.open(grant)


@pytest.mark.parametrize("name", ["header", "payload"])
def test_a_link_to_somewhere_else_is_not_followed(sim, pair, name):
    grant = sim.use(pair[0])
    path = sim.folder_of(pair[0]) / name
    target = path.rename(sim.folder / "outside")
    path.symlink_to(target)
    with sim.refused(Incomplete, f"expected a file {name}, found: Too many levels of symbolic links"):
        sim.open(grant)


def test_a_missing_object_is_known_and_incomplete(sim, pair):
    grant = sim.use(pair[0])
    sim.folder_of(pair[0]).rename(sim.folder / "gone")
    with sim.refused(UnknownObject, f"object {pair[0].id}: expected it published"):
        sim.open(grant)


def test_an_object_planted_without_an_entry_is_nobodys(sim):
    staged = sim.stage(b"planted", name="planted")
    sim.core.vault.publish(staged.id)
    with sim.refused(UnknownObject, "train: there is no weights named planted", ["deny train"]):
        sim.ask("train", NamedObject("weights", "planted"))
    sim.restart()
    assert sim.core.orphans == (staged.id,)


def test_what_was_staged_at_a_crash_is_gone_at_the_next_start(sim):
    staged = sim.stage(b"half a checkpoint")
    sim.crash()
    sim.start()
    assert not (sim.home.vault / ".incoming" / staged.id).exists()
    assert sim.core.vault.objects() == ()
