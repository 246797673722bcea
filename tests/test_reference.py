"""The reference leaves nothing out: each kind of entry, each package that is depended on, each page."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENTRIES = ROOT / "docs/reference/entries.md"
DECISIONS = ROOT / "docs/decisions"
WRITERS = {"outcome", "record", "_record", "_outcome", "Record"}
WRITING = ("appliance/custodian", "appliance/initialise.py", "appliance/gate.py", "audit")
# Chosen at run time from these lists of constants, so that no call spells them.
CHOSEN = {"custody-changed", "custody-staged", "vault-key-begun", "vault-key-rotated"}
# A package whose page is another's: they come together.
TOGETHER = {
    "markupsafe": "jinja2",
    "mpich": "mpi",
    "mpi4py": "mpi",
    "tpm2-pytss": "tpm",
    "python-pkcs11": "tokens",
}


def sources():
    for place in WRITING:
        path = ROOT / place
        yield from sorted(path.rglob("*.py")) if path.is_dir() else [path]


def constants():
    """Every module-level name of the four packages that is one text, so that a kind may be given by name."""
    found = {}
    for package in ("appliance", "audit"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.parse(path.read_text("utf-8")).body:
                targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
                value = getattr(node, "value", None)
                pairs = [(targets[0], value)] if targets else []
                if isinstance(value, ast.Tuple) and isinstance(targets[0], ast.Tuple):
                    pairs = list(zip(targets[0].elts, value.elts, strict=True))
                for target, each in pairs:
                    if (
                        isinstance(target, ast.Name)
                        and isinstance(each, ast.Constant)
                        and type(each.value) is str
                    ):
                        found.setdefault(target.id, set()).add(each.value)
    return found


def spelled(node, known):
    """The texts that an expression in a call can be."""
    if isinstance(node, ast.Constant):
        return {node.value} if type(node.value) is str else set()
    if isinstance(node, ast.Name):
        return known.get(node.id, set())
    if isinstance(node, ast.IfExp):
        return spelled(node.body, known) | spelled(node.orelse, known)
    return set()


def kinds_written():
    known, found = constants(), set()
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in WRITERS:
                given = [each.value for each in node.keywords if each.arg == "kind"] or node.args[:1]
                found |= {kind for each in given for kind in spelled(each, known)}
    return found | CHOSEN


def test_every_kind_of_entry_is_explained_and_no_other():
    told = set()
    for row in re.findall(r"^\| (`[^|]*) \|", ENTRIES.read_text("utf-8"), re.MULTILINE):
        told |= set(re.findall(r"`([a-z.-]+)`", row))
    assert told == kinds_written()


def test_every_package_that_is_depended_on_has_a_decision():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    listed = list(settings["dependencies"])
    for name, packages in settings["optional-dependencies"].items():
        listed += packages if name != "dev" else []
    wanted = {re.split(r"[<>=]", text)[0] for text in listed}
    wanted.discard("cupy-cuda13x")  # declared for the day its kernels need it; nothing imports it
    pages = {path.stem[5:] for path in DECISIONS.glob("*.md")}
    lacking = {
        name
        for name in wanted
        if not any(TOGETHER.get(name, name) in page.replace("_", "-") for page in pages)
    }
    assert lacking == set()


def test_the_first_page_of_the_documents_names_every_page_beside_it():
    first = (ROOT / "docs/README.md").read_text("utf-8")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert {name for name in pages if f"({name})" not in first} == set()
