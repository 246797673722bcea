"""The scaffolding: locks, wheel, make, and the preflight that greets a newcomer."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
NAMES = ["build", "cubins", "dev", "fuzz", "gpu", "lock", "mpi", "pip", "pkcs11", "report", "run", "tpm"]


def pins(path: Path) -> dict[str, tuple[Requirement, int]]:
    """Package name to its pinned requirement and the number of hashes that follow it."""
    found = {}
    for block in re.split(r"\n(?=\S)", path.read_text(encoding="utf-8")):
        requirement = Requirement(block.split(" \\\n")[0])
        hashes = re.findall(r"--hash=sha256:[0-9a-f]{64}\b", block)
        found[canonicalize_name(requirement.name)] = (requirement, len(hashes))
    return found


def test_there_is_a_lock_for_each_purpose():
    assert [path.stem for path in LOCKS] == NAMES


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_a_lock_pins_one_version_of_each_package_with_its_hashes(path):
    for name, (requirement, hashes) in pins(path).items():
        assert re.fullmatch(r"==[^,*]+", str(requirement.specifier)), name
        assert hashes > 0, name
        assert requirement.url is None, name


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_a_lock_names_no_index_no_path_and_no_pytorch(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"https?:|file:|--(extra-)?index|--find-links|--trusted|(?<!\S)/", text)
    assert not {"torch", "torchvision", "triton"} & pins(path).keys()


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"lock"}))
def test_the_locks_agree_with_each_other(name):
    """Any of them can be installed beside the tools, in one environment."""
    tools = pins(ROOT / "requirements/dev.txt")
    for package, (requirement, _) in pins(ROOT / f"requirements/{name}.txt").items():
        if package in tools:
            assert requirement.specifier == tools[package][0].specifier, package


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"build", "cubins", "fuzz", "lock", "pip"}))
def test_a_lock_holds_what_pyproject_asks_for(name):
    project = SETTINGS["project"]
    asked = project["dependencies"] + project["optional-dependencies"].get(name, [])
    assert_satisfied(asked, pins(ROOT / f"requirements/{name}.txt"))


@pytest.mark.parametrize("name", ["build", "cubins", "fuzz", "lock", "pip"])
def test_a_tool_lock_holds_what_its_group_asks_for(name):
    assert_satisfied(SETTINGS["dependency-groups"][name], pins(ROOT / f"requirements/{name}.txt"))


def assert_satisfied(asked, locked):
    for requirement in map(Requirement, asked):
        pinned = locked[canonicalize_name(requirement.name)][0]
        (version,) = pinned.specifier
        assert version.version in requirement.specifier, f"{requirement}, locked {pinned}: run make lock"


def test_the_build_lock_is_for_the_build_that_pyproject_names():
    assert SETTINGS["dependency-groups"]["build"] == SETTINGS["build-system"]["requires"]


def test_the_wheel_carries_rules_schema_and_interface(tmp_path):
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-build-isolation",
        "--no-deps",
        "--no-index",
    ]
    subprocess.run([*command, "--wheel-dir", tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob("training_appliance-*-py3-none-*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    for pattern in ("*.py", "*.cedar", "*.cedarschema", "*.varlink"):
        for package in ("appliance", "audit", "kernels", "policy"):
            sources = {str(path.relative_to(ROOT)) for path in (ROOT / package).rglob(pattern)}
            assert sources <= packed, sorted(sources - packed)
    outside = {name.split("/")[0] for name in packed if ".dist-info/" not in name}
    assert outside == {"appliance", "audit", "kernels", "policy"}


def test_make_help_lists_every_target():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split()) - {"preflight"}
    told = subprocess.run(["make", "-C", ROOT, "help"], capture_output=True, text=True, check=True).stdout
    assert targets == set(re.findall(r"^  ([\w-]+) ", told, re.MULTILINE))


class Host:
    """A machine to preflight: a folder of stand-in programs as its whole PATH, and a distribution."""

    TOOLS = ("cat", "df", "awk", "dirname", "sh", "id")

    def __init__(self, folder: Path, distribution: str) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir()
        for tool in self.TOOLS:
            self.program(tool, f'exec /usr/bin/env -S PATH={os.environ["PATH"]} {tool} "$@"')
        self.program("sudo", f"touch {folder}/sudo-was-called")
        self.release = folder / "os-release"
        self.release.write_text(distribution)
        self.sudo_called = folder / "sudo-was-called"

    def program(self, name: str, body: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def python(self, name: str, version: str, *, pip: bool = True) -> None:
        """A stand-in interpreter that answers the preflight's probe as a CPython of that version would."""
        supported = (3, 11) <= tuple(map(int, version.split("."))) < (3, 15)
        answer = f"echo {self.bin / name}" if pip else f"echo {version}; exit 4"
        self.program(name, answer if supported else "exit 3")

    def whole(self) -> None:
        self.python("python3", "3.12")
        self.program("g++", "exit 0")
        self.program("ssh-keygen", "exit 0")

    def preflight(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            ["/bin/sh", ROOT / ".ci/preflight.sh", *arguments],
            env={"PATH": str(self.bin), "OS_RELEASE": str(self.release), **environment},
            capture_output=True,
            text=True,
            check=False,
        )


