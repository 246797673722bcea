"""The catalog keeps what it is told, refuses what cannot be, and says plainly when its file is bad."""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.catalog import Approval, ApprovalRequest, Catalog, Checkpoint, LastBundle, Object
from appliance.errors import (
    AlreadyExists,
    ApplianceError,
    Busy,
    IntegrityError,
    ReplayRefused,
    SpaceExhausted,
    UnknownObject,
)

NOW = "2026-01-02T03:04:05Z"
DIGEST = "0f" * 32


def ident(number):
    return f"{number:064x}"


def thing(number, **changes):
    row = Object(
        id=ident(number),
        kind="weights",
        name="demo",
        version=number,
        size=10 * number,
        sha256=DIGEST,
        log_index=number,
        created=NOW,
    )
    return replace(row, **changes)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "catalog.db"


@pytest.fixture
def catalog(path):
    made = Catalog(path, now=lambda: NOW)
    yield made
    made.close()


def test_an_object_comes_back_as_it_was_put_in(catalog):
    first = thing(1, compartments=("secret", "eu"), meta={"note": ["x", 1]})
    second = thing(2, kind="optimizer", parents=(first.id,), job="job-1", state="staged")
    third = thing(3, name="other", parents=(second.id, first.id))
    for row in (first, second, third):
        catalog.add(row)
    assert catalog.get(first.id) == first
    assert catalog.list() == (first, second, third)
    assert catalog.list("optimizer") == (second,)
    assert catalog.get(third.id).parents == (second.id, first.id)


def test_a_name_means_its_newest_version_unless_one_is_given(catalog):
    rows = [thing(1, version=2), thing(2, version=1), thing(3, version=10)]
    for row in rows:
        catalog.add(row)
    assert catalog.find("weights", "demo") == rows[2]
    assert catalog.find("weights", "demo", 1) == rows[1]
    assert catalog.find("weights", "demo", 3) is None
    assert catalog.find("config", "demo") is None
    with pytest.raises(UnknownObject, match="expected it in the catalog, found no such id"):
        catalog.get(ident(9))


def test_no_object_is_added_twice_or_without_its_parents(catalog):
    catalog.add(thing(1))
    for twin in (thing(1), thing(2, version=1), thing(3, log_index=1)):
        with pytest.raises(AlreadyExists, match="expected a new row, found one that is there"):
            catalog.add(twin)
    with pytest.raises(UnknownObject, match="expected every object, job and request named to exist"):
        catalog.add(thing(4, parents=(ident(1), ident(99))))
    assert catalog.list() == (thing(1),)  # the half-added child is gone with its parent


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "xyz"}, "object id: expected 64 lower-case hex digits, found 'xyz'"),
        ({"sha256": "AB" * 32}, "object sha256: expected 64"),
        ({"kind": "thing"}, "object kind: expected one of weights, .*found 'thing'"),
        ({"state": "gone"}, "object state: expected one of ready, staged"),
        ({"version": 0}, "object version: expected an integer of at least 1, found 0"),
        ({"size": -1}, "object size: expected an integer of at least 0"),
        ({"size": True}, "object size: expected an integer of at least 0, found True"),
        ({"log_index": "3"}, "object log index: expected an integer"),
    ],
)
def test_a_row_that_cannot_be_is_never_made(change, message):
    with pytest.raises(IntegrityError, match=message):
        thing(1, **change)


def test_a_job_is_followed_from_queue_to_result(catalog):
    for number in range(1, 6):
        catalog.add(thing(number))
    job = catalog.add_job(id="job-1", name="demo", owner="ann", config=ident(1), log_index=7, steps=20)
    assert (job.state, job.created, job.checkpoints) == ("queued", NOW, ())
    catalog.add_job(id="job-0", name="later", owner="bob", config=ident(1), log_index=8)
    catalog.set_job("job-1", state="running")
    catalog.add_corpus("job-1", ident(2))
    catalog.add_checkpoint("job-1", 10, ident(3), ident(4))
    catalog.add_result("job-1", ident(3))
    catalog.add_result("job-1", ident(5))
    catalog.set_job("job-1", state="failed", reason="no-space")
    found = catalog.job("job-1")
    assert (found.state, found.reason, found.step, found.steps) == ("failed", "no-space", 10, 20)
    assert (found.corpora, found.results) == ((ident(2),), (ident(3), ident(5)))
    assert found.checkpoints == (Checkpoint(10, ident(3), ident(4)),)
    assert [row.id for row in catalog.jobs()] == ["job-1", "job-0"]
    assert [row.id for row in catalog.jobs("queued")] == ["job-0"]


def test_a_job_names_only_what_is_there(catalog):
    with pytest.raises(UnknownObject, match="found one missing"):
        catalog.add_job(id="job-1", name="x", owner="ann", config=ident(1), log_index=1)
    catalog.add(thing(1))
    catalog.add_job(id="job-1", name="x", owner="ann", config=ident(1), log_index=1)
    for refused in (
        lambda: catalog.add_checkpoint("job-1", 1, ident(1), ident(2)),
        lambda: catalog.add_corpus("job-1", ident(2)),
        lambda: catalog.add_result("job-2", ident(1)),
        lambda: catalog.set_job("job-2", state="done"),
        lambda: catalog.job("job-2"),
    ):
        with pytest.raises(UnknownObject):
            refused()
    with pytest.raises(IntegrityError, match="expected a value that the table allows"):
        catalog.set_job("job-1", state="winning")
    with pytest.raises(AlreadyExists):
        catalog.add_job(id="job-1", name="x", owner="ann", config=ident(1), log_index=1)
    assert catalog.job("job-1").step == 0


