"""The air-gap watch: a thread that is woken by the kernel, and looks at everything once a second besides.

Guarantees, to the custodian: whatever the watch finds is told at once, from its own thread, so that no other
work of the process delays it; a look that fails is told like a finding; `blind` says when the watch has not
finished a look for too long, whatever holds it up, since a watch that does not look has seen nothing.

Woken: rtnetlink (links, addresses, routes), the kernel's announcements of devices, and changes of mounts and
swap. Each second: the list of links, and every required check of the host.

Source: netlink(7), proc(5) (poll on mountinfo and swaps), poll(2).
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from appliance.errors import ApplianceError
from appliance.isolation import rtnetlink, uevents
from appliance.isolation.check import Check, failures, isolated
from appliance.isolation.host import checks

PERIOD_S = 1.0
BLIND_AFTER_S = 10.0  # a look takes milliseconds; a host busy to its limit delays it by a second or two
_TABLES = ("/proc/self/mountinfo", "/proc/swaps")
_JOIN_S = 2.0
_FIRST = -20
_URGENT = select.POLLPRI | select.POLLERR


class Sense(Protocol):
    """Something that wakes the watch."""

    def fileno(self) -> int:
        """Return the descriptor to wait on."""

    def read(self) -> list[str]:
        """Return what is wrong with what happened since."""

    def close(self) -> None:
        """Sense no more."""


class Lookout:
    """Watches until the process ends.

    From the watch's thread, `tell` is called with what was found, and `beat` after each look.
    """

    def __init__(
        self,
        tell: Callable[[Sequence[str]], None],
        *,
        beat: Callable[[], None] = lambda: None,
        look: Callable[[], tuple[Check, ...]] = checks,
        period_s: float = PERIOD_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tell = tell
        self._look = look
        self._beat_others = beat
        self._period_s = period_s
        self._monotonic = monotonic
        self._poll = select.poll()
        self._senses: dict[int, Sense] = {}
        self._tables: list[int] = []
        self._ending, self._end = os.pipe()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._beat = monotonic()
        self._isolated = False
        self.lacks: tuple[str, ...] = ()
        """What could not be opened: the watch looks each second all the same, and the profile decides."""

    def start(self) -> None:
        """Open what wakes the watch and begin."""
        self._poll.register(self._ending, select.POLLIN)
        lacks = []
        for what, monitor in (("rtnetlink", rtnetlink.Monitor), ("uevents", uevents.Monitor)):
            try:
                sense = monitor()
            except OSError as refused:
                lacks.append(f"{what}: {refused.strerror}")
                continue
            self._senses[sense.fileno()] = sense
            self._poll.register(sense.fileno(), select.POLLIN)
        for table in _TABLES:
            with contextlib.suppress(
                OSError
            ):  # a kernel without swap has no table; each look reads both again
                descriptor = os.open(table, os.O_RDONLY | os.O_CLOEXEC)
                self._tables.append(descriptor)
                self._poll.register(descriptor, _URGENT)
        self.lacks = tuple(lacks)
        self._beat = self._monotonic()
        self._thread.start()

    def stop(self) -> None:
        """End the watch and wait for it; not from its own thread."""
        os.write(self._end, b"\0")
        self._thread.join(_JOIN_S)
        if self._thread.is_alive():  # held up in a look: what it uses stays open, and ends with the process
            return
        for sense in self._senses.values():
            sense.close()
        for descriptor in (*self._tables, self._ending, self._end):
            os.close(descriptor)

    @property
    def blind_s(self) -> float:
        """Seconds since a look was finished."""
        return self._monotonic() - self._beat

    @property
    def blind(self) -> bool:
        """Whether the watch has not looked for too long to be relied on."""
        return self.blind_s > BLIND_AFTER_S

    @property
    def isolated(self) -> bool:
        """Whether the last look found the host isolated, and is not too old to count."""
        return self._isolated and not self.blind

    def look(self) -> list[str]:
        """Look at everything now and return what is wrong; from any thread."""
        found = []
        try:
            found += [told for link in rtnetlink.links() if (told := rtnetlink.finding(link))]
            seen = self._look()
        except (OSError, ValueError, ApplianceError) as failed:
            self._isolated = False
            return [*found, f"a look at the host failed: {failed}"]
        self._isolated = isolated(seen) and not found
        found += [f"{check.id}: {check.found}" for check in failures(seen)]
        return found

    def _watch(self) -> None:
        with contextlib.suppress(OSError):  # before whatever else runs, where the custodian may
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _FIRST)
        next_look = self._monotonic()
        while True:
            wait_s = max(0.0, next_look - self._monotonic())
            ready = {descriptor for descriptor, _ in self._poll.poll(math.ceil(wait_s * 1000))}
            if self._ending in ready:
                return
            found = self._woken(ready)
            if found:
                self._isolated = False
                self._tell(found)
            if self._monotonic() >= next_look or ready & set(self._tables):
                if found := self.look():
                    self._tell(found)
                next_look = self._monotonic() + self._period_s
                self._beat = self._monotonic()
                self._beat_others()

    def _woken(self, ready: set[int]) -> list[str]:
        found: list[str] = []
        for descriptor in ready:
            try:
                if descriptor in self._senses:
                    found += self._senses[descriptor].read()
            except OSError as broken:
                found.append(f"a sense of the watch failed: {broken.strerror}")
        return found
