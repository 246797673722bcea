"""Imports go downward only: the table, read from the sources and checked again in running interpreters.

The sources show every import, also those that only happen in some branch; the interpreter shows what a
process really holds. `LAYERS` bounds what a package may name, `NEVER` what a process can reach through any
chain of imports, `HOMES` gives each awkward dependency the one place that closes its traps.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("appliance", "audit", "kernels", "policy")

# What a package may import beside the standard library. `appliance` may import everything that is declared.
LAYERS = {
    "audit": ("audit", "nacl"),
    "kernels": ("kernels", "numpy", "cupy"),
    "policy": ("policy", "cedarpy", "cryptography", "nacl"),
    "appliance.training": ("appliance.training", "appliance.errors", "kernels", "numpy", "tokenizers"),
}

# One module of a layer that may name more, inside a function: an auditor without a post-quantum key does
# without the package, as `test_importing_audit_loads_pynacl_and_nothing_else` holds.
LATE = {"audit.mldsa": ("cryptography",)}

# What a process must never hold, through whatever chain of imports.
NEVER = {
    "appliance.front": (
        *("appliance.vault", "appliance.custody", "appliance.training", "appliance.gate", "appliance.grants"),
        *("appliance.catalog", "appliance.custodian", "appliance.worker", "appliance.age"),
        *("audit", "policy", "kernels"),
    ),
    "appliance.worker": (
        *(
            "appliance.gate",
            "appliance.grants",
            "appliance.custody",
            "appliance.custodian",
            "appliance.vault",
        ),
        *("appliance.catalog", "appliance.cli", "audit.log", "policy.engine"),
        "appliance.cubins",  # the compiler stays where releases are made
    ),
    "appliance.cli": ("appliance.gate", "appliance.worker"),
}

# Third-party (and SQLite) code that has one home. Cedar's has four rooms: rules parses them, slices chooses
# among them, facts are what they are asked about, engine asks.
HOMES = {
    "cedarpy": ("policy.engine", "policy.facts", "policy.rules", "policy.slices"),
    "click": ("appliance.cli",),
    "cupy": ("kernels.cuda",),
    "jinja2": ("appliance.report",),
    "markupsafe": ("appliance.report",),
    "matplotlib": ("appliance.report",),
    "pkcs11": ("appliance.custody",),
    "rich": ("appliance.cli",),
    "shamir_mnemonic": ("appliance.custody",),
    "sqlite3": ("appliance.catalog",),
    "tokenizers": ("appliance.training.bpe",),
    "tpm2_pytss": ("appliance.custody",),
}

# Import names of what pyproject.toml declares for running; the tools and checkers of the tests are no part.
DECLARED = {"cryptography", "mpi4py", "nacl", "numpy", "structlog"} | (HOMES.keys() - {"sqlite3"})

# Places that choose a module by name at run time: the backend, the command, the task once the jail holds.
# Each name of ours that they spell out counts as imported. Elsewhere an import is a statement.
DYNAMIC = ("kernels", "appliance.cli.root", "appliance.worker.__main__")


@dataclass(frozen=True, slots=True)
class Module:
    """One source file: what it names, and what of that is loaded when it runs (not under TYPE_CHECKING)."""

    name: str
    named: frozenset[str]
    loaded: frozenset[str]
    dynamic: bool


def within(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def ours(name: str) -> bool:
    return within(name, PACKAGES)


class Imports(ast.NodeVisitor):
    """Collects what a module imports, with relative names made absolute."""

    def __init__(self, package: str) -> None:
        self.package = package
        self.named: set[str] = set()
        self.loaded: set[str] = set()
        self.spelled: set[str] = set()
        self.dynamic = False
        self.only_for_types = False

    def add(self, name: str) -> None:
        self.named.add(name)
        if not self.only_for_types:
            self.loaded.add(name)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.add(alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        if node.level:
            above = self.package.split(".")[: len(self.package.split(".")) - node.level + 1]
            base = ".".join([*above, *([base] if base else [])])
        for alias in node.names:
            self.add(f"{base}.{alias.name}")

    def visit_If(self, node: ast.If) -> None:
        for_types = ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
        before, self.only_for_types = self.only_for_types, self.only_for_types or for_types
        for child in node.body:
            self.visit(child)
        self.only_for_types = before
        for child in node.orelse:
            self.visit(child)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and ours(node.value):
            self.spelled.add(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        if ast.unparse(node.func) in {"importlib.import_module", "import_module", "__import__"}:
            self.dynamic = True
        self.generic_visit(node)


def read_modules(root: Path) -> dict[str, Module]:
    """Every module of the four packages below `root`, by name."""
    paths = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path

    def settle(names: set[str]) -> frozenset[str]:
        """Our names cut back to modules, each with the packages above it; others to their top level."""
        settled = set()
        for name in names:
            if not ours(name):
                settled.add(name.split(".")[0])
                continue
            parts = name.split(".")
            settled.update(p for n in range(len(parts)) if (p := ".".join(parts[: n + 1])) in paths)
        return frozenset(settled)

    modules = {}
    for name, path in paths.items():
        imports = Imports(name if path.stem == "__init__" else name.rpartition(".")[0])
        imports.visit(ast.parse(path.read_text(encoding="utf-8"), str(path)))
        if imports.dynamic:
            imports.named |= imports.spelled
            imports.loaded |= imports.spelled
        modules[name] = Module(name, settle(imports.named), settle(imports.loaded), imports.dynamic)
    return modules


def chain_to(modules: dict[str, Module], start: str, forbidden: tuple[str, ...]) -> list[str] | None:
    """The shortest chain of imports from `start`, or a module inside it, to something forbidden."""
    queue = [[name] for name in modules if within(name, (start,))]
    seen = {chain[0] for chain in queue}
    for chain in queue:  # grows while it is walked: breadth first
        for name in sorted(modules[chain[-1]].loaded - seen):
            if within(name, forbidden):
                return [*chain, name]
            if name in modules:
                seen.add(name)
                queue.append([*chain, name])
    return None


def faults(root: Path) -> list[str]:
    """Each breach of the tables above, as a sentence."""
    modules = read_modules(root)
    found = []
    for module in modules.values():
        found += [
            f"{module.name} imports {name}: no part of what {layer} may import"
            for layer, allowed in LAYERS.items()
            if within(module.name, (layer,))
            for name in sorted(module.named - sys.stdlib_module_names - above(allowed))
            if not within(name, (*allowed, *LATE.get(module.name, ())))
        ]
        found += [
            f"{module.name} imports {name}: its home is {HOMES[name][0]}"
            for name in sorted(module.named & HOMES.keys())
            if not within(module.name, HOMES[name])
        ]
        found += [
            f"{module.name} imports {name}: declared nowhere"
            for name in sorted(module.named - sys.stdlib_module_names - DECLARED)
            if not ours(name)
        ]
        if module.dynamic and not within(module.name, DYNAMIC):
            found.append(f"{module.name} chooses a module at run time: write an import statement")
    for start, forbidden in NEVER.items():
        if chain := chain_to(modules, start, forbidden):
            found.append(f"{start} must never hold {chain[-1]}: {' → '.join(chain)}")
    return found


def above(names: tuple[str, ...]) -> set[str]:
    """The packages that are loaded on the way to `names`: importing a.b runs a's `__init__`."""
    return {".".join(name.split(".")[: n + 1]) for name in names for n in range(name.count("."))}


