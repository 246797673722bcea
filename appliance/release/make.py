"""Makes the offline install bundle: one signed folder from which a host without a network installs a release.

    training-appliance-<version>-linux-x86_64/
      readme.txt           the lines to type, in their order
      install.sh           checks, copies, verifies, installs; POSIX sh
      requirements.txt     every package with its hash, our own wheel among them
      wheels/              those packages for CPython 3.11 to 3.13
      gpu/ cubins/         what the extra `gpu` needs beside them, and compiled kernels, where asked for
      tools/               pip's own wheel
      policy/              the rules that ship, to read
      systemd/             units, accounts and folders for a service manager
      release.json         version, commit, and what a host must have
      sbom.cdx.json        what it is made of (CycloneDX)
      provenance.json      how it was built (SLSA)
      sha256sums           every file above
      sha256sums.sig       SSHSIG of that list by the release key, namespace release@appliance

Guarantees: equal commit, downloads, compiler, key and SOURCE_DATE_EPOCH give equal bytes, modes, times.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from appliance import __version__
from appliance.bundle import canonical
from appliance.errors import SignatureError
from appliance.release.cubins import carry_cubins
from appliance.release.readme import readme
from appliance.release.sbom import bill_of_materials
from appliance.release.slsa import provenance
from appliance.release.wheels import (
    PYTHONS,
    Wheel,
    build_wheel,
    download,
    export_commit,
    glibc_floor,
    read_wheel,
    unpacked_bytes,
)

NAMESPACE = "release@appliance"
PRINCIPAL = "release"
LIST = "sha256sums"
UNITS = Path("appliance/units")
SCRIPT = Path(__file__).with_name("install.sh")
# Beside copy and packages: bytecode, and the file system's own rounding.
_SPARE_BYTES = 64 << 20
_BYTECODE_SHARE = 1.5  # installed beside unpacked: 1.36 (CPython 3.11, 2026-11-24)


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be made: from which repository, signed with which OpenSSH key, in which folder."""

    repository: Path
    key: Path
    out: Path
    epoch: int
    gpu: bool


def make_bundle(order: Order) -> Path:
    """Build, download, describe, list and sign; return the folder, which replaces one of its name."""
    order.out.mkdir(parents=True, exist_ok=True)
    folder = order.out / f"training-appliance-{__version__}-linux-x86_64"
    with tempfile.TemporaryDirectory(prefix=".making-", dir=order.out) as scratch:
        source, made = Path(scratch) / "source", Path(scratch) / "made"
        source.mkdir()
        made.mkdir()
        commit = export_commit(order.repository, source)
        _collect(source, made, order)
        _describe(made, commit, order)
        sign(made, order.key)
        settle(made, order.epoch)
        if folder.exists():
            shutil.rmtree(folder)
        made.rename(folder)
    return folder


def _collect(source: Path, made: Path, order: Order) -> None:
    """Bring together what is installed: wheels by the commit's locks, rules, units, compiled kernels."""
    locks = source / "requirements"
    for name in ("wheels", "tools"):
        (made / name).mkdir()
    ours = build_wheel(source, made / "wheels", order.epoch)
    download(locks / "run.txt", made / "wheels")
    download(locks / "pip.txt", made / "tools")
    pinned = (locks / "run.txt").read_text(encoding="utf-8")
    (made / "requirements.txt").write_text(pinned + pin(ours), encoding="utf-8")
    if order.gpu:
        (made / "gpu").mkdir()
        download(locks / "gpu.txt", made / "gpu")
        for wheel in (made / "wheels").iterdir():
            (made / "gpu" / wheel.name).unlink(missing_ok=True)
        shutil.copyfile(locks / "gpu.txt", made / "gpu" / "requirements.txt")
        listed = (source / "kernels" / "cubins.json").read_bytes()
        carry_cubins(order.repository / "build" / "cubins", listed, made / "cubins")
    _copy_matching(source / "policy", made / "policy", "*.cedar*")
    carry_units(source, made)


def carry_units(source: Path, made: Path) -> None:
    """Copy the units with their drop-ins; a commit without them makes no bundle (FileNotFoundError)."""
    shutil.copytree(source / UNITS, made / "systemd")


def pin(wheel: Path) -> str:
    """Return the line of a requirements file that a wheel fulfils, with its hash."""
    read = read_wheel(wheel)
    return f"{read.name}=={read.version} --hash=sha256:{_sha256(wheel)}\n"


def _copy_matching(source: Path, target: Path, pattern: str) -> None:
    found = [path for path in sorted(source.glob(pattern)) if path.is_file() and path.suffix != ".py"]
    if found:
        target.mkdir()
    for path in found:
        shutil.copyfile(path, target / path.name)


def _describe(made: Path, commit: str, order: Order) -> None:
    """Write script, texts, bill of materials and provenance; the last tells the digests of all others."""
    files = [path for name in ("wheels", "gpu", "tools") for path in sorted((made / name).glob("*.whl"))]
    wheels = [read_wheel(path) for path in files]
    glibc = glibc_floor(files)
    facts: dict[str, canonical.JSON] = {
        "format": 1,
        "version": __version__,
        "commit": commit,
        "glibc": glibc,
        "pythons": list(PYTHONS),
    }
    (made / "release.json").write_bytes(canonical.encode(facts))
    write_script(made, __version__, glibc, _space_mb(made, files))
    (made / "readme.txt").write_text(readme(__version__), encoding="utf-8")
    _write_json(made / "sbom.cdx.json", bill_of_materials(wheels, order.epoch))
    _write_provenance(made, wheels, commit, order)


def _write_provenance(made: Path, wheels: list[Wheel], commit: str, order: Order) -> None:
    statement = provenance(listing(made), wheels, commit=commit, epoch=order.epoch, gpu=order.gpu)
    _write_json(made / "provenance.json", statement)


def _write_json(path: Path, value: Mapping[str, canonical.JSON]) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _space_mb(made: Path, wheels: list[Path]) -> int:
    copied = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
    return round((copied + _BYTECODE_SHARE * unpacked_bytes(wheels) + _SPARE_BYTES) / (1 << 20))


def write_script(made: Path, version: str, glibc: str, space_mb: int) -> None:
    """Write install.sh with the three facts that differ from release to release."""
    text = SCRIPT.read_text(encoding="utf-8")
    for name, value in (("VERSION", version), ("GLIBC", glibc), ("SPACE_MB", str(space_mb))):
        text = text.replace(f"@{name}@", value)
    (made / "install.sh").write_text(text, encoding="utf-8")


def listing(folder: Path) -> dict[str, str]:
    """Map each file below a folder, by its relative name, to its SHA-256 (hex)."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in files}


def sign(made: Path, key: Path) -> None:
    """Write the list of all files and the release key's signature of it; raises SignatureError."""
    lines = [f"{digest}  {name}\n" for name, digest in sorted(listing(made).items())]
    (made / LIST).write_text("".join(lines), encoding="utf-8")
    done = subprocess.run(
        ["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", key, made / LIST],  # noqa: S607  OpenSSH's own
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SignatureError(f"{key}: expected an OpenSSH key that signs, found: {done.stderr.strip()}")


def signers_line(key: Path) -> str:
    """Return the line of `release.signers`, which reaches operators another way than the bundle."""
    public = key.with_name(f"{key.name}.pub").read_text(encoding="utf-8").split()
    return f'{PRINCIPAL} namespaces="{NAMESPACE}" {public[0]} {public[1]}\n'


def settle(made: Path, epoch: int) -> None:
    """Give every file and folder the fixed mode and time."""
    for path in [made, *made.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (epoch, epoch))


def _sha256(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
