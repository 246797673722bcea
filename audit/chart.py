"""The timeline as inline SVG: decisions over time, and what the appliance said of its own state.

Guarantees that every shape says in words what it stands for (its title), so that colour is never alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from audit.entry import format_time
from audit.markup import Markup, join, tag
from audit.timeline import ISOLATED, NOT_ISOLATED, OFF, ON, OPEN, SEALED, Bucket, State, Timeline

_HEIGHT = 100
_LEAST = 3.0  # percent: one refusal among thousands must still be seen
_LANES: tuple[tuple[str, Callable[[State], str]], ...] = (
    ("Appliance", lambda state: state.power),
    ("Vault", lambda state: state.vault),
    ("Host", lambda state: state.isolation),
)
_CLASSES = {
    ON: "on",
    OFF: "off",
    OPEN: "open",
    SEALED: "off",
    ISOLATED: "good",
    NOT_ISOLATED: "bad",
    "": "none",
}
_MIXED = "several"
_LEGEND = (
    ("allow", "allowed"),
    ("deny", "refused"),
    ("on", "running"),
    ("open", "vault open"),
    ("good", "isolated"),
    ("bad", "not isolated"),
    ("mixed", "several within one stretch"),
    ("off", "off or sealed"),
)


def chart(timeline: Timeline) -> Markup:
    """Draw decisions and states of a log that has an entry, oldest on the left."""
    rows = [_row("Decisions", _bars(timeline), "bars")]
    rows += [_row(name, _lane(timeline, value), "lane") for name, value in _LANES]
    begin = format_time(timeline.begin_s)[:19].replace("T", " ")
    end_s = timeline.begin_s + timeline.width_s * len(timeline.buckets)
    axis = tag(
        "div",
        tag("span", begin),
        tag("span", f"{format_time(end_s)[:19].replace('T', ' ')} UTC"),
        class_="axis",
    )
    keys = [tag("span", tag("i", class_=f"key {name}"), text) for name, text in _LEGEND]
    return tag("div", *rows, axis, tag("p", *keys, class_="legend"), class_="chart")


def _row(name: str, shapes: Iterator[Markup], kind: str) -> Markup:
    return tag("div", tag("span", name, class_="name"), shapes_of(shapes, kind), class_=f"row {kind}")


def shapes_of(shapes: Iterator[Markup], kind: str) -> Markup:
    """Put shapes in a picture of 100 by 100 percent that stretches to its place."""
    view = f"0 0 {_HEIGHT} {_HEIGHT}"
    return tag("svg", join(shapes), viewBox=view, preserveAspectRatio="none", role="img", class_=kind)


def _bars(timeline: Timeline) -> Iterator[Markup]:
    most = max((bucket.allowed + bucket.denied for bucket in timeline.buckets), default=0)
    for number, bucket in enumerate(timeline.buckets):
        allowed, denied = (_height(count, most) for count in (bucket.allowed, bucket.denied))
        said = f"{_moment(timeline, number)}: {bucket.allowed} allowed, {bucket.denied} refused"
        for kind, height, below in (("allow", allowed, 0.0), ("deny", denied, allowed)):
            if height:
                top = _HEIGHT - min(_HEIGHT, below + height)
                yield _rect(timeline, number, 1, top, height, kind, said)


def _height(count: int, most: int) -> float:
    return max(_LEAST, 94.0 * count / most) if count else 0.0  # 94: room for what _LEAST adds


def _lane(timeline: Timeline, value_of: Callable[[State], str]) -> Iterator[Markup]:
    """Draw one lane; a stretch without entries continues what was said last."""
    begin, current, last = 0, "", ""
    for number, bucket in enumerate(timeline.buckets):
        said = _said(bucket, value_of, last)
        last = value_of(bucket.last) if bucket.entries else last
        if number and said != current:
            yield _stretch(timeline, begin, number, current)
            begin = number
        current = said
    yield _stretch(timeline, begin, len(timeline.buckets), current)


def _said(bucket: Bucket, value_of: Callable[[State], str], before: str) -> str:
    values = {value_of(state) for state in bucket.seen} or {before}
    values = values - {""} or {""}  # saying nothing for a moment contradicts nothing
    return values.pop() if len(values) == 1 else f"{_MIXED}: {', '.join(sorted(values))}"


def _stretch(timeline: Timeline, begin: int, end: int, value: str) -> Markup:
    said = f"{_moment(timeline, begin)} to {_moment(timeline, end)}: {value or 'the log does not say'}"
    return _rect(timeline, begin, end - begin, 0, _HEIGHT, _CLASSES.get(value, "mixed"), said)


def _rect(
    timeline: Timeline, begin: int, count: int, top: float, height: float, kind: str, said: str
) -> Markup:
    step = 100 / len(timeline.buckets)
    return tag(
        "rect",
        tag("title", said),
        x=f"{begin * step:.3f}",
        y=f"{top:.2f}",
        width=f"{count * step:.3f}",
        height=f"{height:.2f}",
        class_=kind,
    )


def _moment(timeline: Timeline, number: int) -> str:
    return format_time(timeline.begin_s + number * timeline.width_s)[:19].replace("T", " ")
