"""Debian's Chromium without a screen, for tests of pages: it may reach nothing, and no name resolves.

KEEP_SCREENSHOTS=FOLDER keeps the pictures.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = (
    "<script>document.title='owned'</script><img src=http://198.51.100.7/x onerror=document.title='owned'>"
)
QUIET = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-extensions", "--hide-scrollbars"),
    "--host-resolver-rules=MAP * ~NOTFOUND",
]
MARKS = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: the page was not looked at in a browser"),
    pytest.mark.timeout(240),  # a browser on a busy machine
]


@pytest.fixture
def browse(tmp_path):
    def run(page, *options):
        log = tmp_path / "net.json"
        done = subprocess.run(
            [
                *(CHROMIUM, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", f"--log-net-log={log}"),
                *("--enable-logging=stderr", *options, page.as_uri()),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done, log

    return run


def requested(net_log):
    """Every address that a page asked for; what the browser wants for itself has no origin."""
    text = net_log.read_text()
    if not text.rstrip().endswith("}"):  # the browser was ended while it wrote
        text = text.rstrip().rstrip(",") + "]}"
    events = json.loads(text)["events"]
    asked = [event["params"] for event in events if "initiator" in event.get("params", {})]
    return {params["url"] for params in asked if params["initiator"] != "not an origin"}


def broken(page, folder, *, policy):
    """The page as a mistake in escaping would have made it, with its policy or without."""
    text = page.read_text().replace("<main>", f"<main>{HOSTILE}<p style='color:red'>x</p>", 1)
    found = folder / "broken.html"
    found.write_text(text if policy else re.sub('<meta http-equiv="Content-Security-Policy"[^>]*>', "", text))
    return found


def widths_in_frames(page, browse, folder):
    """How wide the page is in frames of 1280 and 400 pixels: by a script, so in a copy without the policy."""
    text = re.sub('<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    script = "<script>parent.document.title += ' ' + document.documentElement.scrollWidth</script>"
    inner = html.escape(text.replace("</body>", f"{script}</body>"))
    frames = "".join(
        f'<iframe width="{width}" height="900" srcdoc="{inner}"></iframe>' for width in (1280, 400)
    )
    outer = folder / "frames.html"
    outer.write_text(f"<!DOCTYPE html><style>iframe {{ border: 0 }}</style><title>found</title>{frames}")
    done, _ = browse(outer, "--dump-dom")
    return sorted(re.search("<title>found([^<]*)</title>", done.stdout)[1].split())


def demand_readable(page, browse, folder, width, scheme, *, least):
    """Take a picture and demand that it is drawn on paper of its scheme and that nothing sticks out."""
    picture = folder / f"{page.stem}-{width}-{scheme}.png"
    dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    browse(page, f"--window-size={width},6000", f"--screenshot={picture}", *dark)
    if kept := os.environ.get("KEEP_SCREENSHOTS"):
        shutil.copy(picture, Path(kept) / picture.name)
    found_width, height, rows = pixels(picture)
    assert (found_width, height) == (width, 6000)
    paper = rows[2][:3]
    assert (min(paper) > 200) == (scheme == "light")
    drawn = [number for number, row in enumerate(rows) if row != paper * width]
    assert drawn[0] < 100
    assert drawn[-1] > least
    # Nothing sticks out to the right: the outermost pixels are paper from top to bottom.
    assert all(row[-12:] == paper * 4 for row in rows)


def pixels(picture):
    """Width, height and rows of RGB bytes of a PNG without interlacing, by its specification's filters."""
    data = picture.read_bytes()
    position, parts = 8, []
    while position < len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        kind, body = data[position + 4 : position + 8], data[position + 8 : position + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", body[:10])
        parts += [body] if kind == b"IDAT" else []
        position += length + 12
    assert (depth, colour in {2, 6}) == (8, True)
    size = 3 if colour == 2 else 4
    raw, rows, above = zlib.decompress(b"".join(parts)), [], bytes(width * size)
    for number in range(height):
        begin = number * (width * size + 1)
        above = unfilter(raw[begin], bytearray(raw[begin + 1 : begin + 1 + width * size]), above, size)
        rows.append(above if size == 3 else b"".join(above[i : i + 3] for i in range(0, len(above), 4)))
    return width, height, rows


def unfilter(kind, row, above, size):
    if kind == 0:
        return bytes(row)
    if kind == 2 and not any(row):
        return above
    for i in range(len(row)):
        left = row[i - size] if i >= size else 0
        corner = above[i - size] if i >= size else 0
        if kind == 1:
            guess = left
        elif kind == 2:
            guess = above[i]
        elif kind == 3:
            guess = (left + above[i]) // 2
        else:
            p = left + above[i] - corner
            nearest = min((abs(p - left), 0), (abs(p - above[i]), 1), (abs(p - corner), 2))[1]
            guess = (left, above[i], corner)[nearest]
        row[i] = (row[i] + guess) & 255
    return bytes(row)
