"""How people say whom they trust: verifier keys, or a root and the versions that follow it in a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from appliance.bundle.open import travelling_roots
from appliance.bundle.root import follow, verify_first
from appliance.bundle.signer import load_verifier
from appliance.bundle.trust import Trust, anyone_of
from appliance.cli.files import read_small

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.bundle.folder import BundleFolder

_Function = TypeVar("_Function", bound="Callable[..., Any]")


def trust_options(function: _Function) -> _Function:
    """Add --trust and --trust-root to a command."""
    keys = click.option(
        "--trust",
        type=click.Path(path_type=Path),
        multiple=True,
        metavar="VKEYFILE",
        help="Public key of a signer you trust; may be repeated.",
    )
    root = click.option(
        "--trust-root",
        type=click.Path(path_type=Path),
        metavar="ROOTFILE",
        help="Version 1 of the root you trust, in the place of single keys.",
    )
    return keys(root(function))


def trust_in(folder: BundleFolder, keys: tuple[Path, ...], root: Path | None) -> Trust:
    """Return whose signatures count for a bundle: of the keys given, or by the newest root that it carries.

    Raises click.UsageError unless exactly one of the two is given, and what `verify_next` raises.
    """
    if bool(keys) == (root is not None):
        raise click.UsageError("expected --trust VKEYFILE or --trust-root ROOTFILE, and not both")
    if root is None:
        return anyone_of([load_verifier(path) for path in keys])
    newest, _ = follow(verify_first(read_small(root, "root")), travelling_roots(folder))
    return Trust(newest)
