"""A full medium and one that was pulled are two different errors."""

import errno
import os

import pytest

from appliance.bundle.medium import demand_same_medium, is_foreign, medium_error
from appliance.errors import MediumMissing, SpaceExhausted


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_full_medium_says_so(code):
    found = medium_error(OSError(code, "x"), "p0000.age")
    assert isinstance(found, SpaceExhausted)
    assert found.exit_code == 5
    assert "p0000.age" in str(found)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.EROFS])
def test_vanished_medium_says_so(code):
    found = medium_error(OSError(code, "x"), "p0000.age")
    assert isinstance(found, MediumMissing)
    assert found.exit_code == 4
    assert os.strerror(code) in str(found)


def test_any_other_error_is_itself():
    other = OSError(errno.EACCES, "x")
    assert medium_error(other, "p0000.age") is other


@pytest.mark.parametrize(
    "name",
    ["._p0000.age", ".Trash-1000", ".Trashes", "System Volume Information", ".DS_Store", "$RECYCLE.BIN"],
)
def test_names_that_other_systems_leave(name):
    assert is_foreign(name)


@pytest.mark.parametrize("name", ["p0000.age", ".hidden", "autorun.inf", "_p0000.age", "x.Trash"])
def test_names_that_nobody_leaves_by_himself(name):
    assert not is_foreign(name)


def test_a_mount_point_that_was_left_behind_is_not_the_medium(tmp_path):
    (tmp_path / "stick").mkdir()
    opened = os.open(tmp_path / "stick", os.O_RDONLY)
    demand_same_medium(tmp_path / "stick", opened)
    (tmp_path / "stick").rename(tmp_path / "pulled")
    with pytest.raises(MediumMissing, match="insert it again"):
        demand_same_medium(tmp_path / "stick", opened)
    (tmp_path / "stick").mkdir()
    with pytest.raises(MediumMissing, match="another folder in its place"):
        demand_same_medium(tmp_path / "stick", opened)
    os.close(opened)
