"""A job's events to its end, whatever happens to the connection meanwhile.

Events are numbered within the job: who comes back says which was the last, and misses none. After a restart
of the daemon the numbers begin anew, which is noticed by comparing that last one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from appliance.cli.progress import ENDS
from appliance.cli.session import Session
from appliance.errors import NotRunning

PATIENCE_S = 60.0  # a daemon that is restarted is back within seconds
RETRY_S = 0.5


def followed(
    session: Session,
    job: str,
    after: int,
    say: Callable[[str], None],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[dict[str, Any]]:
    """Yield events after `after` until the job ends; a lost connection is made again for a minute.

    Raises NotRunning where there was no connection to begin with, or none comes back.
    """
    last: dict[str, Any] | None = None
    lost_at: float | None = None
    while True:
        try:
            if lost_at is not None and last is not None:
                after = _place(session, job, last)
                lost_at = None
                say("connected again")
            for item in session.stream("Watch", {"job": job, "after": after}):
                last = item["event"]
                after = int(item["event"]["seq"])
                yield item["event"]
        except NotRunning:
            if last is None or last["kind"] in ENDS:
                raise
            if lost_at is None:
                lost_at = clock()
                say("the daemon went away; trying again for a minute, the job's last checkpoint stands")
            if clock() - lost_at > PATIENCE_S:
                raise
            sleep(RETRY_S)
        else:
            return


def _place(session: Session, job: str, last: dict[str, Any]) -> int:
    """Return after which number to go on: 0 where the job's events were numbered anew."""
    wanted = {"job": job, "after": int(last["seq"]) - 1, "follow": False}
    found = next((item["event"] for item in session.stream("Watch", wanted)), None)
    return int(last["seq"]) if found == last else 0
