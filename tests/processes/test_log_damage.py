"""A log that was damaged while nobody ran it: the daemon does not start, and the auditor says why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from audit.note import VerifierKey
from audit.tiles import encode_bundle, parse_bundle
from audit.wal import encode_group, encode_head, parse_write_ahead
from tests.processes.living import Living

pytestmark = pytest.mark.processes

INVALID, BAD_SIGNATURE, MISSING = 6, 7, 13


class LogFiles:
    """The files of one log, and the attacker who may write to all of them but has no key."""

    def __init__(self, appliance: Living) -> None:
        self.log = appliance.home / "log"
        self.wal = self.log / "wal"
        self.key = VerifierKey.parse((appliance.public / "log.vkey").read_text().strip())
        self.entries = parse_write_ahead(self.wal.read_bytes(), self.key).entries

    def bundles(self) -> list[Path]:
        return sorted(path for path in (self.log / "tile" / "entries").rglob("*") if path.is_file())

    def write(self, entries: list[bytes]) -> None:
        """Write these entries everywhere, every checksum right; only the signed heads cannot be made anew."""
        base = parse_write_ahead(self.wal.read_bytes(), self.key).base_note
        head = encode_head((self.log / "checkpoint").read_bytes())
        self.wal.write_bytes(encode_head(base) + encode_group(0, entries) + head)
        for path in self.bundles():
            width = len(parse_bundle(path.read_bytes(), path.name))
            path.write_bytes(encode_bundle(entries[:width]))


def flip_a_byte(log: LogFiles) -> None:
    """One letter of one word: a refusal becomes something else."""
    changed = list(log.entries)
    number = next(i for i, entry in enumerate(changed) if b'"operator"' in entry or b'"allow":true' in entry)
    changed[number] = changed[number].replace(b'"allow":true', b'"allow":trve')
    assert changed != log.entries
    log.write(changed)


def swap_two(log: LogFiles) -> None:
    changed = list(log.entries)
    changed[3], changed[4] = changed[4], changed[3]
    log.write(changed)


def remove_the_tail(log: LogFiles) -> None:
    """The last entry never happened: its files go, and the write-ahead file ends before it."""
    kept = log.entries[:-1]
    base = parse_write_ahead(log.wal.read_bytes(), log.key).base_note
    log.wal.write_bytes(encode_head(base) + encode_group(0, kept))
    for path in log.bundles():
        if len(parse_bundle(path.read_bytes(), path.name)) == len(log.entries):
            path.unlink()


def flip_in_checkpoint(log: LogFiles) -> None:
    data = bytearray((log.log / "checkpoint").read_bytes())
    data[-10] ^= 1
    (log.log / "checkpoint").write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "at_start", "at_audit"),
    [
        (flip_a_byte, {INVALID}, {INVALID, 12}),
        (swap_two, {INVALID}, {INVALID}),
        (remove_the_tail, {INVALID}, {INVALID, MISSING}),
        (flip_in_checkpoint, {BAD_SIGNATURE, 12}, {BAD_SIGNATURE, 12}),
    ],
)
def test_a_damaged_log_is_refused_by_daemon_and_auditor(
    asleep: Living, damage: Callable[[LogFiles], None], at_start: set[int], at_audit: set[int]
):
    asleep.demand_sound_log()
    damage(LogFiles(asleep))
    audited = asleep.audit()
    assert audited.returncode in at_audit, (audited.returncode, audited.stderr)
    assert "FAILED" in audited.stderr or "COULD NOT CHECK" in audited.stderr
    refused = asleep.cli("daemon", "--foreground")
    assert refused.returncode in at_start, (refused.returncode, refused.stderr)
    assert str(asleep.home / "log") in refused.stderr or "write-ahead file" in refused.stderr
    # The refusal itself must not mend, hide or extend anything.
    assert asleep.audit().returncode == audited.returncode
    assert not (asleep.home / "run" / "appliance.sock").exists()


@pytest.mark.parametrize("which", [0, -1], ids=["oldest", "newest"])
def test_one_flipped_byte_in_any_published_file_is_found_by_the_auditor(asleep: Living, which: int):
    asleep.demand_sound_log()
    for folder in ("entries", "0"):
        files = sorted(path for path in (asleep.home / "log" / "tile" / folder).rglob("*") if path.is_file())
        data = bytearray(files[which].read_bytes())
        data[len(data) // 2] ^= 1
        whole = files[which].read_bytes()
        files[which].write_bytes(data)
        verdict = asleep.audit()
        assert verdict.returncode in {INVALID, 12}, verdict.stderr
        files[which].write_bytes(whole)
    asleep.demand_sound_log()


def test_a_write_ahead_file_with_one_flipped_byte_starts_no_daemon(asleep: Living):
    wal = asleep.home / "log" / "wal"
    data = bytearray(wal.read_bytes())
    data[len(data) // 3] ^= 1
    wal.write_bytes(data)
    refused = asleep.cli("daemon", "--foreground")
    assert refused.returncode == INVALID, refused.stderr
    assert "restore a copy" in refused.stderr
    assert wal.read_bytes() == data


def test_a_log_of_another_appliance_starts_no_daemon(asleep: Living, tmp_path: Path):
    """A log begun anew, consistent in itself, under a key of the attacker's."""
    other = Living(tmp_path / "other", tmp_path / "other-public")
    options = ("--profile", "development", "--custody", "file:", "--yes", "--public", other.public)
    assert other.cli("init", *options).returncode == 0
    (asleep.home / "log").rename(tmp_path / "old-log")
    (other.home / "log").rename(asleep.home / "log")
    refused = asleep.cli("daemon", "--foreground")
    assert refused.returncode in {INVALID, BAD_SIGNATURE}, refused.stderr
    assert asleep.audit().returncode in {INVALID, BAD_SIGNATURE}
