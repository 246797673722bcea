"""The table of kernels says what the sources say."""

from __future__ import annotations

import re

import pytest

from kernels.cuda.signatures import KERNELS, bind
from kernels.errors import ArrayRefused
from tests.kernels.cuda.shim import library


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_takes_the_types_that_the_table_names(shim, kernel):
    assert library.types_of(kernel) == KERNELS[kernel].types


def test_every_source_is_in_the_table():
    assert {path.stem for path in library.SOURCES.glob("*.cu")} == {each.source for each in KERNELS.values()}


def test_no_header_of_a_toolkit_is_included():
    for path in library.SOURCES.glob("*.cu*"):
        named = re.findall(r'#include [<"]([^>"]+)[>"]', path.read_text(encoding="utf-8"))
        assert all(name == "shim.h" or (library.SOURCES / name).exists() for name in named), path


def test_arguments_under_other_names_are_refused():
    with pytest.raises(ArrayRefused, match="expected the arguments first, second, partial"):
        bind("column_sums", {"first": 1})
