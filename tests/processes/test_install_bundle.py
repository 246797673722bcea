"""The real install bundle, made twice by `make bundle-test`: the same bytes, and a demo on a bare host."""

from __future__ import annotations

import ensurepip
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.release.make import listing

BUNDLES = os.environ.get("INSTALL_BUNDLES", "")

pytestmark = pytest.mark.skipif(not BUNDLES, reason="made and installed by `make bundle-test` only")

# The demo as `make demo` tells it, on a model that learns nothing: what is shown is that all of it runs.
SHORT_DEMO = """\
import io, os, sys, time
from pathlib import Path
from appliance.demo.narrator import Narrator, clean_environment
from appliance.demo.previous import HOME
from appliance.demo.story import Script, perform
folder, programs = Path(sys.argv[1]), Path(sys.executable).parent
model = "[model]\\nlayers = 1\\nwidth = 16\\nheads = 2\\ncontext = 32\\n\\n"
model += "[train]\\nbatch = 4\\nwarmup_steps = 0\\n"
more = "validation_fraction = 0.01\\neval_every = 1\\n\\n[data]\\ncorpus = 'python-reference'\\n"
script = Script(model + "steps = 4\\n" + more, model + "steps = 1\\n" + more, length=40)
environment = clean_environment(os.environ, programs, folder / HOME)
narrator = Narrator(sys.stdout, folder.parent, environment, time.monotonic)
perform(narrator, folder, script)
"""


def bundles() -> list[Path]:
    return [next(Path(BUNDLES, name).glob("training-appliance-*")) for name in ("one", "two")]


def bare_host(command: str, *arguments: str | Path) -> subprocess.CompletedProcess:
    """Run a shell command with no network, no ensurepip, no settings and none of our environment."""
    empty = Path(BUNDLES) / "empty"
    empty.mkdir(exist_ok=True)
    hide = f"mount --bind {empty} {Path(ensurepip.__file__).parent}"
    script = f"{hide}; ip link set lo up 2>/dev/null; {command}"
    return subprocess.run(
        ["unshare", "-n", "-m", "sh", "-euc", script, "sh", *arguments],
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def copied(tmp_path_factory) -> Path:
    return Path(shutil.copytree(bundles()[0], tmp_path_factory.mktemp("var") / "bundle"))


def install(bundle: Path, prefix: Path) -> subprocess.CompletedProcess:
    python = Path(sys.base_prefix) / "bin/python3"
    verify = 'ssh-keygen -Y verify -f "$2" -I release -n release@appliance -s sha256sums.sig < sha256sums'
    compare = "sha256sum --check --strict --quiet sha256sums"
    return bare_host(
        f'cd "$1" && {verify} && {compare} && sh install.sh --signers "$2" --prefix "$3" --python "$4"',
        bundle,
        Path(BUNDLES) / "one/release.signers",
        prefix,
        python,
    )


def test_two_makings_are_the_same_to_the_bit():
    one, two = bundles()
    assert listing(one) == listing(two)
    for path in sorted(one.rglob("*")):
        other = two / path.relative_to(one)
        assert (path.stat().st_mode, path.stat().st_mtime) == (other.stat().st_mode, other.stat().st_mtime)


def test_it_installs_without_network_and_the_demo_runs_from_it(copied, tmp_path):
    done = install(copied, tmp_path / "opt")
    assert done.returncode == 0, done.stderr
    current = tmp_path / "opt/current"
    told = bare_host('"$1" -I -c "$2" "$3"', current / "env/bin/python", SHORT_DEMO, tmp_path / "demo")
    assert told.returncode == 0, told.stdout[-3000:] + told.stderr
    assert "signature" in told.stdout
    lists = ["sha256sum", "--check", "--strict", "--quiet", "files.sha256"]
    subprocess.run(lists, cwd=current, check=True)  # a whole demo later, nothing of the release has changed

    (site,) = current.glob("env/lib/python3*/site-packages")
    (site / "policy/default.cedar").write_text("permit (principal, action, resource);")
    command = '"$1" --home "$2" daemon --detach'
    started = bare_host(command, current / "bin/appliance", tmp_path / "demo/home")
    assert started.returncode == 6
    assert "policy/default.cedar: expected SHA-256" in started.stderr


def test_what_the_cpu_kernels_need_comes_along(copied, tmp_path):
    (wheel,) = copied.glob("wheels/training_appliance-*.whl")
    shutil.unpack_archive(wheel, tmp_path, "zip")
    needed = subprocess.run(
        ["ldd", tmp_path / "kernels/cpu/lib/libkernels.so"], capture_output=True, text=True, check=True
    ).stdout
    assert f"libgomp.so.1 => {tmp_path}/kernels/cpu/lib/libgomp.so.1" in needed
    assert "libstdc++" not in needed


@pytest.mark.parametrize("kind", ["wheels/numpy-*-cp311-*.whl", "tools/pip-*.whl", "install.sh"])
def test_a_tampered_bundle_stops_at_the_operators_own_line(copied, tmp_path, kind):
    (victim,) = copied.glob(kind)
    whole = victim.read_bytes()
    victim.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        done = install(copied, tmp_path / "opt")
    finally:
        victim.write_bytes(whole)
    assert done.returncode == 1
    assert f"{victim.relative_to(copied)}: FAILED" in done.stdout
    assert not (tmp_path / "opt").exists()
