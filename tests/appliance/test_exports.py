"""Exports: the custodian's rights are not lent to whoever passes it a descriptor."""

from __future__ import annotations

import os

import pytest

from appliance.custodian.exports import check_writable_by
from appliance.errors import PolicyRefused

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root could write where others may not")


@pytest.fixture
def folder(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@needs_root
@pytest.mark.root
def test_a_folder_of_somebody_else_is_refused(folder, tmp_path):
    tmp_path.chmod(0o755)
    with pytest.raises(
        PolicyRefused, match="expected a folder that uid 12345 may write to, found one of uid 0"
    ):
        check_writable_by(folder, 12345)


@needs_root
@pytest.mark.root
@pytest.mark.parametrize(("owner", "mode"), [(12345, 0o755), (0, 0o777)])
def test_an_own_folder_and_one_that_is_open_to_all_are_taken(folder, tmp_path, owner, mode):
    os.chown(tmp_path, owner, -1)
    tmp_path.chmod(mode)
    check_writable_by(folder, 12345)


def test_root_may_write_anywhere(folder):
    check_writable_by(folder, 0)
