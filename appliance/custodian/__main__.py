"""Entry of the custodian: `python -I -m appliance.custodian HOME`.

It opens and checks the appliance, binds the socket, starts the front, and serves until it is told to end. A
front that dies is started again; jobs go on meanwhile. Every second the log is published and looked after: a
log that cannot be written ends every job, since nothing may run that could not be recorded.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import structlog

from appliance import __version__
from appliance.client import SOCKET_NAME, listen
from appliance.custodian.breach import Alarm
from appliance.custodian.child import Child
from appliance.custodian.clients import Clients
from appliance.custodian.core import Core
from appliance.custodian.diary import configure_log
from appliance.custodian.examining import keep_examining, record_examination
from appliance.custodian.start import open_appliance
from appliance.custodian.trains import Trains
from appliance.custodian.verbs import Verbs
from appliance.custodian.workers import kill_all, kill_job
from appliance.errors import ApplianceError
from appliance.home import Home
from appliance.inventory import STARTED, TALLY
from appliance.ledger import RELEASE
from appliance.notify import ALIVE, ENDING, READY, inherited_listener, notify
from appliance.provenance import verify_provenance
from appliance.release.installed import running_release, verify_release
from appliance.sandbox import confine, protect_memory
from appliance.training.blas import blas_environment
from audit.errors import AuditError
from policy.errors import PolicyError

TICK_S = 0.5
FRONT_RESTART_S = 0.2
REPLY_GRACE_S = 0.2


class Daemon:
    """The custodian's process: one appliance, one front, one loop."""

    def __init__(self, home: Home, core: Core, lock: int) -> None:
        self._home = home
        self._core = core
        self._lock = lock
        self._environment = worker_environment()
        self._trains = Trains(core, self._environment)
        self._ending = asyncio.Event()
        self._exec = False
        self._front: Child | None = None
        self._alarm = Alarm(core, self._trains, reseal=self._end_with_exec)
        self._say = structlog.get_logger()
        self._verbs = Verbs(
            core,
            self._trains,
            self._environment,
            self._alarm,
            reseal=self._end_with_exec,
            end=self._ending.set,
        ).table()

    async def run(self) -> None:
        """Serve until the end; a seal ends in a fresh process with the same pid."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ending.set)
        listener = self._listen()
        self._alarm.start()
        self._core.gate.outcome(
            STARTED,
            "Custodian:custodian",
            "start",
            f"Appliance:{self._core.facts.origin}",
            {
                "profile": self._core.facts.profile,
                RELEASE: __version__,
                "warnings": self._core.warnings(),
                "pid": os.getpid(),
                "jail": list(self._core.confined.took) if self._core.confined is not None else [],
                TALLY: self._core.inventory.tally.told(),
            },
        )
        await record_examination(self._core)
        examining = loop.create_task(keep_examining(self._core))
        fronts = loop.create_task(self._keep_front(listener))
        ticks = loop.create_task(self._keep_time())
        self._say.info("ready", pid=os.getpid())
        notify(READY)
        await self._ending.wait()
        if not self._exec:
            notify(ENDING)
        await asyncio.sleep(REPLY_GRACE_S)  # the reply to the verb that ended us is on its way
        ticks.cancel()
        examining.cancel()
        fronts.cancel()
        self._alarm.lookout.stop()
        await self._trains.end_all("shutdown")
        kill_all()  # an exec would leave them alive, with the keys of their jobs
        if self._front is not None:
            self._front.kill()
        self._core.wipe()
        listener.close()
        self._close()
        if self._exec:
            os.set_inheritable(self._lock, True)
            command = [sys.executable, "-I", "-m", "appliance.custodian", "--lock-fd", str(self._lock)]
            os.execv(sys.executable, [*command, str(self._home.root)])  # noqa: S606  a fresh process is the wipe

    def _listen(self) -> socket.socket:
        """Take the service manager's socket, or bind one."""
        listener = inherited_listener()
        if listener is None:
            return listen(self._home.run)
        with contextlib.suppress(OSError):  # its time tells whoever waits for it that a fresh process listens
            os.utime(self._home.run / SOCKET_NAME)
        return listener

    async def _end_with_exec(self) -> None:
        self._exec = True
        self._ending.set()

    def _close(self) -> None:
        try:
            if not self._exec:
                self._core.gate.outcome(
                    "ended",
                    "Custodian:custodian",
                    "end",
                    f"Appliance:{self._core.facts.origin}",
                    {"pid": os.getpid()},
                )
            self._core.keep_head()
        except (ApplianceError, AuditError) as dead:
            self._say.error("head-not-kept", reason=str(dead))
        try:
            self._core.log.close()
        except AuditError as dead:
            self._say.error("log-unavailable", reason=str(dead))
        self._core.catalog.close()

    async def _keep_front(self, listener: socket.socket) -> None:
        """Start the front, and start it again whenever it ends."""
        while True:
            try:
                self._front = Child("appliance.front", self._core.facts.profile, extra=(listener.fileno(),))
            except OSError as short:  # of descriptors or memory: it will pass, and nobody else starts a front
                self._say.error("front-not-started", reason=short.strerror)
                await asyncio.sleep(FRONT_RESTART_S)
                continue
            clients = Clients(self._front.channel, self._verbs, self._front.kill)
            await clients.serve()
            clients.drop_all()
            self._front.kill()
            await self._front.exited
            self._front.channel.close()
            self._say.warning("front-restarts", report=self._front.report.decode("utf-8", "replace")[-2000:])
            await asyncio.sleep(FRONT_RESTART_S)

    async def _keep_time(self) -> None:
        """Publish and look after the log; end jobs that outlive their lease or the log."""
        while True:
            await asyncio.sleep(TICK_S)
            self._alarm.check()
            if not self._alarm.lookout.blind:
                notify(ALIVE)  # a watch that does not look any more is not alive
            try:
                self._core.log.check()
                self._core.log.publish()
            except AuditError as dead:
                if self._trains.running():
                    self._say.error("log-unavailable", reason=str(dead))
                    await self._trains.end_all(f"log-unavailable: {dead}")
                kill_all()  # samples, imports and exports hold keys too
            for job in self._core.live.overdue_jobs():
                await self._trains.end(job, "lease-ended")
                kill_job(job)  # samples, imports and exports have leases too


