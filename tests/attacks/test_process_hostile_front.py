"""Code that took over the front, in its jail and on its channel: each way out is refused, each lie is found.

The entry of the front is the shipped one; only what it then does with its channel is the attacker's. The
parent stands in for the custodian with the real receiver of a front's messages.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.custodian.clients import Clients
from appliance.frontlink import Call, ClientOpened, Reply
from appliance.messages import Channel, encode
from tests import jails
from tests.attacks import hostile_worker

pytestmark = pytest.mark.processes

FRONT = """
import json, os, sys
sys.path.insert(0, {folder!r})
import appliance.front as entry
import hostile_worker
home = {home!r}

async def attack(self):
    chosen = {{name: one for name, one in hostile_worker.attacks(os.getppid()).items() if name != "accept"}}
    files = {{
        "a payload": lambda: open(f"{{home}}/vault/object/payload", "rb").close(),
        "a key": lambda: open(f"{{home}}/keys/log.age", "rb").close(),
        "the list of objects": lambda: os.listdir(f"{{home}}/vault"),
        "the log to read": lambda: open(f"{{home}}/log/wal", "rb").close(),
        "the log to rewrite": lambda: open(f"{{home}}/log/wal", "r+b").close(),
        "the log to cut": lambda: os.truncate(f"{{home}}/log/wal", 0),
        "the rules": lambda: open(f"{{home}}/policy/default.cedar", "ab").close(),
        "a socket in the folder of sockets": lambda: os.symlink("/tmp", f"{{home}}/run/appliance.sock"),
    }}
    sys.stdout.write(json.dumps(hostile_worker.attempt(chosen | files)))
    sys.stdout.flush()

entry.Front.serve = attack
entry.main(["development"])
sys.stdout.flush()
os._exit(0)
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("vault/object/payload", "keys/log.age", "log/wal", "policy/default.cedar", "run/lock"):
        (tmp_path / "home" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "home" / name).write_text(name)
    return tmp_path / "home"


def test_every_way_out_of_a_front_is_refused(home: Path):
    folder = str(Path(hostile_worker.__file__).parent)
    script = FRONT.format(folder=folder, home=str(home))
    ours, theirs = Channel.pair()
    with socket.socket(socket.AF_UNIX) as listener, ours_closed(ours):
        listener.bind("")
        listener.listen()
        read, write = os.pipe()
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-c", script],
            {"LANG": "C.UTF-8"},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, write, 1),
                (os.POSIX_SPAWN_DUP2, os.dup(theirs.fileno()), 100),
                (os.POSIX_SPAWN_DUP2, os.dup(listener.fileno()), 101),
                (os.POSIX_SPAWN_DUP2, 100, 3),
                (os.POSIX_SPAWN_DUP2, 101, 4),
            ],
        )
        os.close(write)
        theirs.close()
        with os.fdopen(read) as said:
            outcomes = json.loads(said.read())
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert {"a payload", "the log to rewrite", "unix", "socketpair", "ptrace attach"} <= set(outcomes)
    let_through = {name for name, found in outcomes.items() if found not in {"EPERM", "EACCES"}}
    reads = hostile_worker.READS | {"a payload", "a key", "the list of objects", "the log to read"}
    assert let_through <= (reads if "files" in jails.missing() else set())
    assert (home / "log/wal").read_text() == "log/wal"


class ours_closed:  # noqa: N801  reads as a statement
    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self.channel.close()


def served(*messages: object, descriptors: tuple[int, ...] = ()) -> tuple[list[int], int]:
    """What comes of a front's messages: the uids of the calls that were heard, and whether it was ended."""

    async def serve() -> tuple[list[int], int]:
        ours, far = Channel.pair()
        theirs = Channel(far)
        heard: list[int] = []
        ended: list[bool] = []

        async def verb(caller):
            heard.append(caller.uid)
            return {}

        clients = Clients(ours, {"Unseal": verb}, lambda: ended.append(True))
        for number, message in enumerate(messages):
            theirs.send(message, descriptors if number == 0 else ())
        task = asyncio.get_running_loop().create_task(clients.serve())
        await asyncio.wait([task], timeout=0.2)
        ended_before_it_left = len(ended)
        theirs.close()
        await task
        ours.close()
        return heard, ended_before_it_left

    return asyncio.run(serve())


def test_a_front_cannot_say_who_calls():
    """It opens a connection with a socket; who is at its other end, the kernel says, not the message."""
    client, shown = socket.socketpair()
    with client, shown:
        call = Call(1, 1, "invalid.appliance.Unseal", {"uid": 0}, more=False, oneway=True)
        heard, _ = served(ClientOpened(1), call, descriptors=(shown.fileno(),))
    assert heard == [os.getuid()]


@pytest.mark.parametrize("conn", [0, 2, 99])
def test_a_call_for_a_client_that_was_never_shown_is_not_heard(conn):
    call = Call(conn, 1, "invalid.appliance.Unseal", {}, more=False, oneway=True)
    assert served(ClientOpened(1), call)[0] == []


def test_a_front_that_says_what_only_the_custodian_may_is_ended():
    heard, ended = served(Reply(1, 1, {"unsealed": True}, continues=False))
    assert (heard, ended) == ([], 1)
    assert encode(Reply(1, 1, {}, continues=False)), "the message itself is a sound one"


def test_the_attempts_are_not_refused_by_a_mistake_of_ours(home: Path):
    """The positive control: without the jail the files are there to be read and written."""
    code = f"open({str(home)!r} + '/log/wal', 'r+b').close(); open({str(home)!r} + '/keys/log.age').close()"
    assert subprocess.run([sys.executable, "-I", "-c", code], check=False).returncode == 0
