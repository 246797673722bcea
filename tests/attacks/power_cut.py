"""A disk of its own whose power is cut while a log is written to it; run by its test in a mount namespace.

    python -m tests.attacks.power_cut FOLDER ROUNDS SEED HONEST

The disk is an ext4 file system in a file. Cutting is its own ioctl: from that moment nothing more reaches the
file, and what had not reached it is gone, journal included or not, in turns. Then the file system is mounted
again, which replays its journal, and the log is opened, compared with the answers, continued. With HONEST 0
the log's syncs do nothing: the cut must then be seen to lose what was answered, or it is no cut.
Prints one JSON object. Everything mounted goes with the namespace.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import struct
import subprocess
import sys
import time
from pathlib import Path

import audit.log
from audit.entry import Record
from audit.errors import AuditError
from audit.log import Log
from audit.note import NoteSigner
from audit.receipt import verify_receipt
from audit.verify import verify_log

SIGNER = NoteSigner("log.example/power", bytes(range(32)))
SHUTDOWN = 0x8004587D  # FS_IOC_SHUTDOWN, _IOR('X', 125, __u32)
JOURNAL_GOES_OUT, JOURNAL_IS_LOST = 1, 2
MOST_ENTRIES = 2000


class Disk:
    def __init__(self, folder: Path) -> None:
        self.image, self.at = folder / "disk", folder / "mounted"
        self.at.mkdir()
        with self.image.open("wb") as file:
            file.truncate(24 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", self.image], check=True)

    def mount(self) -> None:
        subprocess.run(["mount", "-o", "loop", self.image, self.at], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", self.at], check=True)

    def cut(self, how: int) -> None:
        fd = os.open(self.at, os.O_RDONLY)
        fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", how))
        os.close(fd)

    def check(self) -> None:
        """The file system itself is whole: what is found wrong in a log is then the log's own fault."""
        subprocess.run(["e2fsck", "-fn", self.image], check=True, capture_output=True)


def append_for_ever(home: Path, answers: int, *, honest: bool) -> int:
    """Appends groups of one to three and publishes now and then; each answer goes to the pipe."""
    if not honest:
        os.fsync = os.fdatasync = os.fstat  # any call that takes a descriptor and writes nothing
    try:
        log = Log.open(home, SIGNER) if (home / "wal").exists() else Log.create(home, SIGNER)
        os.write(answers, b"\n")
        for turn in range(MOST_ENTRIES):
            records = [
                Record("decision", "p", "read", "r", {"turn": turn, "i": i}) for i in range(turn % 3 + 1)
            ]
            for done in log.append(records):
                line = json.dumps([done.index, done.entry.decode(), done.receipt.decode()])
                os.write(answers, line.encode() + b"\n")
            if turn % 5 == 0:
                log.publish()
    except AuditError as failure:
        return failure.exit_code
    return 1


def one_round(disk: Disk, draw: random.Random, *, honest: bool) -> tuple[list[list], int]:
    """Returns what was answered before the power went, and how the process found out."""
    reading, answers = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        os._exit(append_for_ever(disk.at / "log", answers, honest=honest))
    os.close(answers)
    with os.fdopen(reading, "rb") as pipe:
        lines = [pipe.readline() for _ in range(draw.randint(1, 40))]
        time.sleep(draw.random() * 0.004)
        disk.cut(draw.choice([JOURNAL_GOES_OUT, JOURNAL_IS_LOST]))
        lines += pipe.readlines()
    _, status = os.waitpid(pid, 0)
    return [json.loads(line) for line in lines if line.strip()], os.waitstatus_to_exitcode(status)


def lost(home: Path, answered: dict[int, list[str]]) -> str:
    """Say what of the answers is not in the recovered log, or nothing."""
    try:
        log = Log.open(home, SIGNER)
    except AuditError as failure:
        return f"not opened: {failure}"
    entries = [entry.decode() for entry in log.entries()]
    log.append([Record("note", "p", "go on", "r")])
    log.close()
    for index, (entry, _) in answered.items():
        if index >= len(entries) or entries[index] != entry:
            return f"entry {index} of {len(entries)} is not what was answered"
    receipts = [
        verify_receipt(receipt.encode(), entry.encode(), SIGNER.vkey)
        for entry, receipt in list(answered.values())[-5:]
    ]
    verify_log(home, SIGNER.vkey, receipts=receipts)
    return ""


def main(folder: str, rounds: str, seed: str, honest: str) -> None:
    audit.log.ROTATE_BYTES = 16_384
    draw = random.Random(int(seed))
    disk = Disk(Path(folder))
    answered: dict[int, list[str]] = {}
    statuses, losses = [], []
    for _ in range(int(rounds)):
        disk.mount()
        new, status = one_round(disk, draw, honest=bool(int(honest)))
        disk.unmount()
        answered |= {index: rest for index, *rest in new}
        statuses.append(status)
        disk.mount()  # replays the journal
        loss = lost(disk.at / "log", answered)
        disk.unmount()
        disk.check()
        if loss:
            losses.append(loss)
            break
    print(json.dumps({"answered": len(answered), "statuses": statuses, "losses": losses}))


if __name__ == "__main__":
    main(*sys.argv[1:])