def worker_environment() -> Mapping[str, str]:
    """Return the whole environment of a worker: no home, no path, no proxy, nothing of the operator's."""
    cpuinfo = Path("/proc/cpuinfo")
    threads = str(len(os.sched_getaffinity(0)))
    return {
        "LANG": "C.UTF-8",
        "HOME": "/nonexistent",
        "OMP_NUM_THREADS": threads,
        **blas_environment(cpuinfo.read_text("utf-8") if cpuinfo.exists() else ""),
    }


def main(arguments: list[str] | None = None) -> int:
    """Run a custodian; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="appliance.custodian", description="The custodian of one appliance."
    )
    parser.add_argument("home", type=Path)
    parser.add_argument("--lock-fd", type=int, default=None, help="a lock that an earlier self already holds")
    given = parser.parse_args(arguments)
    home = Home(given.home.absolute())
    configure_log()
    protect_memory()
    confined = confine()
    os.umask(0o027)
    os.chdir("/")  # nothing is found, and nothing is held, by where the daemon was started
    try:
        verify_provenance()
        if (release := running_release()) is not None:
            verify_release(release)
        structlog.get_logger().info("release", checked=str(release or "none: not installed by install.sh"))
        opened = open_appliance(home, given.lock_fd)
        opened.core.confined = confined.demand(opened.core.facts.profile)
        asyncio.run(_serve(home, opened.core, opened.lock))
    except (ApplianceError, AuditError, PolicyError) as refused:
        sys.stderr.write(f"error: {refused}\n")
        return int(refused.exit_code)
    return 0


async def _serve(home: Home, core: Core, lock: int) -> None:
    await Daemon(home, core, lock).run()


if __name__ == "__main__":
    sys.exit(main())
