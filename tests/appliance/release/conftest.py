"""A small install bundle: the real script and layout, pip's real wheel, and a stand-in for the appliance."""

from __future__ import annotations

import ensurepip
import hashlib
import os
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.release.make import carry_units, settle, sign, signers_line, write_script

EPOCH = 1_700_000_000


def write_wheel(folder: Path, version: str = "0.1.0") -> Path:
    """Write a wheel of one package that says what it was started with."""
    path = folder / f"training_appliance-{version}-py3-none-any.whl"
    info = f"training_appliance-{version}.dist-info"
    members = {
        "appliance/__init__.py": "",
        "appliance/__main__.py": "import sys\nprint('stand-in', *sys.argv[1:])\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: training-appliance\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    members[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*members, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


@dataclass(frozen=True, slots=True)
class Kit:
    """A signed bundle, the operator's copy of the release key, and a folder to install into."""

    folder: Path
    key: Path
    signers: Path
    prefix: Path

    def install(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        command = ["sh", self.folder / "install.sh", "--signers", self.signers, "--prefix", self.prefix]
        return subprocess.run(
            [*command, *arguments],
            env={"PATH": os.environ["PATH"], "HOME": str(self.prefix.parent), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def sign(self) -> None:
        for name in ("sha256sums", "sha256sums.sig"):
            (self.folder / name).unlink(missing_ok=True)
        sign(self.folder, self.key)
        settle(self.folder, EPOCH)

    @property
    def current(self) -> Path:
        return self.prefix / "current"


def fill(folder: Path, version: str) -> None:
    """Put together what `make bundle` would, with one small package in place of many large ones."""
    for name in ("wheels", "tools", "policy", "cubins"):
        (folder / name).mkdir()
    wheel = write_wheel(folder / "wheels", version)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (folder / "requirements.txt").write_text(f"training-appliance=={version} --hash=sha256:{digest}\n")
    (bundled,) = (Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl")
    (folder / "tools" / bundled.name).write_bytes(bundled.read_bytes())
    (folder / "policy" / "default.cedar").write_text("permit (principal, action, resource);\n")
    (folder / "cubins" / "norms.cubin").write_bytes(b"\x7fELF a kernel")
    (folder / "release.json").write_text("{}")
    carry_units(Path(__file__).parents[3], folder)
    write_script(folder, version, "2.17", 10)


@pytest.fixture
def kit(tmp_path) -> Kit:
    folder, key, signers = tmp_path / "stick", tmp_path / "release", tmp_path / "release.signers"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    signers.write_text(signers_line(key))
    folder.mkdir()
    fill(folder, "0.1.0")
    made = Kit(folder, key, signers, tmp_path / "opt")
    made.sign()
    return made
