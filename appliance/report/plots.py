"""Pictures as SVG, by matplotlib, which lives here. Equal curves make equal bytes: no time, no random ids.

A picture goes into the page as an image, in which a browser runs nothing and follows no address. Colours read
on white and on a dark page alike.
"""

from __future__ import annotations

import io
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from appliance.report.curves import Panel

_INCHES = (5.0, 3.1)
_SOFT = "#728093"
_COLOURS = ("#4a87d0", "#d2693c")
_SETTINGS: Any = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "appliance",
    "text.parse_math": False,  # a name with a dollar sign is no formula
    "font.size": 11,
    "axes.edgecolor": _SOFT,
    "axes.labelcolor": _SOFT,
    "text.color": _SOFT,
    "xtick.color": _SOFT,
    "ytick.color": _SOFT,
}
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def svg_of(panel: Panel) -> bytes:
    """Draw one picture."""
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=_INCHES, layout="constrained")
        axes = figure.add_subplot()
        for number, line in enumerate(panel.series):
            marker = "o" if line.marked or len(line.xs) == 1 else ""
            colour = _COLOURS[number % len(_COLOURS)]
            axes.plot(
                line.xs, line.ys, color=colour, marker=marker, markersize=4, linewidth=1.6, label=line.name
            )
        axes.set_xlabel(panel.x_label)
        axes.set_ylabel(panel.y_label)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.grid(visible=True, color=_SOFT, alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        if len(panel.series) > 1:
            axes.legend(frameon=False, fontsize=10)
        out = io.BytesIO()
        figure.savefig(out, format="svg", metadata=_NO_METADATA, transparent=True)
    return out.getvalue()
