"""A bundle that was damaged, forged or played again brings nothing in and leaves nothing behind."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.processes.conftest import Template, make_bundle
from tests.processes.living import Living, copy_home

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def shared(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Living]:
    """One appliance for all refusals: each must leave it as it was."""
    folder = tmp_path_factory.mktemp("import")
    appliance = Living(copy_home(template.home, folder / "home"), template.public)
    try:
        yield appliance.start().unseal()
        appliance.shutdown()
        appliance.demand_sound_log()
    finally:
        appliance.kill()


@pytest.fixture(scope="module")
def good(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(template.folder, tmp_path_factory.mktemp("good"), seq=2)


@pytest.fixture
def bundle(good: Path, tmp_path: Path) -> Path:
    """A copy of a good bundle, to be damaged."""
    return shutil.copytree(good, tmp_path / good.name)


def demand_refused(appliance: Living, bundle: Path, exit_code: int) -> str:
    """Import; the exit code is as expected, nothing was published, nothing is left in quarantine."""
    before = sorted(folder.name for folder in (appliance.home / "vault").iterdir())
    known = [row["id"] for row in appliance.objects()]
    refused = appliance.cli("import", bundle)
    assert refused.returncode == exit_code, refused.stderr
    assert sorted(folder.name for folder in (appliance.home / "vault").iterdir()) == before
    assert [row["id"] for row in appliance.objects()] == known
    appliance.demand_nothing_half_written()
    return refused.stderr


@pytest.mark.parametrize(
    ("name", "exit_code"),
    [
        ("manifest.json", 7),
        ("manifest.json.sig", 7),
        ("p0000.age", 6),
        ("readme.txt", 6),
        ("sha256sums", 6),
    ],
)
def test_one_flipped_byte_in_any_file_is_refused(shared: Living, bundle: Path, name: str, exit_code: int):
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / name).write_bytes(data)
    demand_refused(shared, bundle, exit_code)


@pytest.mark.parametrize(
    "name", ["manifest.json", "manifest.json.sig", "p0000.age", "readme.txt", "sha256sums"]
)
def test_a_missing_file_is_named(shared: Living, bundle: Path, name: str):
    (bundle / name).unlink()
    assert name in demand_refused(shared, bundle, 13)


def test_a_truncated_part_is_refused(shared: Living, bundle: Path):
    part = bundle / "p0000.age"
    part.write_bytes(part.read_bytes()[:-1])
    demand_refused(shared, bundle, 6)


def test_an_added_file_is_refused(shared: Living, bundle: Path):
    (bundle / "autorun.inf").write_text("[autorun]\n")
    demand_refused(shared, bundle, 12)


def test_a_signer_whom_nobody_trusts_is_refused(shared: Living, bundle_of: Callable[..., Path]):
    said = demand_refused(shared, bundle_of(signer="stranger"), 7)
    assert "stranger" in said or "trusted" in said


def test_a_bundle_played_again_is_refused(shared: Living, template: Template):
    assert "was already imported" in demand_refused(shared, template.bundle, 9)


def test_a_bundle_that_is_not_there_is_a_missing_medium(shared: Living, tmp_path: Path):
    demand_refused(shared, tmp_path / "nothing.bundle", 4)


def test_the_same_bundle_unharmed_is_taken_once(living: Living, bundle: Path):
    done = living.cli("import", bundle)
    assert done.returncode == 0, done.stderr
    demand_refused(living, bundle, 9)
