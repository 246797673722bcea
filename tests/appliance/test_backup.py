"""The record of a backup: one spelling, and nothing else is read as one."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.backup import BackupRecord, parse_backup, read_backup, write_record
from appliance.errors import Incomplete, IntegrityError

RECORD = BackupRecord("log.example/a", 7, {"home.json": "ab" * 32}, {"cd" * 32: "ef" * 32})


def test_a_record_is_read_as_it_was_written(tmp_path):
    (tmp_path / "home.json").write_text("x")
    assert parse_backup(RECORD.encode()) == RECORD
    write_record(tmp_path, RECORD)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["backup.json", "home.json"]
    with pytest.raises(IntegrityError, match="cut off or changed"):
        read_backup(tmp_path)


def test_a_folder_without_one_is_no_backup(tmp_path):
    with pytest.raises(Incomplete, match="expected a backup, found: No such file"):
        read_backup(tmp_path)


@given(st.integers(0, len(RECORD.encode()) - 1), st.integers(1, 255))
def test_one_changed_byte_is_another_record_or_none(place, change):
    data = bytearray(RECORD.encode())
    data[place] ^= change
    with contextlib.suppress(IntegrityError):
        assert parse_backup(bytes(data)) != RECORD


@given(st.integers(0, len(RECORD.encode()) - 1))
def test_a_record_that_is_cut_is_refused(size):
    with pytest.raises(IntegrityError, match="is damaged"):
        parse_backup(RECORD.encode()[:size])


@pytest.mark.parametrize(
    "changed",
    [{"format": 2}, {"more": 1}, {"log_size": "7"}, {"files": []}, {"objects": {"a": 1}}, {"origin": None}],
)
def test_other_fields_or_types_are_refused(changed):
    fields = json.loads(RECORD.encode()) | changed
    data = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    with pytest.raises(IntegrityError, match="is damaged"):
        parse_backup(data)
