"""The page itself: a template that Jinja2 fills, which lives here, with every text escaped.

Guarantees whoever opens it that the page asks for nothing (its own Content-Security-Policy forbids scripts,
fonts and requests), and that no name, reason or sampled text becomes markup: each value goes through
`audit.markup.escaped`, as on the page on a whole log, and pictures are images in which nothing runs.
"""

from __future__ import annotations

import base64
from hashlib import sha256
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from appliance.report.curves import (
    BITS_PER_NAT,
    Panel,
    evaluations,
    is_of_bytes,
    loss_panels,
    other_panels,
    scales_of,
)
from appliance.report.lineage import NODE_HEIGHT, NODE_WIDTH, WIDTH, graph_of
from appliance.report.plots import svg_of
from appliance.report.sources import Sources
from appliance.report.story import acts_of, kinds_of, moment, people, releases_of
from audit.markup import escaped

_MOST_FIGURES = 40
_TITLE, _NOTE = 23, 26  # characters that fit in a graph's box


def page(sources: Sources) -> bytes:
    """Make the page, UTF-8."""
    css = files("audit").joinpath("report.css").read_text("utf-8")
    css += files("appliance.report").joinpath("job.css").read_text("utf-8")
    if "<" in css:
        raise ValueError("expected CSS without '<', which could end the style element")
    digest = base64.b64encode(sha256(css.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    template = _environment().from_string(
        files("appliance.report").joinpath("job.html.jinja").read_text("utf-8")
    )
    return template.render(css=Markup(css), csp=policy, **_values(sources)).encode()  # noqa: S704  our own file


def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["moment"] = moment
    made.filters["people"] = people
    made.filters["title"] = lambda text: _cut(text, _TITLE)
    made.filters["note"] = lambda text: _cut(text, _NOTE)
    return made


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _finalize(value: object) -> object:
    """Escape a text as the page on a whole log does: also what would reorder a line becomes visible."""
    if isinstance(value, Markup):
        return value
    return Markup(escaped(str(value)))  # noqa: S704  escaped on this line


def _values(sources: Sources) -> dict[str, Any]:
    events, job = sources.events, sources.job
    scales = scales_of(sources.account)
    of_bytes = is_of_bytes(job, list(sources.objects.values()))
    figures = evaluations(events)
    acts, acts_left = acts_of(sources.entries, sources.objects)
    every = -(-len(figures) // _MOST_FIGURES) or 1
    losses = [event["loss"] for event in events if event.get("loss") is not None]
    return {
        "s": sources,
        "job": job,
        "loss": [_picture(each) for each in loss_panels(events, scales, of_bytes=of_bytes)],
        "others": [_picture(each) for each in other_panels(events)],
        "figures": figures[::-1][::every][::-1],
        "last": figures[-1][1] if figures else None,
        "best": min((bits for _, bits in figures), default=None),
        "train": losses[-1] * BITS_PER_NAT if losses else None,
        "train_unit": "bits per byte" if of_bytes else "bits per token",
        "graph": graph_of(sources),
        "size": {"width": WIDTH, "node_width": NODE_WIDTH, "node_height": NODE_HEIGHT},
        "acts": acts,
        "acts_left": acts_left,
        "approvals": [entry for entry in sources.entries if entry.kind == "approved"],
        "releases": releases_of(sources.entries, sources.objects),
        "kinds": kinds_of(sources.entries),
    }


def _picture(panel: Panel) -> dict[str, str]:
    data = base64.b64encode(svg_of(panel)).decode("ascii")
    return {"title": panel.title, "words": panel.words, "src": f"data:image/svg+xml;base64,{data}"}