def test_a_request_is_used_once_and_each_person_approves_once(catalog):
    request = ApprovalRequest(DIGEST, b"{}", "ann", NOW, 3)
    catalog.add_request(request)
    assert catalog.request(DIGEST) == request
    approvals = [Approval(DIGEST, "cal", "officer", "sig", 5), Approval(DIGEST, "bob", "officer", "sig", 4)]
    for approval in approvals:
        catalog.add_approval(approval)
    with pytest.raises(AlreadyExists):
        catalog.add_approval(replace(approvals[0], signature="another", log_index=6))
    with pytest.raises(UnknownObject):
        catalog.add_approval(replace(approvals[0], request=ident(1)))
    assert catalog.approvals(DIGEST) == (approvals[1], approvals[0])
    catalog.use_request(DIGEST)
    with pytest.raises(
        ReplayRefused, match="expected it open, found it used; approvals count once, ask again"
    ):
        catalog.use_request(DIGEST)
    with pytest.raises(UnknownObject, match="found none"):
        catalog.use_request(ident(1))


def test_a_channel_only_moves_forward(catalog):
    assert catalog.last_bundle("news", "researcher") is None
    catalog.set_last_bundle("news", "researcher", 4, DIGEST, published=False)
    catalog.set_last_bundle("news", "researcher", 4, DIGEST)
    catalog.set_last_bundle("other", "researcher", 1, DIGEST)
    for seq, digest in ((3, DIGEST), (4, ident(1))):
        with pytest.raises(ReplayRefused, match=f"channel news: expected a number above 4, found {seq}"):
            catalog.set_last_bundle("news", "researcher", seq, digest)
    assert catalog.last_bundle("news", "researcher") == LastBundle(4, DIGEST, published=True)


def test_facts_are_replaced(catalog):
    assert catalog.meta("origin") is None
    catalog.set_meta("origin", "a")
    catalog.set_meta("origin", "b")
    assert catalog.meta("origin") == "b"


def test_several_writes_are_one_or_none(catalog):
    def half_right():
        with catalog.transaction():
            catalog.add(thing(1))
            catalog.add(thing(2, parents=(ident(9),)))

    with pytest.raises(UnknownObject):
        half_right()
    assert catalog.list() == ()
    with catalog.transaction():
        catalog.add(thing(1))
    assert catalog.list() == (thing(1),)


def test_what_was_answered_survives_a_kill(path, tmp_path):
    """The files as a killed process leaves them, write-ahead log and all, open with every answered write."""
    catalog = Catalog(path)
    catalog.add(thing(1))
    for name in ("catalog.db", "catalog.db-wal"):
        shutil.copy(path.parent / name, tmp_path / f"killed-{name}")
    catalog.close()
    again = Catalog(tmp_path / "killed-catalog.db")
    assert again.list() == (thing(1),)
    again.close()


def test_a_locked_catalog_is_busy_within_a_second_or_so(catalog, path):
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Busy, match="found it locked by another process; end that one"):
        catalog.add(thing(1))
    other.execute("ROLLBACK")
    other.close()
    catalog.add(thing(1))


def test_a_full_catalog_says_so_and_keeps_its_old_state(catalog):
    catalog.add(thing(1))
    (pages,) = catalog._database.rows("PRAGMA page_count")[0]
    catalog._database.rows(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(SpaceExhausted, match="no space; nothing was changed"):
        catalog.add(thing(2, meta={"long": "x" * 100_000}))
    assert catalog.list() == (thing(1),)


def test_another_program_s_database_is_not_touched(path):
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (x)")
    other.commit()
    other.close()
    before = path.read_bytes()
    with pytest.raises(IntegrityError, match="it is another program's file"):
        Catalog(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_damage(path):
    path.write_bytes(b"not a database, and long enough to have a header" * 100)
    with pytest.raises(IntegrityError, match="expected a sound database, found: file is not a database"):
        Catalog(path)


def test_a_folder_that_is_missing_is_said(tmp_path):
    with pytest.raises(IntegrityError, match="unable to open database file"):
        Catalog(tmp_path / "none" / "catalog.db")


def test_a_row_that_names_nothing_is_found_when_the_file_is_opened(catalog, path):
    catalog.add(thing(1))
    catalog.add(thing(2, parents=(ident(1),)))
    catalog.close()
    attacker = sqlite3.connect(path)
    attacker.execute("DELETE FROM objects WHERE id = ?", (ident(1),))
    attacker.commit()
    attacker.close()
    with pytest.raises(IntegrityError, match="a row of parents names nothing; rebuild it from the log with"):
        Catalog(path)


def test_a_tampered_list_is_refused_when_it_is_read(catalog, path):
    catalog.add(thing(1))
    for labels, meta, message in (
        ("[1]", "{}", "compartments: expected a list of names"),
        ("{", "{}", "expected JSON, found"),
        ("[" * 100_000, "{}", "expected JSON, found"),
        ("[]", "[]", "meta: expected an object"),
    ):
        catalog._database.write("UPDATE objects SET compartments = ?, meta = ?", labels, meta)
        with pytest.raises(IntegrityError, match=message):
            catalog.get(ident(1))


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), min_size=1, max_size=30))
def test_a_damaged_file_is_an_error_and_never_a_crash(tmp_path_factory, damage):
    path = tmp_path_factory.mktemp("damaged") / "catalog.db"
    catalog = Catalog(path)
    catalog.add(thing(1))
    catalog.add(thing(2, parents=(ident(1),)))
    catalog.close()
    data = bytearray(path.read_bytes())
    for where, mask in damage:
        data[int(where * (len(data) - 1))] ^= mask
    path.write_bytes(data)
    try:
        opened = Catalog(path)
    except ApplianceError:
        return
    try:
        opened.list()
    except ApplianceError:
        pass
    finally:
        opened.close()
