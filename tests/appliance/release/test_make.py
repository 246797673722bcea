"""What an install bundle says of itself: packages, build, hosts; the same each time it is made."""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path

import pytest

from appliance.errors import ContentRefused, SignatureError
from appliance.release.make import LIST, listing, pin, settle, sign, signers_line
from appliance.release.sbom import bill_of_materials
from appliance.release.slsa import provenance
from appliance.release.wheels import glibc_floor, read_wheel, unpacked_bytes

EPOCH = 1_700_000_000


def wheel(folder: Path, name: str, version: str, tag: str, lines: str = "", **members: bytes) -> Path:
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        text = f"Metadata-Version: 2.4\nName: {name.replace('_', '-')}\nVersion: {version}\n{lines}"
        archive.writestr(f"{name}-{version}.dist-info/METADATA", text)
        for member, data in members.items():
            archive.writestr(member.replace("__", "/").replace("_so", ".so"), data)
    return path


@pytest.fixture
def wheels(tmp_path):
    ours = wheel(
        tmp_path,
        "training_appliance",
        "0.1.0",
        "py3-none-linux_x86_64",
        "Requires-Dist: numpy>=2\nRequires-Dist: cupy-cuda13x>=14; extra == 'gpu'\n",
        kernels__cpu__lib__libkernels_so=b"\0GLIBC_2.4\0GLIBC_2.31\0GLIBC_2.9\0",
    )
    paths = [ours]
    for abi, tags in (
        ("cp311", "manylinux_2_27_x86_64.manylinux_2_28_x86_64"),
        ("cp312", "manylinux_2_28_x86_64"),
    ):
        paths.append(
            wheel(tmp_path, "numpy", "2.4.6", f"{abi}-{abi}-{tags}", "License-Expression: BSD-3-Clause\n")
        )
    return [read_wheel(path) for path in paths]


def test_the_bill_names_every_package_and_every_file_with_its_hash(wheels):
    bill = bill_of_materials(wheels, EPOCH)
    (numpy,) = bill["components"]
    assert (numpy["purl"], numpy["version"]) == ("pkg:pypi/numpy@2.4.6", "2.4.6")
    assert numpy["licenses"] == [{"expression": "BSD-3-Clause"}]
    assert [each["name"] for each in numpy["components"]] == [each.path.name for each in wheels[1:]]
    ours = bill["metadata"]["component"]
    assert ours["type"] == "application"
    assert [each["name"] for each in ours["components"]] == [
        wheels[0].path.name,
        "kernels/cpu/lib/libkernels.so",
    ]
    assert {"ref": ours["purl"], "dependsOn": [numpy["purl"]]} in bill["dependencies"]
    assert bill == bill_of_materials(list(reversed(wheels)), EPOCH)
    assert json.loads(json.dumps(bill))["bomFormat"] == "CycloneDX"


def test_provenance_names_commit_downloads_and_every_file(wheels):
    digests = {f"wheels/{each.path.name}": "ab" * 32 for each in wheels} | {"install.sh": "cd" * 32}
    statement = provenance(digests, wheels, commit="f" * 40, epoch=EPOCH, gpu=False)
    assert [each["name"] for each in statement["subject"]] == sorted(digests)
    built = statement["predicate"]["buildDefinition"]
    assert built["externalParameters"] == {"commit": "f" * 40, "gpu": False}
    assert [each["uri"] for each in built["resolvedDependencies"]] == [
        "git+training-appliance",
        *["pkg:pypi/numpy@2.4.6"] * 2,
    ]


def test_the_host_needs_the_newest_libc_that_any_library_names(wheels):
    paths = [each.path for each in wheels]
    assert glibc_floor(paths) == "2.31"
    assert glibc_floor(paths[1:2]) == "2.27", "the older of two tags is enough to install it"
    assert glibc_floor([]) == "2.17"


def test_only_one_interpreter_is_counted_for_the_space(wheels):
    both = unpacked_bytes([each.path for each in wheels])
    assert 0 < both == unpacked_bytes([wheels[0].path, wheels[1].path])


def test_what_is_no_wheel_is_refused(tmp_path):
    path = tmp_path / "x-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.py", "")
    with pytest.raises(ContentRefused, match="expected one METADATA, found 0"):
        read_wheel(path)


def test_a_lock_line_fits_the_wheel(wheels):
    assert pin(wheels[0].path).startswith("training-appliance==0.1.0 --hash=sha256:")


def test_signed_twice_it_is_the_same_to_the_bit_and_the_operators_line_accepts_it(tmp_path):
    key = tmp_path / "release"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    made = [tmp_path / "one", tmp_path / "two"]
    for folder in made:
        (folder / "wheels").mkdir(parents=True)
        for name in ("wheels/b", "a", "wheels/a") if folder.name == "one" else ("wheels/a", "wheels/b", "a"):
            (folder / name).write_text(name)
        sign(folder, key)
        settle(folder, EPOCH)
    assert listing(made[0]) == listing(made[1])
    for folder in made:
        found = [(path.stat().st_mode & 0o777, path.stat().st_mtime) for path in sorted(folder.rglob("*"))]
        assert found == [(0o644, EPOCH)] * 3 + [(0o755, EPOCH)] + [(0o644, EPOCH)] * 2
    (tmp_path / "release.signers").write_text(signers_line(key))
    command = ["ssh-keygen", "-Y", "verify", "-f", tmp_path / "release.signers", "-I", "release"]
    with (made[0] / LIST).open("rb") as signed:
        command += ["-n", "release@appliance", "-s", made[0] / f"{LIST}.sig"]
        subprocess.run(command, stdin=signed, check=True)


def test_a_key_that_cannot_sign_is_named(tmp_path):
    (tmp_path / "made").mkdir()
    (tmp_path / "key").write_text("no key")
    with pytest.raises(SignatureError, match="key: expected an OpenSSH key that signs, found:"):
        sign(tmp_path / "made", tmp_path / "key")