def test_imports_go_downward_only():
    assert faults(ROOT) == []


def test_the_table_speaks_of_modules_that_exist():
    modules = read_modules(ROOT)
    for name in [*LAYERS, *NEVER, "appliance.gate", "appliance.custody", "appliance.vault", "audit.log"]:
        assert name in modules, f"{name} was moved: the table above no longer watches it"


@pytest.mark.parametrize(
    ("path", "source", "fault"),
    [
        ("audit/log.py", "import policy.model", "audit.log imports policy"),
        ("audit/log.py", "from kernels import reference", "audit.log imports kernels"),
        ("audit/log.py", "def f():\n    import cryptography", "audit.log imports cryptography: no part"),
        (
            "audit/log.py",
            "if TYPE_CHECKING:\n    from appliance import gate",
            "audit.log imports appliance.gate",
        ),
        ("audit/log.py", "import structlog", "audit.log imports structlog: no part of what audit"),
        ("kernels/reference.py", "import nacl.signing", "kernels.reference imports nacl: no part"),
        ("policy/model.py", "from audit.entry import Record", "policy.model imports audit: no part"),
        ("policy/model.py", "import cedarpy", "policy.model imports cedarpy: its home is policy.engine"),
        (
            "appliance/training/loop.py",
            "from .. import gate",
            "appliance.training.loop imports appliance.gate",
        ),
        ("appliance/training/loop.py", "import cryptography", "appliance.training.loop imports cryptography"),
        ("appliance/gate.py", "import click", "appliance.gate imports click: its home is appliance.cli"),
        (
            "appliance/gate.py",
            "import sqlite3",
            "appliance.gate imports sqlite3: its home is appliance.catalog",
        ),
        ("appliance/gate.py", "import requests", "appliance.gate imports requests: declared nowhere"),
        ("appliance/gate.py", "import pytest", "appliance.gate imports pytest: declared nowhere"),
        ("appliance/gate.py", "__import__('x')", "appliance.gate chooses a module at run time"),
        ("appliance/gate.py", "import importlib\nimportlib.import_module(n)", "chooses a module at run time"),
        ("appliance/worker.py", "import appliance.gate", "worker must never hold appliance.gate"),
        ("appliance/worker.py", "from appliance import custody", "worker must never hold appliance.custody"),
        ("appliance/worker.py", "import audit.log", "worker must never hold audit.log"),
        (
            "appliance/worklink.py",
            "import appliance.gate",
            "appliance.worker → appliance.worklink → appliance.gate",
        ),
        ("appliance/worker.py", "__import__({'t': 'audit.log'}[t])", "worker must never hold audit.log"),
        ("appliance/messages.py", "import policy.model", "front → appliance.messages → policy"),
        (
            "appliance/front.py",
            "from appliance.training import loop",
            "front must never hold appliance.training",
        ),
    ],
)
def test_each_breach_is_told(tmp_path, path, source, fault):
    sound = {
        **dict.fromkeys([f"{package}/__init__.py" for package in PACKAGES], ""),
        "appliance/custody/__init__.py": "import cryptography",
        "appliance/training/__init__.py": "import numpy\nfrom appliance.errors import ApplianceError",
        "appliance/training/loop.py": "from appliance import errors\nfrom kernels import reference",
        "appliance/errors.py": "",
        "appliance/messages.py": "if TYPE_CHECKING:\n    import audit.log",
        "appliance/worklink.py": "",
        "appliance/front.py": "from appliance import messages",
        "appliance/worker.py": "from appliance import messages, worklink\nimport appliance.training.loop",
        "appliance/gate.py": "import audit.log, policy.engine, importlib.resources",
        "audit/log.py": "import os, nacl.signing",
        "kernels/reference.py": "import numpy as np",
        "policy/engine.py": "import cedarpy",
        "policy/model.py": "",
    }
    write_tree(tmp_path, sound)
    assert faults(tmp_path) == []
    write_tree(tmp_path, {path: source})
    assert any(fault in told for told in faults(tmp_path)), faults(tmp_path)


