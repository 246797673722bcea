"""The error trees of the four packages: one root each, and an exit code from the one table on every class."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re

import click
import pytest

import appliance.errors
from appliance.errors import ApplianceError, by_code
from audit.errors import AuditError
from kernels.errors import KernelError
from policy.errors import PolicyError

ROOTS = {"appliance": ApplianceError, "audit": AuditError, "kernels": KernelError, "policy": PolicyError}


def documented() -> dict[str, int]:
    """The tree drawn at the top of appliance/errors.py: class name to exit code."""
    drawn = re.findall(r"^ +[├└ ─]*(\w+) +(\d+) ", appliance.errors.__doc__, re.MULTILINE)
    return {name: int(number) for name, number in drawn}


TABLE = documented()


def modules(package: str) -> list:
    """Every module of a package, imported; programs only where importing them runs nothing."""
    root = importlib.import_module(package)
    names = [found.name for found in pkgutil.walk_packages(root.__path__, package + ".")]
    return [root, *(importlib.import_module(name) for name in names if not name.endswith("__main__"))]


def exceptions_defined_in(package: str) -> set[type[BaseException]]:
    """All but those whose name begins with an underscore: they steer inside one module and never leave it."""
    return {
        value
        for module in modules(package)
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, BaseException) and value.__module__ == module.__name__
        if not name.startswith("_")
    }


def tree(root: type[BaseException]) -> list[type[BaseException]]:
    return [root, *(below for child in root.__subclasses__() for below in tree(child))]


def test_the_table_can_be_read():
    assert len(TABLE) > 20
    assert TABLE["ApplianceError"] == 1
    assert TABLE["UsageError"] == 2


@pytest.mark.parametrize("package", ROOTS)
def test_every_exception_we_define_stands_in_its_packages_tree(package):
    ways_out = (ROOTS[package], click.ClickException)  # the command line wraps ours in click's to end with
    assert not {error for error in exceptions_defined_in(package) if not issubclass(error, ways_out)}


@pytest.mark.parametrize("package", ROOTS)
def test_every_error_carries_an_exit_code_of_the_table(package):
    modules(package)
    for error in tree(ROOTS[package]):
        assert type(error.exit_code) is int
        assert error.exit_code in TABLE.values(), (
            f"{error.__name__}: exit code {error.exit_code} is undocumented"
        )


@pytest.mark.parametrize("package", ROOTS)
def test_every_error_says_in_a_sentence_what_it_stands_for(package):
    modules(package)
    for error in tree(ROOTS[package]):
        assert error.__dict__.get("__doc__"), f"{error.__name__} has no docstring of its own"


@pytest.mark.parametrize("package", ROOTS)
def test_the_tree_drawn_at_the_top_of_errors_py_is_the_tree(package):
    drawing = importlib.import_module(package + ".errors").__doc__
    for error in exceptions_defined_in(package) & set(tree(ROOTS[package])):
        if error.__module__ != package + ".errors":
            continue
        line = re.search(rf"^.*\b{error.__name__}\b.*$", drawing, re.MULTILINE)
        assert line, f"{error.__name__} is missing from the tree drawn in {package}/errors.py"
        numbers = [int(number) for number in re.findall(r"\b\d+\b", line.group())]
        assert error.exit_code in numbers, f"{error.__name__}: {line.group().strip()!r}"


def test_every_appliance_error_has_its_own_code_and_its_own_exit_code():
    top = [ApplianceError, *ApplianceError.__subclasses__()]
    assert len({error.code for error in top}) == len(top)
    assert len({error.exit_code for error in top}) == len(top)
    assert {error.__name__: error.exit_code for error in top} == TABLE


def test_exit_codes_leave_zero_three_and_the_shells_own_alone():
    codes = set(TABLE.values())
    assert not codes & {0, 3}
    assert max(codes) < 64


def test_a_refinement_keeps_the_code_its_caller_knows():
    for error in set(tree(ApplianceError)) - {ApplianceError, *ApplianceError.__subclasses__()}:
        assert by_code()[error.code].exit_code == error.exit_code


def test_a_client_can_raise_whatever_the_daemon_reports():
    modules("appliance")
    known = by_code()
    assert known["internal"] is ApplianceError
    for error in tree(ApplianceError):
        assert issubclass(error, known[error.code])