DEBIAN, UBUNTU, FEDORA = "ID=debian\n", "ID=ubuntu\nID_LIKE=debian\n", "ID=fedora\n"


def test_a_whole_machine_passes_the_preflight_in_silence(tmp_path):
    host = Host(tmp_path, DEBIAN)
    host.whole()
    done = host.preflight()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("distribution", "line"),
    [
        (DEBIAN, "mend it with: sudo apt install python3.12-venv g++ openssh-client"),
        (UBUNTU, "mend it with: sudo apt install python3.12-venv g++ openssh-client"),
        (FEDORA, "mend it with: sudo dnf install python3.12 gcc-c++ openssh"),
        ("ID=other\n", "mend it by installing: CPython 3.11 to 3.14 with venv, g++ and ssh-keygen"),
    ],
)
def test_everything_missing_is_told_at_once_with_the_one_line_that_mends_it(tmp_path, distribution, line):
    host = Host(tmp_path, distribution)
    done = host.preflight()
    assert done.returncode == 1
    for missing in ("no CPython 3.11 to 3.14", "no C++ compiler", "no ssh-keygen"):
        assert missing in done.stderr
    assert done.stderr.splitlines()[-1].startswith(line)
    assert done.stderr.count("mend it") == 1
    assert not host.sudo_called.exists()


@pytest.mark.parametrize(
    ("distribution", "line"),
    [
        (DEBIAN, "mend it with: sudo apt install python3.11-venv"),
        (FEDORA, "mend it with: sudo dnf install python3.11"),
    ],
)
def test_a_python_without_venv_is_told_from_no_python(tmp_path, distribution, line):
    host = Host(tmp_path, distribution)
    host.whole()
    host.python("python3", "3.11", pip=False)
    done = host.preflight()
    assert "Python 3.11 has no venv or ensurepip" in done.stderr
    assert done.stderr.splitlines()[-1] == line


@pytest.mark.parametrize("version", ["3.10", "3.15"])
def test_a_python_outside_the_range_is_refused(tmp_path, version):
    host = Host(tmp_path, DEBIAN)
    host.whole()
    host.python("python3", version)
    assert "no CPython 3.11 to 3.14" in host.preflight().stderr


def test_the_newest_python_that_can_make_environments_is_taken(tmp_path):
    host = Host(tmp_path, DEBIAN)
    host.python("python3", "3.11")
    host.python("python3.13", "3.13")
    host.python("python3.14", "3.14", pip=False)
    assert host.preflight("--python").stdout == f"{host.bin / 'python3.13'}\n"


def test_a_shim_of_a_version_that_is_not_active_is_passed_over(tmp_path):
    host = Host(tmp_path, DEBIAN)
    host.python("python3", "3.12")
    host.program("python3.13", "echo 'pyenv: python3.13: command not found' >&2; exit 127")
    assert host.preflight("--python").stdout == f"{host.bin / 'python3'}\n"


def test_the_interpreter_can_be_chosen(tmp_path):
    host = Host(tmp_path, DEBIAN)
    host.python("python3.13", "3.13")
    host.python("python3.12", "3.12")
    assert host.preflight("--python", PYTHON="python3.12").stdout == f"{host.bin / 'python3.12'}\n"
    refused = host.preflight("--python", PYTHON="python2")
    assert refused.returncode == 1
    assert "PYTHON=python2 is not CPython 3.11 to 3.14" in refused.stderr


def test_a_full_disk_is_told_with_what_is_free(tmp_path):
    host = Host(tmp_path, DEBIAN)
    host.whole()
    host.program("df", "echo head; echo /dev/x 1 1 204800 99% /")
    done = host.preflight()
    assert done.returncode == 1
    assert f"only 200 MB free under {ROOT}, 1024 MB needed" in done.stderr
    assert "mend it with" not in done.stderr
