"""install.sh: nothing of the bundle runs before all of it was checked, and what is missing is said first."""

from __future__ import annotations

import ensurepip
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.errors import IntegrityError
from appliance.release.installed import verify_release
from appliance.release.make import SCRIPT
from appliance.release.rollback import roll_back


def untouched(kit) -> bool:
    """No release, no link; only what tells that somebody tried."""
    return not list(kit.prefix.glob("releases/*")) and not kit.current.is_symlink()


def flip(path: Path, offset: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def test_it_installs_at_its_final_place_whatever_settings_and_strangers_lie_around(kit, tmp_path):
    (kit.folder / "wheels" / "training_appliance-9-py3-none-any.whl").write_bytes(b"nobody signed this")
    (kit.folder / "._sha256sums").write_bytes(b"what a desktop leaves")
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = http://127.0.0.1:9/\n[install]\nuser = true\n")
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    (hostile / "venv.py").write_text("raise SystemExit('hostile')")
    settings = {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "PIP_USER": "1", "PYTHONPATH": str(hostile)}
    done = kit.install(**settings)
    assert (done.returncode, done.stderr) == (0, "")
    (release,) = (kit.prefix / "releases").iterdir()
    assert kit.current.resolve() == release
    assert done.stdout.splitlines()[-1] == f"installed {release.name}: {kit.current}/bin/appliance"
    said = subprocess.run(
        [kit.current / "bin/appliance", "status"], env=settings, capture_output=True, text=True, check=True
    )
    assert said.stdout == "stand-in status\n"
    kept = release / "bundle/cubins/norms.cubin"
    assert kept.read_bytes() == (kit.folder / "cubins/norms.cubin").read_bytes()
    units = release / "bundle/systemd"
    assert (units / "appliance-front@.service").is_file()
    assert (units / "appliance.service.d/gpu.conf").is_file()
    assert not (kit.prefix / ".incoming").exists()
    verify_release(release)


@pytest.mark.root
def test_a_python_without_ensurepip_and_a_host_without_a_network_are_enough(kit):
    """As Debian's python3 is without python3-venv: an empty folder lies over the module."""
    empty = kit.prefix.parent / "empty"
    empty.mkdir()
    ensurepip_at = Path(ensurepip.__file__).parent
    base = Path(sys.base_prefix) / "bin/python3"
    script = (
        f"mount --bind {empty} {ensurepip_at} && ! {base} -I -m ensurepip && "
        f"exec sh {kit.folder}/install.sh --signers {kit.signers} --prefix {kit.prefix} --python {base}"
    )
    done = subprocess.run(
        ["unshare", "-n", "-m", "sh", "-c", script], capture_output=True, text=True, check=False
    )
    if "unshare failed" in done.stderr or "mount:" in done.stderr:
        print(f"no namespaces here: {done.stderr}")
        pytest.skip(f"no namespaces here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    verify_release(kit.current.resolve())


@pytest.mark.parametrize("name", ["wheels", "tools", "cubins", "policy", "install.sh", "requirements.txt"])
def test_a_changed_file_stops_it_before_anything_of_the_bundle_runs(kit, name):
    """The operator's own line finds a changed script before it starts; the script finds everything else."""
    target = kit.folder / name
    (path,) = [target] if target.is_file() else target.iterdir()
    if name == "install.sh":
        path.write_text(path.read_text() + "# changed\n")
    else:
        flip(path)
    line = subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", "sha256sums"],
        cwd=kit.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert line.returncode == 1
    assert f"{path.relative_to(kit.folder)}: FAILED" in line.stdout
    done = kit.install()
    assert done.returncode == 6
    assert f"found changed: {path.relative_to(kit.folder)}: FAILED; nothing of them was run" in done.stderr
    assert untouched(kit)


def test_a_hostile_pip_of_the_right_name_never_runs(kit, tmp_path):
    (pip,) = (kit.folder / "tools").iterdir()
    shutil.rmtree(kit.folder / "tools")
    (kit.folder / "tools" / pip.name).mkdir(parents=True)
    mark = tmp_path / "ran"
    (kit.folder / "tools" / pip.name / "pip").write_text(f"open({str(mark)!r}, 'w')")
    assert kit.install().returncode == 13
    assert not mark.exists()
    assert untouched(kit)


def test_a_list_signed_by_another_key_is_refused(kit, tmp_path):
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    (kit.folder / "sha256sums.sig").unlink()
    subprocess.run(
        ["ssh-keygen", "-q", "-Y", "sign", "-n", "release@appliance", "-f", other, kit.folder / "sha256sums"],
        check=True,
    )
    done = kit.install()
    assert done.returncode == 7
    assert "expected the signature of a key in" in done.stderr
    assert untouched(kit)


@pytest.mark.parametrize("link", [False, True])
def test_signers_that_came_with_the_bundle_are_refused(kit, tmp_path, link):
    inside = kit.folder / "release.signers"
    inside.write_bytes(kit.signers.read_bytes())
    given = inside
    if link:
        given = tmp_path / "link"
        given.symlink_to(inside)
    done = kit.install("--signers", str(given))
    assert done.returncode == 2
    assert f"--signers must lie outside of {kit.folder}" in done.stderr
    assert untouched(kit)


def test_a_signature_for_another_purpose_is_refused(kit):
    (kit.folder / "sha256sums.sig").unlink()
    subprocess.run(
        ["ssh-keygen", "-q", "-Y", "sign", "-n", "file", "-f", kit.key, kit.folder / "sha256sums"], check=True
    )
    assert kit.install().returncode == 7


def test_a_changed_list_is_refused_whatever_it_then_says(kit):
    flip(next((kit.folder / "wheels").iterdir()))
    signature = (kit.folder / "sha256sums.sig").read_bytes()
    kit.sign()
    (kit.folder / "sha256sums.sig").write_bytes(signature)
    assert kit.install().returncode == 7
    assert untouched(kit)


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a//b", "-rf", "a b", "wheels/../../evil"])
def test_a_signed_list_that_leaves_the_folder_is_refused(kit, name):
    (kit.folder / "sha256sums").write_text(f"{'0' * 64}  {name}\n")
    (kit.folder / "sha256sums.sig").unlink()
    subprocess.run(
        [
            "ssh-keygen",
            "-q",
            "-Y",
            "sign",
            "-n",
            "release@appliance",
            "-f",
            kit.key,
            kit.folder / "sha256sums",
        ],
        check=True,
    )
    done = kit.install()
    assert done.returncode == 6
    assert "expected lines of hash and plain name, found others" in done.stderr


@pytest.mark.parametrize("make", ["absent", "link", "fifo"])
def test_a_file_that_is_none_is_named(kit, make):
    (wheel,) = (kit.folder / "wheels").iterdir()
    kept = wheel.rename(kit.folder.parent / wheel.name)
    if make == "link":
        wheel.symlink_to(kept)
    elif make == "fifo":
        os.mkfifo(wheel)
    done = kit.install()
    assert done.returncode == 13
    assert f"wheels/{wheel.name}: expected a file, found none; copy the folder again" in done.stderr
    assert untouched(kit)


def test_a_package_that_the_lock_does_not_name_by_its_hash_is_refused_by_pip(kit):
    """Signed by mistake, with a lock of another build: the lock still holds."""
    (kit.folder / "requirements.txt").write_text(f"training-appliance==0.1.0 --hash=sha256:{'0' * 64}\n")
    kit.sign()
    done = kit.install()
    assert done.returncode == 1
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in done.stderr
    assert not kit.current.is_symlink()


def stand_in(tmp_path: Path, **programs: str) -> str:
    """A PATH on which some programs answer otherwise."""
    folder = tmp_path / "programs"
    folder.mkdir(exist_ok=True)
    for name, body in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.mark.parametrize(
    ("programs", "code", "said"),
    [
        ({"uname": "echo Linux aarch64"}, 11, "Linux on x86_64: this is Linux aarch64"),
        ({"getconf": "echo glibc 2.16"}, 11, "glibc 2.17 or newer: this is glibc 2.16"),
        ({"getconf": "exit 1"}, 11, "glibc 2.17 or newer: this is another libc"),
        ({"df": "echo head; echo / 1 1 2048 99% /"}, 5, "10 MB free in "),
    ],
)
def test_what_the_machine_lacks_is_named_before_anything_changes(kit, tmp_path, programs, code, said):
    done = kit.install(PATH=stand_in(tmp_path, **programs))
    assert done.returncode == code
    assert said in done.stderr
    assert "nothing was changed" in done.stderr
    assert not kit.prefix.exists()


def test_a_newer_libc_of_two_digits_is_newer(kit, tmp_path):
    script = kit.folder / "install.sh"
    script.write_text(script.read_text().replace("glibc_needed=2.17", "glibc_needed=2.9"))
    done = kit.install(PATH=stand_in(tmp_path, getconf="echo glibc 2.10"))
    assert done.returncode == 6, "past what the machine lacks, to the script that was changed just now"


def test_everything_that_is_missing_is_named_at_once(kit, tmp_path):
    path = stand_in(tmp_path, uname="echo Linux riscv64", df="echo head; echo / 1 1 0 99% /")
    done = kit.install("--python", "python2.7", PATH=path)
    for said in ("riscv64", "python2.7: not found", "10 MB free"):
        assert said in done.stderr


@pytest.mark.root
@pytest.mark.parametrize(
    ("options", "said"), [("noexec", "is mounted noexec"), ("ro", "mounted read-only (ro)")]
)
def test_mount_options_that_would_break_it_are_named(kit, tmp_path, options, said):
    command = f"mount -t tmpfs -o {options} none {tmp_path}/mnt && exec sh {kit.folder}/install.sh --signers "
    (tmp_path / "mnt").mkdir()
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", f"{command} {kit.signers} --prefix {tmp_path}/mnt/opt"],
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare" in done.stderr or "permission denied" in done.stderr.lower():
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")
    assert done.returncode == 11
    assert said in done.stderr


@pytest.mark.parametrize(
    "arguments", [["--prefix", "/opt/with space"], ["--force"], ["--python"], ["--signers", "/nowhere"]]
)
def test_a_wrong_command_line_changes_nothing(kit, arguments):
    done = kit.install(*arguments)
    assert done.returncode == 2
    assert "usage: sh install.sh --signers FILE" in done.stderr
    assert not kit.prefix.exists()


def test_an_update_switches_keeps_the_one_before_and_goes_back(kit):
    kit.install()
    first = kit.current.resolve()
    (kit.folder / "policy/default.cedar").write_text("forbid (principal, action, resource);\n")
    kit.sign()
    kit.install()
    second = kit.current.resolve()
    assert second != first
    assert (kit.prefix / "previous").resolve() == first
    assert kit.install().returncode == 0
    assert (kit.prefix / "previous").resolve() == first, "the same once more changes nothing"

    assert roll_back(kit.prefix) == (second.name, first.name)
    assert kit.current.resolve() == first
    assert (kit.prefix / "previous").resolve() == second
    assert roll_back(kit.prefix) == (first.name, second.name)

    (first / "bin/appliance").write_text("#!/bin/sh\n")
    with pytest.raises(IntegrityError, match=r"bin/appliance: expected SHA-256 [0-9a-f]{64} as installed"):
        roll_back(kit.prefix)
    (second / "bin/appliance").write_text("#!/bin/sh\n")
    done = kit.install()
    assert done.returncode == 6
    assert "was changed since it was installed" in done.stderr
    assert kit.current.resolve() == second


@pytest.mark.parametrize("killed_by", ["pip", "mv"])
def test_killed_on_the_way_it_leaves_the_old_release_and_goes_on_the_next_time(kit, tmp_path, killed_by):
    first = kit.prefix / "releases" / "0.0.9-0123456789ab"
    (first / "env").mkdir(parents=True)
    for name in ("files.sha256", "links"):
        (first / name).touch()
    kit.current.symlink_to(first.relative_to(kit.prefix))
    if killed_by == "pip":
        programs = {"mkdir": 'case "$*" in */bin) kill -9 $PPID ;; *) exec /bin/mkdir "$@" ;; esac'}
    else:
        programs = {killed_by: "kill -9 $PPID"}
    done = kit.install(PATH=stand_in(tmp_path, **programs))
    assert done.returncode != 0
    assert kit.current.resolve() == first
    assert kit.install().returncode == 0
    assert (kit.prefix / "previous").resolve() == first
    assert len(list((kit.prefix / "releases").iterdir())) == 2
    verify_release(kit.current.resolve())


def test_two_installations_at_once_are_told_apart(kit):
    kit.prefix.mkdir()
    with subprocess.Popen(
        ["flock", kit.prefix / ".lock", "sh", "-c", "echo held; read _"], stdin=-1, stdout=-1
    ) as held:
        held.stdout.readline()
        done = kit.install()
        held.stdin.close()
        held.stdout.close()
    assert done.returncode == 16
    assert "another installation" in done.stderr


def test_the_script_is_clean_and_short_enough_to_read():
    assert len(SCRIPT.read_text().splitlines()) < 260
    if shutil.which("shellcheck") is None:
        print("shellcheck is not installed: install.sh was not checked")
        pytest.skip("shellcheck is not installed")
    subprocess.run(["shellcheck", SCRIPT], check=True)
