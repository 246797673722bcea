from __future__ import annotations

import re

from audit.chart import chart
from audit.timeline import ISOLATED, NOT_ISOLATED, ON, OPEN, SEALED, State, Timeline
from tests.audit.story import BEGAN_S

SHAPE = re.compile(
    r'<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)" class="(\w+)"><title>([^<]*)</title>'
)


def drawn(*facts):
    """Shapes by row for entries at given seconds: (class, first percent, width, words)."""
    timeline = Timeline()
    for second, state, allowed in facts:
        timeline.add(BEGAN_S + second, state, allowed=allowed)
    rows = re.findall('<span class="name">(.*?)</span>(.*?)</svg>', chart(timeline).html)
    return {name: [(m[4], float(m[0]), float(m[2]), m[5]) for m in SHAPE.findall(svg)] for name, svg in rows}


def test_a_stretch_without_entries_continues_what_was_said_last():
    rows = drawn((0, State(ON, SEALED, ISOLATED), True), (9, State(ON, OPEN, ISOLATED), True))
    assert [(kind, begin, width) for kind, begin, width, _ in rows["Vault"]] == [
        ("off", 0, 90),
        ("open", 90, 10),
    ]
    assert [(kind, begin, width) for kind, begin, width, _ in rows["Host"]] == [("good", 0, 100)]
    assert rows["Appliance"][0][3] == "2025-06-15 15:06:40 to 2025-06-15 15:06:50: running"


def test_what_changed_within_a_stretch_is_told_as_several():
    rows = drawn((0, State(ON, OPEN, ISOLATED), True), (0.5, State(ON, OPEN, NOT_ISOLATED), True))
    ((kind, _, _, words),) = rows["Host"]
    assert kind == "mixed"
    assert words.endswith(": several: isolated, not isolated")


def test_what_the_log_did_not_say_is_not_made_up():
    rows = drawn((0, State(), None), (1, State(ON), None), (1.5, State(ON, OPEN), None))
    assert [kind for kind, *_ in rows["Host"]] == ["none"]
    assert rows["Host"][0][3].endswith("the log does not say")
    assert [kind for kind, *_ in rows["Vault"]] == ["none", "open"]
    assert rows["Decisions"] == []


def test_one_refusal_among_thousands_is_still_seen():
    timeline = Timeline()
    for _ in range(5000):
        timeline.add(BEGAN_S, State(ON), allowed=True)
    timeline.add(BEGAN_S, State(ON), allowed=False)
    (svg,) = re.findall('<svg[^>]*class="bars">(.*?)</svg>', chart(timeline).html)
    shapes = {m[4]: m for m in SHAPE.findall(svg)}
    assert float(shapes["deny"][3]) == 3.0
    assert shapes["deny"][5] == "2025-06-15 15:06:40: 5000 allowed, 1 refused"
    top, bottom = float(shapes["deny"][1]), float(shapes["allow"][1])
    assert 0 <= top < bottom
