"""The floor of time: the latest moment that is known to have passed, on a machine whose clock proves nothing.

Guarantees that a clock turned back revives no bundle, and that neither a glitch forward nor a dead battery
expires everything: only signed moments raise the floor, each by at most 31 days, and officers together can
set it right. Moments are written as manifests write them, so that comparing texts compares times.
Source: docs/formats/transfer-bundle.md, section Time.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from appliance.errors import UsageError

# The day on which this code was made: set anew with each release.
BUILT: Final = "2026-11-24T00:00:00Z"
MOST_DAYS: Final = 31

_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"
_MOMENT: Final = re.compile(r"2[0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


def raised(floor: str, issued_at: str) -> str:
    """Return the floor after a signed `issued_at` was accepted: never lower, and not much higher at once."""
    most = (_parse(floor) + timedelta(days=MOST_DAYS)).strftime(_FORMAT)
    return max(floor, min(issued_at, most))


def check_moment(text: str) -> str:
    """Return a moment that officers may set the floor to; raises UsageError for another form or day."""
    try:
        if _MOMENT.fullmatch(text) is None:
            raise ValueError(text)
        _parse(text)
    except ValueError as error:
        raise UsageError(f"expected a moment such as 2031-05-04T09:00:00Z, found {text[:40]!r}") from error
    return text


def _parse(text: str) -> datetime:
    return datetime.strptime(text, _FORMAT).replace(tzinfo=UTC)
