"""The hint for OpenBLAS is given where it is safe, and needs no NumPy to be worked out."""

import subprocess
import sys

import pytest

from appliance.training.blas import blas_environment

FLAGS = "fpu sse2 avx2 avx512f avx512dq avx512cd avx512bw avx512vl avx512_bf16"


def cpuinfo(vendor="AuthenticAMD", family="26", flags=FLAGS):
    first = f"processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: {family}\nflags\t\t: {flags}\n"
    return first + "\nprocessor\t: 1\n"


def test_zen_5_is_named_for_what_it_can_do():
    assert blas_environment(cpuinfo()) == {"OPENBLAS_NUM_THREADS": "1", "OPENBLAS_CORETYPE": "SkylakeX"}


@pytest.mark.parametrize(
    "text",
    [
        cpuinfo(vendor="GenuineIntel"),
        cpuinfo(family="25"),
        cpuinfo(family="many"),
        cpuinfo(flags="fpu sse2 avx2"),
        cpuinfo(flags=FLAGS.replace("avx512vl", "")),
        "",
        "processor : 0\nBogoMIPS : 50\nFeatures : fp asimd\n",
        "\0\xff no colon anywhere",
    ],
)
def test_no_core_is_named_where_it_might_be_wrong(text):
    assert blas_environment(text) == {"OPENBLAS_NUM_THREADS": "1"}


def test_the_custodian_can_ask_without_loading_numpy():
    code = "import sys, appliance.training.blas; sys.exit('numpy' in sys.modules or 'kernels' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
