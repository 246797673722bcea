"""Shredding: two officers, no wrap left, old headers shut, a failing read, a tombstone that adds up."""

from __future__ import annotations

import asyncio
import shutil

import pytest

from appliance.custodian import shredding, vault_rotation
from appliance.custodian.requests import Asked, make_request
from appliance.custodian.shredding import PROVED, Shredded, shred
from appliance.errors import Busy, IntegrityError, PolicyRefused, ReplayRefused, SealedError, UnknownObject
from appliance.exchange import HeaderExchange
from appliance.gate import NamedObject
from appliance.inventory import KEY_BEGUN, KEY_ROTATED, SHREDDED
from appliance.rebuild import rebuild_catalog
from appliance.restore import restore


class Died(BaseException):
    """The process ends here."""


@pytest.fixture
def family(sim):
    """A config, two versions of weights made of it, and something made of the second."""
    config = sim.add("config", "tiny", b"[model]")
    first = sim.add("weights", "tiny", b"first", [config])
    second = sim.add("weights", "tiny", b"second", [config])
    return config, first, second, sim.add("weights", "child", b"child", [second])


def asked(sim, row, *officers):
    """A request to shred this object, signed by these officers."""
    name = f"{row.kind}/{row.name}@{row.version}"
    made = make_request(
        sim.core, sim.operator, Asked("shred", (name,), (), {}), reason="not needed", valid_hours=24
    )
    sim.approve(made.document, *officers)
    return made.document


def carry_out(sim, row, request):
    async def run():
        return [told async for told in shred(sim.core, sim.operator, row.id, request)]

    return asyncio.run(run())[-1]


def test_a_shredded_object_is_shut_for_good_and_everything_else_stands(sim, family):
    config, first, second, child = family
    old_header = sim.core.vault.header(second.id)
    request = asked(sim, second, "alice", "bob")
    before = sim.core.log.size
    done = carry_out(sim, second, request)
    kinds = [entry.kind for entry in sim.entries(before)]
    assert kinds == [
        *("decision", "decision", "request-used"),
        *(SHREDDED, KEY_BEGUN, KEY_ROTATED, "decision", PROVED),
    ]
    refusal = sim.entries()[-2]
    assert (refusal.decision.allow, refusal.decision.reasons) == (False, ("object-shredded",))
    assert isinstance(done, Shredded)
    assert (done.object_id, done.entry, done.descendants) == (second.id, before + 3, 1)
    assert sim.entries()[-1].context["refusal"] == refusal.seq
    assert not sim.folder_of(second).exists()
    assert not sim.core.custody.opens(old_header)
    row = sim.core.catalog.get(second.id)
    assert (row.state, row.parents) == ("shredded", (config.id,))
    assert sim.core.catalog.tombstones()[0].log_index == done.entry
    for _ in range(2):
        assert sim.core.catalog.find("weights", "tiny") == first
        assert sim.read(first) == b"first"
        assert sim.read(child) == b"child"
        assert sim.core.missing == sim.core.orphans == ()
        assert not any("shredded" in text for text in sim.core.warnings())
        sim.restart()
    sim.verify_log()
    assert sim.add("weights", "tiny", b"third").version == 3, "a number is never given twice"


def test_a_shredded_object_is_denied_wherever_a_request_names_it(sim, family, tmp_path):
    config, first, second, _ = family
    kept = shutil.copytree(sim.folder_of(second), tmp_path / "kept")
    carry_out(sim, second, asked(sim, second, "alice", "bob"))
    stale = asked(sim, first, "alice", "bob")
    for restored in (False, True):
        with sim.refused(PolicyRefused, "may not request weights tiny: object-shredded", ["deny request"]):
            asked(sim, second)
        with sim.refused(PolicyRefused, "may not train config tiny: object-shredded", ["deny train"]):
            sim.core.gate.request(sim.operator, "train", config, job="t", named=[config.id, second.id])
        with sim.refused(PolicyRefused, "object-shredded", ["deny sample"]):
            sim.ask("sample", sim.core.catalog.get(second.id))
        if not restored:  # an old copy of its folder is back: nothing of the above becomes another answer
            shutil.copytree(kept, sim.folder_of(second))
            sim.restart()
    assert not sim.core.custody.opens((kept / "header").read_bytes())
    assert sim.ask("sample", NamedObject("weights", "tiny")).object_id == first.id

    # The row of an object that officers approved is gone: approved or not, it is named by nothing any more.
    sim.edit_catalog("DELETE FROM objects WHERE id = ?", first.id)
    with sim.refused(UnknownObject, "expected it in the catalog"):
        carry_out(sim, first, stale)
    with sim.refused(UnknownObject, "train: there is no", ["deny train"]):
        sim.core.gate.request(sim.operator, "train", config, job="t", named=[config.id, first.id])


