"""Pieces of one job side by side: threads that begin and end within one call.

The cipher lets go of the interpreter while it works, so as many lanes as cores run at once. Guarantees: when
`side_by_side` returns or raises, no thread of it is left; the first error ends all lanes and is the one that
is raised; pieces are taken in turn and emitted in the same order, by one thread at a time.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

_Tool = TypeVar("_Tool")
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

MAX_LANES = 8
"""More cores than these are not used: memory is the limit by then (2 lanes: half of memcpy's rate)."""


def lane_count() -> int:
    """Return how many lanes are worth having: the cores that this process may use, within `MAX_LANES`."""
    return min(MAX_LANES, len(os.sched_getaffinity(0)))


def numbers(count: int) -> Callable[[object], int | None]:
    """Return a `take` for `side_by_side` that gives 0 to `count` - 1."""
    left = iter(range(count))
    return lambda _: next(left, None)


def same(_: object, item: _Item) -> _Item:
    """Return the item: a `work` for `side_by_side` where taking and emitting are all there is to do."""
    return item


def side_by_side(
    tools: Sequence[_Tool],
    take: Callable[[_Tool], _Item | None],
    work: Callable[[_Tool, _Item], _Result],
    emit: Callable[[_Result], object] | None = None,
) -> None:
    """Call `work` on every item that `take` gives, until it gives None; each lane has a tool of its own.

    `take` and `emit` are called by one lane at a time, `emit` in the order in which items were taken; a lane
    takes its next item after that, so items and results may live in its tool. A process that may start no
    more threads does the rest alone.
    """
    job = _Job(take, work, emit)
    threads = [threading.Thread(target=job.run, args=(tool,)) for tool in tools[1:]]
    started: list[threading.Thread] = []
    with suppress(RuntimeError):  # no more threads to be had
        for thread in threads:
            thread.start()
            started.append(thread)
    job.run(tools[0])
    for thread in started:
        thread.join()
    if job.error is not None:
        raise job.error


class _Job(Generic[_Tool, _Item, _Result]):
    """What the lanes of one call share: where the next item comes from, whose turn it is, the first error."""

    def __init__(
        self,
        take: Callable[[_Tool], _Item | None],
        work: Callable[[_Tool, _Item], _Result],
        emit: Callable[[_Result], object] | None,
    ) -> None:
        self.error: BaseException | None = None
        self._take = take
        self._work = work
        self._emit = emit
        self._taking = threading.Lock()
        self._taken = self._emitted = 0
        self._changed = threading.Condition()

    def run(self, tool: _Tool) -> None:
        """Take items until there are none, or until a lane failed."""
        try:
            while (taken := self._next(tool)) is not None:
                number, item = taken
                result = self._work(tool, item)
                if self._emit is not None and self._my_turn(number):
                    self._emit(result)
                    self._pass_on()
        except BaseException as error:  # noqa: BLE001 the caller's thread raises it
            with self._changed:
                self.error = self.error or error
                self._changed.notify_all()

    def _next(self, tool: _Tool) -> tuple[int, _Item] | None:
        with self._taking:
            item = None if self.error else self._take(tool)
            if item is None:
                return None
            self._taken += 1
            return self._taken - 1, item

    def _my_turn(self, number: int) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self.error is not None or self._emitted == number)
            return self.error is None

    def _pass_on(self) -> None:
        with self._changed:
            self._emitted += 1
            self._changed.notify_all()
