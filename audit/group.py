"""Group commit: threads that ask at the same time are answered by one commit.

Guarantees every thread that its request is answered by exactly one commit, in the order of asking, and that
none waits for a leader that has gone. The first to ask leads: it serves all that wait by then, itself among
them, and then hands the lead to whoever is first in the queue. While one commit waits for the disk the next
group gathers: under load a group is as large as the number of threads, and a thread alone waits for nobody.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from audit.entry import Record


@dataclass(frozen=True, slots=True)
class Committed:
    """One entry that is durable: its index, its bytes, and its receipt (the bytes of a `.tlog-proof`)."""

    index: int
    entry: bytes
    receipt: bytes


@dataclass(slots=True, eq=False)
class Request:
    """Records of one caller, logged together or not at all; `committed` or `failure` is the answer."""

    records: Sequence[Record]
    committed: list[Committed] = field(default_factory=list)
    failure: Exception | None = None
    served: bool = False
    leads: bool = False
    turn: threading.Lock = field(default_factory=threading.Lock)


class Group:
    """The queue of requests; `serve` answers a list of them that holds at most `most` records."""

    def __init__(self, serve: Callable[[Sequence[Request]], None], most: int) -> None:
        self._serve = serve
        self._most = most
        self._lock = threading.Lock()
        self._waiting: deque[Request] = deque()
        self._led = False

    def submit(self, request: Request) -> None:
        """Wait until the request is served; raises what `serve` raises, in the thread that led only."""
        request.turn.acquire()  # released when it is served or leads
        with self._lock:
            self._waiting.append(request)
            request.leads, self._led = not self._led, True
        try:
            if not request.leads:
                request.turn.acquire()
            if request.leads:
                self._lead()
        finally:
            self._leave(request)

    def _lead(self) -> None:
        with self._lock:
            group = [self._waiting.popleft()]
            room = self._most - len(group[0].records)
            while self._waiting and len(self._waiting[0].records) <= room:
                group.append(self._waiting.popleft())
                room -= len(group[-1].records)
        try:
            self._serve(group)
        finally:
            for request in group:
                request.served = True
                request.turn.release()

    def _leave(self, request: Request) -> None:
        """Hand on the lead; an interrupted thread takes its request back, if nobody serves it yet."""
        with self._lock:
            if request in self._waiting:
                self._waiting.remove(request)
            if not request.leads:
                return
            self._led = bool(self._waiting)
            if self._led:
                self._waiting[0].leads = True
                self._waiting[0].turn.release()
