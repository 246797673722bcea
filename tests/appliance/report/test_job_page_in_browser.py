"""The page on a job in a real browser: nothing runs, is asked for or sticks out; on paper too."""

from __future__ import annotations

import pytest

from appliance.report.page import page as make
from tests.appliance.report.telling import sources
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
def page(tmp_path_factory):
    out = tmp_path_factory.mktemp("job") / "job.html"
    out.write_bytes(make(sources(HOSTILE)))
    return out


def test_nothing_runs_and_nothing_is_asked_for(page, browse):
    done, net_log = browse(page, "--dump-dom")
    assert "<title>Job train-0a1b2c3d4e5f</title>" in done.stdout
    assert "&lt;script&gt;document.title='owned'&lt;/script&gt;" in done.stdout
    assert "<script" not in done.stdout
    assert "CONSOLE" not in done.stderr
    assert "Content Security Policy" not in done.stderr
    assert {address.partition(":")[0] for address in requested(net_log)} <= {"data"}


def test_the_policy_stops_a_script_that_got_in(page, browse, tmp_path):
    done, net_log = browse(broken(page, tmp_path, policy=True), "--dump-dom")
    assert "<title>Job train-0a1b2c3d4e5f</title>" in done.stdout
    assert done.stderr.count("violates the following Content Security Policy") >= 2
    assert "http://198.51.100.7/x" not in requested(net_log)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "light"), (1280, "dark")])
def test_the_page_can_be_read_at_both_widths(page, browse, tmp_path, width, scheme):
    demand_readable(page, browse, tmp_path, width, scheme, least=1500)


def test_nothing_is_wider_than_a_phone(page, browse, tmp_path):
    assert widths_in_frames(page, browse, tmp_path) == ["1280", "400"]


def test_it_prints_on_a_few_pages(page, browse, tmp_path):
    printed = tmp_path / "job.pdf"
    browse(page, f"--print-to-pdf={printed}", "--no-pdf-header-footer")
    data = printed.read_bytes()
    assert data.startswith(b"%PDF")
    assert 2 <= data.count(b"/Type /Page\n") + data.count(b"/Type /Page ") + data.count(b"/Type /Page/") <= 12