@pytest.mark.parametrize("officers", [(), ("alice",), ("alice", "alice")])
def test_one_officer_is_not_enough(sim, family, officers):
    request = asked(sim, family[2], *officers[:1])
    with sim.refused(PolicyRefused, "may not shred weights tiny: .*", ["deny shred"]):
        carry_out(sim, family[2], request)
    assert sim.read(family[2]) == b"second"


def test_a_request_is_for_one_object_and_used_once(sim, family):
    request = asked(sim, family[2], "alice", "bob")
    with sim.refused(PolicyRefused, "is for shred .*: ask for what you mean"):
        carry_out(sim, family[1], request)
    carry_out(sim, family[2], request)
    with sim.refused(UnknownObject, "was shredded already"):
        carry_out(sim, family[2], request)
    with pytest.raises(ReplayRefused):
        shredding.demand_approved(sim.core, request, shredding.shred_of(family[2]))


def test_an_object_whose_key_a_job_holds_is_not_shredded(sim, family):
    grant = sim.use(family[2], job="train-7")
    sim.core.custody.unwrap(grant)
    request = asked(sim, family[2], "alice", "bob")
    with sim.refused(Busy, "job train-7 holds the key of weights tiny: end it with `appliance stop` first"):
        carry_out(sim, family[2], request)
    sim.core.live.revoke_job("train-7")
    carry_out(sim, family[2], request)


def test_a_sealed_vault_and_an_unknown_object(sim, family):
    request = asked(sim, family[2], "alice", "bob")
    with sim.refused(UnknownObject, "expected it in the catalog"):
        carry_out(sim, sim.forge(family[2], id="f" * 64), request)
    sim.seal()
    with pytest.raises((SealedError, PolicyRefused)):
        carry_out(sim, family[2], request)
    assert sim.folder_of(family[2]).exists()


@pytest.mark.parametrize(
    ("where", "name"),
    [
        (shredding, "use"),
        (shredding, "repeat"),
        ("vault", "remove"),
        (vault_rotation, "reseal_keyring"),
        (HeaderExchange, "put"),
        (vault_rotation, "_end"),
        (shredding, "what_remains"),
    ],
)
def test_a_crash_anywhere_is_finished_by_a_rotation_or_changed_nothing(sim, family, monkeypatch, where, name):
    second = family[2]
    old_header = sim.core.vault.header(second.id)
    request = asked(sim, second, "alice", "bob")

    def die(*_, **__):
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(sim.core.vault if where == "vault" else where, name, die)
        patched.setattr(HeaderExchange, "discard", lambda _: None)
        with pytest.raises(Died):
            carry_out(sim, second, request)
    sim.crash()
    sim.start()
    sim.unseal()
    for row, text in ((family[0], b"[model]"), (family[3], b"child")):
        assert sim.read(row) == text
    if name == "use":
        assert sim.read(second) == b"second"
        return
    assert sim.read(family[1]) == b"first"
    assert not sim.folder_of(second).exists()
    assert sim.core.catalog.get(second.id).state == "shredded"
    if name != "what_remains":
        assert any("finish" in text and "`appliance keys rotate`" in text for text in sim.core.warnings())

        async def rotate():
            return [told async for told in vault_rotation.rotate_vault_key(sim.core, sim.operator, "")]

        asyncio.run(rotate())
    assert not sim.core.custody.opens(old_header)
    assert sim.core.inventory.open_shreddings == 0
    assert not any("keys rotate" in text for text in sim.core.warnings())


def test_a_rotation_that_one_damaged_header_stops_is_ended_by_shredding_that_object(sim, family):
    second = family[2]
    sim.flip_byte(sim.folder_of(second) / "header", 60)

    async def rotate():
        return [told async for told in vault_rotation.rotate_vault_key(sim.core, sim.operator, "")]

    with pytest.raises(IntegrityError, match="header"):
        asyncio.run(rotate())
    assert sim.core.inventory.next_recipient is not None
    before = sim.core.log.size
    carry_out(sim, second, asked(sim, second, "alice", "bob"))
    kinds = [entry.kind for entry in sim.entries(before) if entry.kind.startswith("vault-key")]
    assert kinds == [KEY_ROTATED, KEY_BEGUN, KEY_ROTATED], "the one that began before it would still open it"
    assert sim.core.inventory.open_shreddings == 0
    assert sim.read(family[3]) == b"child"


