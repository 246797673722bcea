"""Which entries a person asked to see: by principal, object, action, kind, time and outcome.

Guarantees that an entry is left out only for a reason that was asked for. An object is found wherever an
entry names it: as the resource, or in the context as made, named, imported, used or descended from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from audit.entry import JSON, Entry
from audit.errors import Malformed

# Where the appliance's entries name objects, beside the resource.
_ONE = ("object", "object_name", "by")
_SEVERAL = ("named", "objects", "parents")
_SHORT_ID = re.compile(r"[0-9a-f]{8,63}")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d(?:T\d\d(?::\d\d(?::\d\d(?:\.\d{1,6})?)?)?)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Filter:
    """What was asked for; empty or None asks nothing. `since` and `until` begin like an entry's time."""

    principal: str = ""
    object: str = ""
    action: str = ""
    kind: str = ""
    since: str = ""
    until: str = ""
    allowed: bool | None = None

    def matches(self, entry: Entry) -> bool:
        """Tell whether an entry was asked for. A shortened time stands for all of its day, hour or minute."""
        return (
            self.principal in {"", entry.principal, entry.principal.partition(":")[2]}
            and self.action in {"", entry.action}
            and self.kind in {"", entry.kind}
            and entry.time[: len(self.since)] >= self.since
            and (not self.until or entry.time[: len(self.until)] <= self.until)
            and self._matches_outcome(entry)
            and (not self.object or any(self._is_object(name) for name in names(entry)))
        )

    def _matches_outcome(self, entry: Entry) -> bool:
        if self.allowed is None:
            return True
        return entry.decision is not None and entry.decision.allow == self.allowed

    def _is_object(self, name: str) -> bool:
        return name == self.object or (
            bool(_SHORT_ID.fullmatch(self.object)) and name.startswith(self.object)
        )


def names(entry: Entry) -> Iterator[str]:
    """Every name under which an entry speaks of an object: ids, and `kind/name`."""
    yield entry.resource.partition(":")[2]
    yield entry.resource
    context: Mapping[str, JSON] = entry.context
    for field in _ONE:
        yield text_of(context, field)
    for field in _SEVERAL:
        yield from texts_of(context, field)
    if "kind" in context and "name" in context:
        yield f"{text_of(context, 'kind')}/{text_of(context, 'name')}"


def text_of(context: Mapping[str, JSON], name: str) -> str:
    """Return a text of a context, or "" where it is absent or something else (the hash of a long one)."""
    value = context.get(name)
    return value if isinstance(value, str) else ""


def texts_of(context: Mapping[str, JSON], name: str) -> tuple[str, ...]:
    """Return a list of texts of a context, without what is none."""
    value = context.get(name)
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def parse_moment(text: str) -> str:
    """Read a UTC time, from the day on to any precision: `2026-01-02T03:04Z`; raises Malformed."""
    moment = text.removesuffix("Z")
    if not _MOMENT.fullmatch(moment):
        raise Malformed(
            f"expected a UTC time such as 2026-01-02 or 2026-01-02T03:04:05Z, found {text[:40]!r}"
        )
    return moment
