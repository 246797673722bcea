"""Another project's package of one of our four names is noticed before anything starts."""

from __future__ import annotations

from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner

from appliance import provenance
from appliance.cli.root import appliance
from appliance.custodian import __main__ as custodian
from appliance.errors import IntegrityError
from appliance.provenance import PACKAGES, verify_provenance


def distribution(folder, name="other_project", version="1.0", **files):
    metadata = folder / f"{name}-{version}.dist-info"
    metadata.mkdir(parents=True)
    for file, text in files.items():
        (metadata / {"record": "RECORD", "top_level": "top_level.txt"}[file]).write_text(text)
    return metadata


def test_this_installation_is_sound():
    verify_provenance()


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize(
    "files",
    [
        {"record": "other.py,sha256=x,1\n{0}/__init__.py,sha256=x,1\n"},
        {"record": '"{0}/a,b.py",sha256=x,1\n'},
        {"record": "{0}.py,sha256=x,1\n"},
        {"record": "{0}.cpython-311-x86_64-linux-gnu.so,sha256=x,1\n"},
        {"top_level": "other\n{0}\n"},
    ],
)
def test_a_distribution_that_claims_one_of_our_names_is_refused(tmp_path, package, files):
    distribution(tmp_path, **{name: text.format(package) for name, text in files.items()})
    told = (
        rf"package {package}: expected training-appliance alone .* claimed by other_project-1.0.dist-info in"
    )
    with pytest.raises(IntegrityError, match=told):
        verify_provenance([str(tmp_path)])


def test_an_older_kind_of_metadata_is_read_too(tmp_path):
    (tmp_path / "other.egg-info").mkdir()
    (tmp_path / "other.egg-info/top_level.txt").write_text("policy\n")
    with pytest.raises(IntegrityError, match=r"claimed by other\.egg-info"):
        verify_provenance([str(tmp_path)])


@pytest.mark.parametrize(
    "files",
    [
        {"record": "my/audit/__init__.py,,\nauditing/__init__.py,,\nlib/policy.py,,\nkernels-1.0/x,,\n"},
        {"top_level": "auditlib\nmy_policy\n"},
        {"record": ""},
        {},
    ],
)
def test_names_that_only_look_like_ours_are_left_alone(tmp_path, files):
    distribution(tmp_path, **files)
    (tmp_path / "a-file.egg-info").write_text("audit\n")
    verify_provenance([str(tmp_path), str(tmp_path / "nothing"), str(tmp_path / "a-file.egg-info")])


@pytest.mark.parametrize("name", ["training_appliance", "Training.Appliance", "training-appliance"])
def test_our_own_distribution_may_claim_them(tmp_path, name):
    name = name.replace("-", "_")
    distribution(tmp_path, name, record="".join(f"{package}/__init__.py,,\n" for package in PACKAGES))
    verify_provenance([str(tmp_path)])


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """Have packages looked for in tmp_path first, as for a folder or environment that comes before ours."""
    path = [str(tmp_path), str(Path(__file__).parents[2])]
    monkeypatch.setattr(provenance, "find_spec", lambda name: PathFinder.find_spec(name, path))
    return tmp_path


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_found_in_another_place_is_refused(planted, package):
    verify_provenance([])
    (planted / package).mkdir()
    (planted / package / "__init__.py").write_text("")
    with pytest.raises(IntegrityError, match=r"expected it beside `appliance` in .*, found it in .*another"):
        verify_provenance([])


def test_a_module_in_a_packages_place_is_refused(planted):
    (planted / "audit.py").write_text("")
    with pytest.raises(IntegrityError, match=r"package audit: expected it beside .*, found it in None"):
        verify_provenance([])


def test_a_package_that_is_missing_is_refused(monkeypatch):
    monkeypatch.setattr(provenance, "find_spec", lambda name: None if name == "kernels" else find_spec(name))
    with pytest.raises(IntegrityError, match=r"package kernels: expected it beside .*, found it in None"):
        verify_provenance([])


def test_the_command_line_refuses_with_the_exit_code_of_integrity(tmp_path, monkeypatch):
    distribution(tmp_path, record="audit/__init__.py,,\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    done = CliRunner().invoke(appliance, ["version"])
    assert done.exit_code == 6
    assert "error: package audit: expected training-appliance alone to provide it" in done.output
    assert CliRunner().invoke(appliance, ["--help"]).exit_code == 0


def test_the_custodian_refuses_before_it_opens_anything(tmp_path, monkeypatch, capsys):
    distribution(tmp_path, record="policy/__init__.py,,\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(custodian, "protect_memory", lambda: None)
    monkeypatch.setattr(custodian, "confine", lambda: None)  # this process runs other tests afterwards
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(custodian, "configure_log", lambda: None)
    monkeypatch.setattr(custodian.os, "umask", lambda _: 0)
    monkeypatch.setattr(custodian, "open_appliance", lambda *_: pytest.fail("opened"))
    assert custodian.main([str(tmp_path / "home")]) == 6
    assert "error: package policy: expected training-appliance alone" in capsys.readouterr().err
