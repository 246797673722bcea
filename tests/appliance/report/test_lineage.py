"""The lineage as a graph: nothing is dropped unsaid, and nothing lies on top of anything."""

from __future__ import annotations

from dataclasses import replace

from appliance.report import lineage
from appliance.report.lineage import MAX_ANCESTORS, NODE_HEIGHT, NODE_WIDTH, WIDTH, graph_of
from tests.appliance.report.telling import CONFIG, CORPUS, SECOND, entries, objects, row, sources


def pairs(graph):
    return {(a.title, b.title) for a, b in graph.edges}


def test_a_job_stands_between_what_it_read_and_what_it_made():
    graph = graph_of(sources())
    assert pairs(graph) == {
        ("config first", "first"),
        ("corpus first", "first"),
        ("first", "weights first"),
        ("first", "optimizer first"),
        ("weights first", "export of version 2"),
    }
    notes = {node.title: node.note for node in graph.nodes}
    assert notes["weights first"].startswith("versions 1 to 2, ")
    assert notes["export of version 2"] == "bundle b0b0b0b0b0b0, entry 25"


def test_older_ancestors_stand_above_what_was_made_of_them():
    base, older = "ba" * 32, "0d" * 32
    rows = objects()
    rows[older] = row(older, "corpus", "older", 1)
    rows[base] = row(base, "weights", "base", 2, [older, CONFIG], "train-of-old")
    rows[SECOND] = {**rows[SECOND], "parents": [CONFIG, CORPUS, base]}
    graph = graph_of(sources(objects=rows))
    assert {
        ("corpus older", "weights base"),
        ("config first", "weights base"),
        ("weights base", "first"),
    } <= pairs(graph)
    assert ("config first", "first") in pairs(graph)
    heights = {node.title: node.y for node in graph.nodes}
    assert heights["corpus older"] < heights["weights base"] < heights["first"] < heights["weights first"]


def test_no_box_lies_on_another_or_outside():
    graph = graph_of(sources())
    for number, a in enumerate(graph.nodes):
        assert a.x >= 0
        assert a.x + NODE_WIDTH <= WIDTH
        assert a.y + NODE_HEIGHT <= graph.height
        for b in graph.nodes[number + 1 :]:
            assert abs(a.x - b.x) >= NODE_WIDTH or abs(a.y - b.y) >= NODE_HEIGHT


def test_what_is_too_much_to_draw_is_counted(monkeypatch):
    monkeypatch.setattr(lineage, "MAX_ANCESTORS", 1)
    assert graph_of(sources()).left_out == 1
    assert MAX_ANCESTORS == 24


def test_a_job_that_made_nothing_yet_has_its_config_alone():
    whole = sources()
    alone = replace(
        whole, job={**whole.job, "results": []}, objects={CONFIG: whole.objects[CONFIG]}, entries=[]
    )
    assert pairs(graph_of(alone)) == {("config first", "first")}


def test_an_export_of_an_object_that_may_not_be_seen_is_drawn_without_a_line():
    rows = {name: each for name, each in objects().items() if name != SECOND}
    graph = graph_of(sources(objects=rows, entries=entries()))
    assert any(node.title == "export" for node in graph.nodes)
    assert not any(b.title == "export" for _, b in graph.edges)
