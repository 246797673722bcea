"""The page in a real browser: nothing runs, nothing is asked for, nothing sticks out.

Needs the package `chromium`; says aloud that it is skipped elsewhere.
"""

from __future__ import annotations

import pytest

from audit.__main__ import main
from audit.log import Log
from tests.audit.story import BEGAN_S, SECRET, WEIGHTS, day, decision, fact
from tests.browser import (
    HOSTILE,
    MARKS,
    broken,
    demand_readable,
    requested,
    widths_in_frames,
)

pytestmark = MARKS


@pytest.fixture(scope="module")
def page(tmp_path_factory, signer):
    folder = tmp_path_factory.mktemp("page")
    minutes = iter(range(1000))
    log = Log.create(folder / "log", signer, lambda: BEGAN_S + 60 * next(minutes), commit_secret=SECRET)
    hostile = [
        decision(
            "Person:mallory", "read", f"Object:{WEIGHTS}", allow=False, object_name=f"weights/{HOSTILE}"
        ),
        fact("sealed", HOSTILE, "seal", HOSTILE, reason=HOSTILE),
    ]
    for record in [*day(), *hostile]:
        log.append([record])
    log.close()
    (folder / "key").write_text(signer.vkey.text)
    out = folder / "page.html"
    assert main(["report", str(folder / "log"), "--vkey", str(folder / "key"), "--out", str(out)]) == 0
    return out


def test_nothing_runs_and_nothing_is_asked_for(page, browse):
    done, net_log = browse(page, "--dump-dom")
    assert "<title>Audit of log.example/test</title>" in done.stdout
    assert "&lt;script&gt;document.title='owned'&lt;/script&gt;" in done.stdout
    assert "<script" not in done.stdout
    assert "<img" not in done.stdout
    assert "CONSOLE" not in done.stderr
    assert "Content Security Policy" not in done.stderr
    assert requested(net_log) == set()


def test_the_policy_stops_a_script_that_got_in(page, browse, tmp_path):
    """The second wall: what escaping missed would still not run."""
    done, net_log = browse(broken(page, tmp_path, policy=True), "--dump-dom")
    assert "<title>Audit of log.example/test</title>" in done.stdout
    assert done.stderr.count("violates the following Content Security Policy") >= 2
    assert requested(net_log) == set()


def test_without_escaping_and_policy_both_attacks_would_be_seen_here(page, browse, tmp_path):
    done, net_log = browse(broken(page, tmp_path, policy=False), "--dump-dom")
    assert "<title>owned</title>" in done.stdout
    assert requested(net_log) == {"http://198.51.100.7/x"}


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_can_be_read_at_both_widths(page, browse, tmp_path, width, scheme):
    demand_readable(page, browse, tmp_path, width, scheme, least=1500)


def test_nothing_is_wider_than_a_phone(page, browse, tmp_path):
    assert widths_in_frames(page, browse, tmp_path) == ["1280", "400"]
