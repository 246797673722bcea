"""The lineage of a job as a graph, from what it was made of, through the job, to what left.

Pure: places are computed here, shapes and text are the template's. What the job made is one node for each
kind and name; ancestors beyond a bound are counted, not dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from appliance.report.sources import Row, Sources
from audit.entry import Entry

MAX_ANCESTORS = 24
WIDTH, PER_ROW = 380, 2
NODE_WIDTH, NODE_HEIGHT, GAP_X, GAP_Y = 178, 50, 24, 36
EXPORTED = "bundle-exported"


@dataclass(frozen=True, slots=True)
class Node:
    """A box: its place and its two lines of text. `kind` chooses its colour."""

    id: str
    kind: str
    title: str
    note: str
    x: float = 0
    y: float = 0


@dataclass(frozen=True, slots=True)
class Graph:
    """Boxes and the lines between them, in a picture of `WIDTH` by `height` units."""

    nodes: Sequence[Node]
    edges: Sequence[tuple[Node, Node]]
    height: int
    left_out: int


def graph_of(sources: Sources) -> Graph:
    """Place a job, all that it was made of, what it made and what left of that."""
    objects, job = sources.objects, sources.job
    made = [row for row in objects.values() if row["job"] == job["id"]]
    inputs = _inputs(sources, made)
    above, left_out = _ancestors(objects, inputs)
    layers = _by_depth(above)
    center = Node("job", "job", f"{job['name']}", f"{job['id']}, {job['state']}")
    results = _grouped(made)
    exports = [_export_node(entry, objects) for entry in sources.entries if entry.kind == EXPORTED]
    rows = [*([_object_node(row) for row in layer] for layer in layers), [center], results, exports]
    nodes, height = _placed(rows)
    pairs = [(up, row["id"]) for row in above.values() for up in row["parents"]]
    pairs += [(name, "job") for name in inputs]
    pairs += [("job", node.id) for node in results]
    pairs += _exports(sources.entries, objects)
    edges = tuple((nodes[a], nodes[b]) for a, b in pairs if a in nodes and b in nodes)
    return Graph(tuple(nodes.values()), edges, height, left_out)


def _inputs(sources: Sources, made: Sequence[Row]) -> list[str]:
    """Return ids of what the job read: its config and the parents of what it made that it did not make."""
    own = {row["id"] for row in made}
    found = [sources.job["config"], *(up for row in made for up in row["parents"])]
    return [name for name in dict.fromkeys(found) if name in sources.objects and name not in own]


def _ancestors(objects: Mapping[str, Row], begin: Iterable[str]) -> tuple[dict[str, Row], int]:
    found: dict[str, Row] = {}
    left_out = 0
    waiting = list(begin)
    while waiting:
        name = waiting.pop(0)
        if name in found or name not in objects:
            continue
        if len(found) >= MAX_ANCESTORS:
            left_out += 1
            continue
        found[name] = objects[name]
        waiting += objects[name]["parents"]
    return found, left_out


def _by_depth(rows: Mapping[str, Row]) -> list[list[Row]]:
    """Sort objects into layers, each below all that its own were made of."""
    depth: dict[str, int] = {}
    for row in sorted(
        rows.values(), key=lambda each: int(each["log_index"])
    ):  # a parent is older than its child
        depth[row["id"]] = 1 + max((depth.get(up, -1) for up in row["parents"] if up in rows), default=-1)
    layers: list[list[Row]] = [[] for _ in range(1 + max(depth.values(), default=-1))]
    for name, level in depth.items():
        layers[level].append(rows[name])
    return layers


def _object_node(row: Row) -> Node:
    return Node(
        row["id"], row["kind"], f"{row['kind']} {row['name']}", f"version {row['version']}, {row['id'][:12]}"
    )


def _grouped(made: Sequence[Row]) -> list[Node]:
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in made:
        groups.setdefault((row["kind"], row["name"]), []).append(row)
    nodes = []
    for (kind, name), rows in groups.items():
        versions = sorted(int(row["version"]) for row in rows)
        count = f"versions {versions[0]} to {versions[-1]}" if len(versions) > 1 else f"version {versions[0]}"
        nodes.append(Node(f"made {kind} {name}", kind, f"{kind} {name}", f"{count}, {rows[-1]['id'][:12]}"))
    return nodes


def _export_node(entry: Entry, objects: Mapping[str, Row]) -> Node:
    bundle, of = str(entry.context.get("bundle", "")), objects.get(entry.resource.partition(":")[2])
    version = f" of version {of['version']}" if of is not None else ""
    return Node(
        f"export {entry.seq}", "export", f"export{version}", f"bundle {bundle[:12]}, entry {entry.seq}"
    )


def _placed(rows: Sequence[Sequence[Node]]) -> tuple[dict[str, Node], int]:
    placed: dict[str, Node] = {}
    y = 4
    for row in rows:
        for begin in range(0, len(row), PER_ROW):
            part = row[begin : begin + PER_ROW]
            x = (WIDTH - len(part) * NODE_WIDTH - (len(part) - 1) * GAP_X) / 2
            for number, node in enumerate(part):
                at = x + number * (NODE_WIDTH + GAP_X)
                placed[node.id] = Node(node.id, node.kind, node.title, node.note, at, y)
            y += NODE_HEIGHT + GAP_Y
    return placed, max(y - GAP_Y + 4, 0)


def _exports(entries: Sequence[Entry], objects: Mapping[str, Row]) -> list[tuple[str, str]]:
    found = [
        (entry.seq, objects.get(entry.resource.partition(":")[2]))
        for entry in entries
        if entry.kind == EXPORTED
    ]
    return [(f"made {of['kind']} {of['name']}", f"export {seq}") for seq, of in found if of is not None]
