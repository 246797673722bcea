"""Every payload is read and held against its entry; what is missing, altered or left over is named."""

from __future__ import annotations

import asyncio
import shutil

import pytest

from appliance.custodian import verifying
from appliance.custodian.verifying import verify_objects


@pytest.fixture
def three(sim):
    return [sim.add("weights", f"w{number}", bytes([number]) * 100_000) for number in range(3)]


def verify(sim, *rows):
    async def run():
        return [told async for told in verify_objects(sim.core, rows or sim.core.catalog.list())]

    return asyncio.run(run())


def findings(sim):
    return {told.about.partition(" ")[0]: told.finding for told in verify(sim) if told.finding}


def test_a_sound_vault_has_no_findings_and_the_progress_adds_up(sim, three, monkeypatch):
    monkeypatch.setattr(verifying, "STRETCH", 40_000)
    monkeypatch.setattr(verifying, "_READ", 40_000)
    told = verify(sim)
    assert not any(each.finding for each in told)
    assert (told[-1].objects, told[-1].done_bytes) == (3, told[-1].total_bytes)
    assert told[-1].total_bytes == sum((sim.folder_of(row) / "payload").stat().st_size for row in three)
    assert [each.done_bytes for each in told] == sorted(each.done_bytes for each in told)
    assert len(told) > 9, "a long payload is told of on the way"
    assert verify(sim, three[1])[-1].objects == 1


def test_it_works_while_sealed(sim, three):
    sim.seal()
    assert findings(sim) == {}


@pytest.mark.parametrize(
    ("harm", "found"),
    [
        (lambda folder: (folder / "payload").unlink(), "expected a file payload"),
        (lambda folder: (folder / "header").unlink(), "expected a file header"),
        (shutil.rmtree, "expected it published"),
        (lambda folder: (folder / "header").write_bytes(b"not a header"), "age header, line 1"),
    ],
)
def test_what_is_missing_or_damaged_is_named_and_the_others_are_read(sim, three, harm, found):
    harm(sim.folder_of(three[1]))
    said = findings(sim)
    assert list(said) == ["weights/w1@1"]
    assert found in said["weights/w1@1"]
    assert verify(sim)[-1].objects == 3


@pytest.mark.parametrize("offset", [3, 16, 50_000, -1])
def test_a_flipped_byte_of_a_payload_is_found(sim, three, offset):
    sim.flip_byte(sim.folder_of(three[2]) / "payload", offset)
    said = findings(sim)["weights/w2@1"]
    assert ("belong to object" if offset == 3 else "its payload has SHA-256") in said
    sim.seal()
    assert "its payload has SHA-256" in findings(sim)["weights/w2@1"]


def test_a_payload_that_grew_or_shrank_is_found(sim, three):
    for row, size in ((three[0], 10), (three[1], 200_000)):
        path = sim.folder_of(row) / "payload"
        path.chmod(0o600)
        with path.open("r+b") as out:
            out.truncate(size)
    assert set(findings(sim)) == {"weights/w0@1", "weights/w1@1"}


def test_a_header_of_another_object_or_key_is_found(sim, three):
    sim.swap_headers(three[0], three[1])
    said = findings(sim)
    assert set(said) == {"weights/w0@1", "weights/w1@1"}
    assert "belong to object" in said["weights/w0@1"]
    sim.swap_headers(three[0], three[1])
    assert findings(sim) == {}


def test_a_folder_that_is_no_object_is_named_whatever_it_is_called(sim, three):
    staged = sim.stage(b"never logged")
    sim.core.vault.publish(staged.id)
    (sim.home.vault / "notes.txt").write_text("mine")
    assert set(findings(sim)) == {staged.id, "notes.txt"}


def test_a_row_that_names_another_entry_is_found(sim, three):
    sim.edit_catalog("UPDATE objects SET log_index = 0 WHERE id = ?", three[0].id)
    assert "log entry 0 did not create it" in findings(sim)["weights/w0@1"]


def test_what_was_shredded_is_not_missed(sim, three):
    sim.core.catalog.shred(three[0].id, 99, "2031-01-01T00:00:00.000000Z")
    shutil.rmtree(sim.folder_of(three[0]))
    assert findings(sim) == {}
