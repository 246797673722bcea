"""A release is compared with its list: whatever differs is named, and nothing besides passes."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from appliance.errors import Incomplete, IntegrityError, UnknownObject
from appliance.release.installed import LINKS, LIST, running_release, verify_release
from appliance.release.rollback import roll_back


def record(release: Path) -> None:
    """Write both lists as install.sh does."""
    links = sorted(path for path in release.rglob("*") if path.is_symlink())
    (release / LINKS).write_text("".join(f"./{p.relative_to(release)} -> {p.readlink()}\n" for p in links))
    files = sorted(path for path in release.rglob("*") if path.is_file() and not path.is_symlink())
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  ./{p.relative_to(release)}\n" for p in files]
    (release / LIST).write_text("".join(lines))


@pytest.fixture
def release(tmp_path) -> Path:
    folder = tmp_path / "releases" / "0.1.0-0123456789ab"
    (folder / "env/bin").mkdir(parents=True)
    (folder / "env/lib").mkdir()
    (folder / "env/bin/python").symlink_to("/usr/bin/python3")
    (folder / "env/lib64").symlink_to("lib")
    (folder / "env/lib/a name with spaces.py").write_text("value = 1\n")
    (folder / "env/lib/b.py").write_text("")
    record(folder)
    return folder


def test_a_release_as_it_was_installed_passes(release):
    verify_release(release)


def test_a_changed_file_is_named(release):
    (release / "env/lib/b.py").write_text("import os\n")
    with pytest.raises(IntegrityError, match=r"env/lib/b.py: expected SHA-256 \w+ as installed, found"):
        verify_release(release)


@pytest.mark.parametrize("name", ["env/lib/evil.pth", "env/lib/__pycache__.py", "new", "env/.hidden"])
def test_a_file_that_was_not_installed_is_named(release, name):
    (release / name).write_text("import os\n")
    with pytest.raises(IntegrityError, match=f"{name}: expected only what was installed"):
        verify_release(release)


def test_a_link_that_was_not_installed_is_named(release):
    (release / "env/lib/numpy").symlink_to("/var")
    with pytest.raises(IntegrityError, match="env/lib/numpy: expected only what was installed"):
        verify_release(release)


@pytest.mark.parametrize("name", ["env/lib/b.py", "env/lib64", "links"])
def test_a_missing_file_is_named(release, name):
    (release / name).unlink()
    with pytest.raises(Incomplete, match=f"{name}: expected"):
        verify_release(release)


def test_a_link_that_leads_elsewhere_is_named(release):
    (release / "env/bin/python").unlink()
    (release / "env/bin/python").symlink_to("/var/python3")
    with pytest.raises(IntegrityError, match="env/bin/python: expected a link to /usr/bin/python3"):
        verify_release(release)


def test_a_link_in_the_place_of_a_file_is_refused_though_it_reads_the_same(release):
    path = release / "env/lib/b.py"
    path.rename(release.parent / "b.py")
    path.symlink_to(release.parent / "b.py")
    with pytest.raises(OSError, match="symbolic links"):
        verify_release(release)


@pytest.mark.parametrize("tail", ["garbage", "\n", "0" * 64 + "  /etc/passwd\n"])
def test_a_list_with_other_text_is_refused(release, tail):
    with (release / LIST).open("a") as target:
        target.write(tail)
    with pytest.raises(IntegrityError, match="expected lines of a list, found other text"):
        verify_release(release)


def test_no_list_is_no_release(release):
    (release / LIST).unlink()
    with pytest.raises(Incomplete, match="expected the list of what was installed, found none"):
        verify_release(release)


def test_only_an_environment_below_releases_is_a_release(release):
    assert running_release(str(release / "env")) == release
    current = release.parent.parent / "current"
    current.symlink_to(f"releases/{release.name}")
    assert running_release(str(current / "env")) == release
    assert running_release(str(release.parent / "env")) is None
    assert running_release(sys.prefix) is None, "the tests run from a checkout"


def test_nothing_to_go_back_to_is_said(release):
    prefix = release.parent.parent
    with pytest.raises(UnknownObject, match="current: expected a link to a release, found none"):
        roll_back(prefix)
    (prefix / "current").symlink_to(f"releases/{release.name}")
    with pytest.raises(UnknownObject, match="previous: expected a link to a release, found none"):
        roll_back(prefix)
    (prefix / "previous").symlink_to("releases/0.0.9-0123456789ab")
    with pytest.raises(Incomplete, match=r"0.0.9-0123456789ab: expected the release before, found none"):
        roll_back(prefix)
    assert (prefix / "current").readlink() == Path(f"releases/{release.name}")


@pytest.mark.parametrize("target", ["/usr", "releases/../..", "releases/x", "elsewhere"])
def test_a_link_that_names_no_release_is_refused(release, target):
    prefix = release.parent.parent
    (prefix / "current").symlink_to(target)
    with pytest.raises(IntegrityError, match="expected a link to releases/<name>, found one to"):
        roll_back(prefix)
