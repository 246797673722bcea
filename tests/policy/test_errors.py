from __future__ import annotations

import pytest

from policy import errors


def family(root: type) -> list[type]:
    return [root, *(descendant for child in root.__subclasses__() for descendant in family(child))]


@pytest.mark.parametrize("cls", family(errors.PolicyError), ids=lambda cls: cls.__name__)
def test_every_error_is_drawn_in_the_tree_with_its_exit_code(cls):
    drawn = [line.split() for line in errors.__doc__.splitlines() if f" {cls.__name__} " in line]

    assert drawn
    assert str(cls.exit_code) in drawn[0]
    assert issubclass(cls, errors.PolicyError)
