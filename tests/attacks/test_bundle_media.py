"""Media that are full, tampered with, or hostile; and the readme's own words, which must work as printed."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from appliance.bundle import ustar
from appliance.bundle.extract import Extractor
from appliance.bundle.manifest import parse_manifest
from appliance.bundle.names import INNER
from appliance.bundle.open import open_bundle
from appliance.bundle.signer import allowed_signers_line
from appliance.bundle.trust import anyone_of
from appliance.errors import ContentRefused, Incomplete, IntegrityError

from .bundle_maker import IDENTITY, SIGNER, TEXT_BYTES, make

TRUST = anyone_of([SIGNER.vkey])
PUBLIC_TOOLS = ("age", "ssh-keygen", "sha256sum", "tar")


@pytest.fixture
def bundle(tmp_path):
    (tmp_path / "stick").mkdir()
    make(tmp_path / "stick")
    (made,) = (tmp_path / "stick").glob("*.bundle")
    return made


def refuses(bundle, error, match):
    out = bundle.parent / "out"
    with pytest.raises(error, match=match):
        open_bundle(bundle, IDENTITY, out, TRUST)
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]


FILES = (
    "manifest.json",
    "manifest.json.sig",
    "p0000.age",
    "p0001.age",
    "p0002.age",
    "readme.txt",
    "sha256sums",
)


@pytest.mark.parametrize("name", FILES)
def test_a_renamed_file_is_missed_by_name(bundle, name):
    (bundle / name).rename(bundle / f"{name}x")
    refuses(bundle, Incomplete, re.escape(name))


@pytest.mark.parametrize("name", [*FILES, "x0000.xor"])
def test_a_file_that_is_there_twice_is_named(bundle, name):
    shutil.copy(bundle / name, bundle / f"{name}.copy")
    refuses(bundle, ContentRefused, re.escape(f"{name}.copy"))


@pytest.mark.parametrize("name", ["p0001.age", "readme.txt", "sha256sums"])
def test_a_hard_link_to_another_file_is_its_content_and_refused(bundle, name):
    elsewhere = bundle.parent.parent / "secret"
    elsewhere.write_bytes(b"not of this bundle")
    (bundle / name).unlink()
    os.link(elsewhere, bundle / name)
    refuses(bundle, IntegrityError, re.escape(name))


def test_files_of_other_systems_hinder_nobody(bundle):
    (bundle / "._p0000.age").write_bytes(b"Mac OS X")
    (bundle / "System Volume Information").mkdir()
    open_bundle(bundle, IDENTITY, bundle.parent / "out", TRUST)
    assert (bundle.parent / "out/corpus/a/a.txt").read_bytes() == TEXT_BYTES


# The readme, as printed


@pytest.mark.skipif(
    not all(map(shutil.which, PUBLIC_TOOLS)), reason="needs age, ssh-keygen, sha256sum and tar"
)
def test_the_readmes_commands_work_as_printed(bundle):
    (bundle / "allowed_signers").write_text(allowed_signers_line(SIGNER.vkey))
    (bundle / "key.txt").write_bytes(bytes(IDENTITY.encode()) + b"\n")
    text = (bundle / "readme.txt").read_text().replace("\\\n", " ")
    commands = [line.strip() for line in text.splitlines() if line.startswith("     ")]
    assert [command.split()[0] for command in commands] == ["ssh-keygen", "sha256sum", "for"]
    for command in commands:
        done = subprocess.run(["sh", "-c", command], cwd=bundle, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stderr)
    assert (bundle / "corpus/a/a.txt").read_bytes() == TEXT_BYTES


# Full media


def limited(work: str, folder: Path, limit: int) -> subprocess.CompletedProcess[str]:
    """Run the maker where no file may grow beyond a limit, as on FAT."""
    root = str(Path(__file__).parents[2])
    code = (
        "import runpy, sys; sys.path.insert(0, sys.argv.pop(1));"
        " runpy.run_module('tests.attacks.bundle_maker', run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-B", "-c", code, root, work, str(folder)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_part_that_no_file_of_the_medium_can_hold_is_a_full_medium(tmp_path):
    done = limited("make", tmp_path, 1500)
    assert "SpaceExhausted: no room to write p0000.age" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_member_that_no_file_of_the_disk_can_hold_is_a_full_disk(bundle):
    done = limited("open", bundle.parent, 4000)  # parts are smaller than that, the text is not
    assert "SpaceExhausted: no room to write corpus/a/a.txt" in done.stderr
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]


def end_of_making(stick: Path) -> str:
    """Make a bundle and say how that ended: whole, or which error at which file."""
    try:
        make(stick)
    except Exception as error:  # noqa: BLE001  which one it is, is what is asked
        return f"{type(error).__name__} {re.sub(r'.*write |: free.*', '', str(error))}"
    return "whole"


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to mount a small file system")
def test_a_stick_that_is_full_at_any_part_is_left_empty(tmp_path):
    stick = tmp_path / "small"
    stick.mkdir()
    page = os.sysconf("SC_PAGE_SIZE")
    ends = set()
    for pages in range(2, 24):
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={pages * page}", "tmpfs", stick],
            capture_output=True,
            check=False,
        )
        if done.returncode:
            pytest.skip("nothing can be mounted here")
        try:
            ends.add(end_of_making(stick))
            left = list(stick.iterdir())
        finally:
            subprocess.run(["umount", stick], check=True)
        assert "whole" in ends or left == [], pages
    assert "whole" in ends
    assert {end.split()[0] for end in ends} == {"whole", "SpaceExhausted"}
    assert len(ends) > 5, ends


# Bombs


class Nothing:
    """Takes members and keeps none."""

    def contents(self, inner):
        raise AssertionError(f"a hostile list was believed: {inner}")


def label(bundle):
    envelope = json.loads((bundle / "manifest.json").read_bytes())
    return parse_manifest(base64.b64decode(envelope["payload"]))


@pytest.mark.parametrize("size", [0, (16 << 20) + 1, ustar.MAX_SIZE])
def test_a_list_of_contents_of_absurd_size_is_refused_by_its_header(bundle, size):
    with pytest.raises(ContentRefused, match=r"expected inner\.json of at most 16777216 bytes"):
        Extractor(label(bundle), Nothing()).feed(ustar.header(INNER, size))


def test_a_list_of_too_many_members_is_refused(bundle):
    """A million of them do not fit into the 16 MiB that a list may have: that is refused by its header."""
    member = '{"media_type":"text/plain","name":"%05d","sha256":"","size":0}'
    text = json.dumps({"members": [json.loads(member % (number % 99999)) for number in range(100_000)]})
    data = text.encode()
    assert len(data) < 16 << 20, "small enough for its size to be allowed"
    extractor = Extractor(label(bundle), Nothing())
    extractor.feed(ustar.header(INNER, len(data)))
    with pytest.raises(ContentRefused, match=r"inner\.json"):
        extractor.feed(data)


def test_an_archive_by_another_program_is_refused_at_its_first_header(bundle):
    extractor = Extractor(label(bundle), Nothing())
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("x"))
    with pytest.raises(ContentRefused, match="tar header of x"):
        extractor.feed(archive.getvalue())
