"""Which files of a researcher become which members of a bundle.

A folder that has the shape of a bundle already (`corpus/NAME/*.txt`, `config/*.toml`, or
`weights/*.safetensors`) is taken as it is, and so is a request that came back signed (`*.approval`). Anything
else is named here: text becomes documents of one corpus, TOML a config, safetensors weights. A file that is
none of these is refused, never left out silently.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from appliance.bundle.approval import REQUEST, SUFFIX, read_approvals
from appliance.bundle.folder import BundleFolder
from appliance.bundle.names import APPROVAL, APPROVED_REQUEST, NOTICE
from appliance.errors import ContentRefused, Incomplete, MediumMissing, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

SHAPED = ("corpus", "config", "weights")
HIDDEN = "."  # names that begin with a dot are leftovers of editors and file managers


@dataclass(frozen=True, slots=True)
class Source:
    """A file to pack and the member name it gets."""

    path: Path
    member: str


def plan(paths: Sequence[Path], corpus: str | None) -> list[Source]:
    """Name every file below `paths`, sorted by member; `corpus` names the corpus that texts belong to.

    Raises MediumMissing, ContentRefused for a file of another kind, UsageError for two files of one name.
    """
    sources = sorted(
        (source for path in paths for source in _plan_one(path, corpus)), key=lambda each: each.member
    )
    if not sources:
        raise UsageError("nothing to pack: expected *.txt, *.toml or *.safetensors files, found none")
    for earlier, later in pairwise(sources):
        if earlier.member == later.member:
            raise UsageError(f"{earlier.path} and {later.path} would both become {later.member}; rename one")
    return sources


def plan_notice(paths: Sequence[Path]) -> list[Source]:
    """Name the one text that goes with a revocation; raises UsageError."""
    if len(paths) != 1 or not paths[0].is_file():
        raise UsageError(f"a revocation: expected one text file that says why, found {len(paths)} paths")
    return [Source(paths[0], NOTICE)]


def kind_of(sources: Iterable[Source]) -> str:
    """Return the kind of bundle that its members make: weights before corpus before config."""
    found = {source.member.split("/")[0] for source in sources}
    return next(kind for kind in ("weights", "corpus", "config", APPROVAL) if kind in found)


def _plan_one(path: Path, corpus: str | None) -> Iterator[Source]:
    if path.is_file():
        yield Source(path, _member(path, (path.name,), corpus or _word(path.stem)))
    elif path.is_dir() and path.name.endswith(SUFFIX):
        yield from _plan_approvals(path)
    elif path.is_dir():
        shaped = any((path / kind).is_dir() for kind in SHAPED)
        for file in sorted(_files(path)):
            parts = file.relative_to(path).parts
            if shaped:
                yield Source(file, "/".join(parts))
            else:
                yield Source(file, _member(file, parts, corpus or _word(path.resolve().name)))
    else:
        raise MediumMissing(f"to pack: no file or folder {path}")


def _plan_approvals(path: Path) -> Iterator[Source]:
    """Name a request and its signatures, after a look that the folder holds these and nothing else."""
    with BundleFolder.open(path) as folder:
        carried = read_approvals(folder)
    if not carried.signatures:
        raise Incomplete(f"{path}: expected NAME.sig by an officer, found none; sign the request first")
    yield Source(path / REQUEST, APPROVED_REQUEST)
    for name in carried.signatures:
        yield Source(path / name, f"{APPROVAL}/{name.removesuffix('.sig')}.sshsig")


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder; links are refused, since what they name may lie anywhere."""
    for child in folder.iterdir():
        if child.name.startswith(HIDDEN):
            continue
        if child.is_symlink():
            raise ContentRefused(
                f"{child}: expected a file or folder, found a link; put the file itself there"
            )
        if child.is_dir():
            yield from _files(child)
        else:
            yield child


def _member(path: Path, parts: tuple[str, ...], corpus: str) -> str:
    """Name one file; documents in sub-folders keep the folder in their name, joined by dashes."""
    stem = _word(path.stem)
    if path.suffix == ".txt":
        document = "-".join(_word(part) for part in (*parts[:-1], path.stem))
        return f"corpus/{corpus}/{document}.txt"
    if path.suffix == ".toml":
        return f"config/{stem}.toml"
    if path.suffix == ".safetensors":
        return f"weights/{stem}.safetensors"
    raise ContentRefused(
        f"{path}: expected *.txt, *.toml or *.safetensors, found another kind; nothing was packed"
    )


def _word(text: str) -> str:
    """Return text as one word that every file system takes."""
    word = re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")
    return word or "unnamed"
