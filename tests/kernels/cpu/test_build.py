"""How the library is built: with and without a compiler, and without touching the process that loads it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[3]
TOOLS = Path(sys.executable).parent


def test_without_a_compiler_the_build_succeeds_and_says_what_that_costs(tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("cmake", "ninja"):
        (tools / name).symlink_to(shutil.which(name, path=TOOLS) or shutil.which(name))
    environment = {"PATH": str(tools)}
    configure = [tools / "cmake", "-S", ROOT / "kernels/cpu", "-B", tmp_path / "build", "-G", "Ninja"]
    done = subprocess.run(configure, env=environment, capture_output=True, text=True, check=True)
    said = " ".join(done.stderr.split())
    assert "no C++ compiler: the CPU kernels are not built" in said
    assert "several times slower" in said
    assert "Install g++ and install again" in said
    subprocess.run([tools / "cmake", "--build", tmp_path / "build"], env=environment, check=True)
    assert not list(tmp_path.rglob("*.so"))


def test_the_build_is_for_any_processor_of_its_kind_and_leaves_rounding_alone():
    flags = "".join(
        line
        for line in (ROOT / "kernels/cpu/CMakeLists.txt").read_text(encoding="utf-8").splitlines()
        if line[:1] != "#"
    )
    assert "-march=native" not in flags
    assert "fast-math" not in flags


def test_a_process_that_computed_still_knows_denormal_numbers(cpu):
    """-ffast-math at a link would have them flushed to zero, for NumPy too."""
    values = np.full(64, 1e-40, np.float32)
    cpu.gelu_forward(np.empty_like(values), x=values)
    assert (values * np.float32(0.5) > 0).all()
