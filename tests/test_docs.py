"""The documents name what exists, and the map leaves nothing out."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("appliance", "audit", "kernels", "policy")
MAP = ROOT / "docs/architecture.md"
DECISIONS = sorted((ROOT / "docs/decisions").glob("*.md"))
SECTIONS = ("Question", "Choice", "Price", "What would change our mind")


def documents() -> list[Path]:
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    return [ROOT / name for name in listed] or sorted(ROOT.glob("*.md")) + sorted(
        (ROOT / "docs").rglob("*.md")
    )


def named_paths(text: str) -> set[str]:
    """What stands in backticks and begins like a path of this repository."""
    folders = "|".join((*PACKAGES, "tests", "docs", "bench", "requirements", r"\.ci"))
    return set(re.findall(rf"`((?:{folders})/[\w./-]*)`", text))


def tree_paths(text: str) -> list[str]:
    """The paths of an annotated tree: names up to the first double space, folders by indentation."""
    (block,) = re.findall(r"^```tree\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    found, above = [], []
    for line in block.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        names = [
            name for name in re.split(r" {2,}", line.strip())[0].split() if re.search(r"[./]|^[A-Z]", name)
        ]
        above = above[:depth]
        found += ["".join([*above, name]) for name in names]
        if names[0].endswith("/"):
            above = [*above, names[0]]
    return found


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_path_that_a_document_names_exists(document):
    text = document.read_text(encoding="utf-8")
    assert not {name for name in named_paths(text) if not (ROOT / name).exists()}


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_inside_the_repository_leads_somewhere(document):
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in target and not target.startswith("mailto:"):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_every_path_of_the_map_exists():
    assert not [name for name in tree_paths(MAP.read_text(encoding="utf-8")) if not (ROOT / name).exists()]


def test_the_map_leaves_no_module_out():
    """Each module and folder directly inside a package; what is inside the folders says so itself."""
    mapped = {name.rstrip("/") for name in tree_paths(MAP.read_text(encoding="utf-8"))}
    built = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).iterdir()
        if path.suffix in {".py", ".cedar", ".cedarschema", ".varlink"} or (path / "__init__.py").exists()
        if path.name != "__init__.py"
    }
    assert built <= mapped, f"missing from docs/architecture.md: {sorted(built - mapped)}"


def test_the_readers_of_documents_see_what_is_there():
    drawn = "appliance/  all\n  a.py b.py   two\n  cli/\n    c.py\nMakefile\n"
    text = f"see `audit/gone.py`, `age`\n```tree\n{drawn}```\n"
    assert named_paths(text) == {"audit/gone.py"}
    assert tree_paths(text) == [
        *(
            "appliance/",
            "appliance/a.py",
            "appliance/b.py",
            "appliance/cli/",
            "appliance/cli/c.py",
            "Makefile",
        ),
    ]


def test_each_word_of_the_glossary_is_explained_once():
    glossary = MAP.read_text(encoding="utf-8").partition("\n## Words\n")[2]
    words = [
        word.strip()
        for row in re.findall(r"^\| ([^|]+) \|", glossary, re.MULTILINE)
        for word in row.split(",")
    ]
    assert len(words) > 20
    assert len(words) == len(set(words))


def test_decisions_are_numbered_without_gaps():
    numbers = [int(path.name[:4]) for path in DECISIONS]
    assert numbers == list(range(1, len(DECISIONS) + 1))


@pytest.mark.parametrize("page", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_says_what_was_asked_chosen_paid_and_what_would_undo_it(page):
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {int(page.name[:4])}. ")
    for section in SECTIONS:
        assert f"**{section}.**" in text, section
    assert len(text.split()) < 450, "one page"


def test_every_run_time_package_has_its_decision():
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (block,) = re.findall(r"^dependencies = \[\n(.*?)^\]", settings, re.DOTALL | re.MULTILINE)
    packages = set(re.findall(r'"([a-z0-9-]+)', block))
    assert packages <= {page.stem[5:] for page in DECISIONS}
