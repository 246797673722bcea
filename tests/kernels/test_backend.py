"""The table of ops: what is promised is there, and what is not there is said."""

import inspect

import pytest

import kernels
from kernels import errors, reference
from kernels.cpu.ops import Cpu
from kernels.cuda.ops import Cuda
from kernels.table import Backend


@pytest.mark.parametrize(("table", "bound"), [(reference, 0), (Cpu, 1), (Cuda, 1)])
def test_a_backend_has_every_op_of_the_table_with_the_same_parameters(table, bound):
    for name, promised in inspect.getmembers(Backend, inspect.isfunction):
        if not name.startswith("_"):
            expected = [(p.name, p.kind) for p in inspect.signature(promised).parameters.values()][1:]
            given = [(p.name, p.kind) for p in inspect.signature(getattr(table, name)).parameters.values()]
            assert given[bound:] == expected, name


def test_a_backend_is_known_by_its_name():
    assert kernels.backend("reference").NAME == "reference"


def test_an_unknown_backend_is_refused_with_the_known_ones():
    with pytest.raises(errors.BackendMissing, match="called 'fpga': expected one of cpu, reference"):
        kernels.backend("fpga")


def test_every_error_is_in_the_tree_and_has_an_exit_code():
    for cls in vars(errors).values():
        if inspect.isclass(cls) and issubclass(cls, Exception):
            assert issubclass(cls, errors.KernelError)
            assert cls.exit_code in (1, 2, 5, 6)
            assert cls.__name__ in errors.__doc__