def test_an_object_that_is_lost_can_be_shredded_so_that_rotations_go_on(sim, family):
    shutil.rmtree(sim.folder_of(family[2]))
    sim.restart()
    request = asked(sim, family[2], "alice", "bob")
    carry_out(sim, family[2], request)
    assert sim.core.missing == ()


def test_what_would_still_open_it_is_listed(sim, family):
    sim.core.gate.outcome(
        "backup-made", "Person:operator", "backup", "Appliance:x", {"name": "stick-7", "bytes": 9}
    )
    sim.core.gate.request(sim.operator, "configure", sim.thing(), {"setting": "recover-identity"})
    done = carry_out(sim, family[2], asked(sim, family[2], "alice", "bob"))
    sim.core.gate.outcome(
        "backup-made", "Person:operator", "backup", "Appliance:x", {"name": "later", "bytes": 9}
    )
    assert [each.what for each in done.remains] == ["backup", "vault identity"]
    assert "stick-7 of 2" in done.remains[0].detail
    assert done.remains[1].detail.startswith("printed for Person:operator at")


def test_a_folder_or_a_header_put_back_opens_nothing(sim, family):
    shutil.copytree(sim.folder_of(family[2]), sim.folder / "kept")
    carry_out(sim, family[2], asked(sim, family[2], "alice", "bob"))
    shutil.copytree(sim.folder / "kept", sim.folder_of(family[2]))
    with sim.refused(PolicyRefused, "object-shredded", ["deny use"]):
        sim.core.gate.request(
            shredding.job_entity("train-1", "operator", "train", [family[2].id]),
            *("use", sim.core.catalog.get(family[2].id)),
        )
    sim.restart()
    assert not sim.folder_of(family[2]).exists(), "the next start removes it"


def test_a_tombstone_taken_out_of_the_catalog_is_missed_and_comes_back(sim, family):
    carry_out(sim, family[2], asked(sim, family[2], "alice", "bob"))
    sim.stop()
    sim.start()
    sim.stop()
    sim.edit_catalog("DELETE FROM tombstones")
    sim.edit_catalog("UPDATE objects SET state = 'ready'")
    sim.refuses_to_start(
        IntegrityError, f"it lacks 1 that the log tells of, first object-shredded {family[2].id}"
    )
    rebuild_catalog(sim.home)
    sim.start()
    sim.unseal()
    assert sim.core.catalog.get(family[2].id).state == "shredded"


def test_a_state_set_back_in_a_running_catalog_opens_nothing(sim, family):
    carry_out(sim, family[2], asked(sim, family[2], "alice", "bob"))
    sim.edit_catalog("UPDATE objects SET state = 'ready'")
    with sim.refused(IntegrityError, "catalog-differs-from-log", ["deny sample"]):
        sim.ask("sample", NamedObject("weights", "tiny"))


def test_a_restored_appliance_keeps_tombstones_and_the_newest_key(sim, family, tmp_path):
    carry_out(sim, family[2], asked(sim, family[2], "alice", "bob"))
    sim.stop()
    restore(sim.home.root, tmp_path / "restored")
    sim.home = type(sim.home)(tmp_path / "restored")
    sim.start()
    sim.unseal()
    assert sim.core.catalog.get(family[2].id).state == "shredded"
    assert sim.read(family[1]) == b"first"
    assert sim.core.missing == ()
    assert not any("keys rotate" in text for text in sim.core.warnings())


def test_an_identity_revealed_before_the_object_was_made_remains_too(sim):
    sim.core.gate.request(sim.operator, "configure", sim.thing(), {"setting": "recover-identity"})
    row = sim.add("weights", "later", b"later")
    done = carry_out(sim, row, asked(sim, row, "alice", "bob"))
    assert [each.what for each in done.remains] == ["vault identity"]


def test_the_only_object_is_shredded_to_the_end(sim):
    row = sim.add("weights", "only", b"only")
    old_header = sim.core.vault.header(row.id)
    carry_out(sim, row, asked(sim, row, "alice", "bob"))
    assert not sim.core.custody.opens(old_header)
    assert (sim.core.inventory.next_recipient, sim.core.inventory.open_shreddings) == (None, 0)