def write_tree(root: Path, files: dict[str, str]) -> None:
    for path, source in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(source, encoding="utf-8")


HELD = """
import importlib, json, pkgutil, sys
before = set(sys.modules)
package = importlib.import_module(sys.argv[1])
for found in pkgutil.walk_packages(getattr(package, "__path__", []), package.__name__ + "."):
    importlib.import_module(found.name)
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def held_after_importing(name: str) -> set[str]:
    """What a fresh, isolated interpreter holds after importing `name` and all that is inside it."""
    command = [sys.executable, "-I", "-c", HELD, name]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def foreign(held: set[str]) -> set[str]:
    """Top-level names that are neither ours nor the standard library's."""
    return {name.split(".")[0] for name in held} - sys.stdlib_module_names - set(PACKAGES)


def test_importing_audit_loads_pynacl_and_nothing_else():
    held = held_after_importing("audit")
    assert not {name for name in held if within(name, ("appliance", "kernels", "policy"))}
    assert foreign(held) <= {"nacl", "_sodium", "cffi", "_cffi_backend"}


def test_importing_kernels_loads_numpy_and_nothing_else():
    held = held_after_importing("kernels")
    assert not {name for name in held if within(name, ("appliance", "audit", "policy"))}
    assert foreign(held) == {"numpy"}


def test_importing_policy_loads_none_of_the_others():
    held = held_after_importing("policy")
    assert not {name for name in held if within(name, ("appliance", "audit", "kernels"))}


def test_training_runs_without_vault_daemon_or_keys():
    held = held_after_importing("appliance.training")
    own = {name for name in held if ours(name) and not within(name, ("appliance.training", "kernels"))}
    assert own == {"appliance", "appliance.errors"}
    assert foreign(held) == {"numpy", "tokenizers"}


def test_the_front_process_holds_no_keys_no_rules_and_no_numbers():
    held = held_after_importing("appliance.front")
    assert not {name for name in held if within(name, NEVER["appliance.front"])}
    assert foreign(held) == set()
    assert "sqlite3" not in held


def test_the_worker_process_holds_neither_gate_nor_custody_nor_log():
    held = held_after_importing("appliance.worker")
    assert not {name for name in held if within(name, NEVER["appliance.worker"])}
    assert not held & {"cedarpy", "click", "sqlite3", "structlog"}
