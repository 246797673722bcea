"""Whose signatures count, for which kinds of bundle: by a root, or a plain list of keys.

Guarantees to the importer: a bundle's kind decides the role, the role decides keys and threshold, and each
key counts once whatever its names. Without a root every listed key may sign every kind, and one is enough:
so it is for recipients who know one sender, and for appliances that were made without a root.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.bundle.root import ROLE_OF, Role, Root, demand_keys
from appliance.errors import ContentRefused, Expired

if TYPE_CHECKING:
    from audit.note import VerifierKey


@dataclass(frozen=True, slots=True)
class Trust:
    """Either a root or a list of keys."""

    root: Root | None
    listed: tuple[VerifierKey, ...] = ()

    @property
    def keys(self) -> tuple[VerifierKey, ...]:
        """Every key whose signature may count for something."""
        if self.root is None:
            return self.listed
        return tuple({key.text: key for role in self.root.roles.values() for key in role.keys}.values())

    def role_name(self, kind: str) -> str:
        """Return the role that vouches for a kind of bundle on its way in; raises ContentRefused."""
        role = ROLE_OF.get(kind)
        if role is None:
            raise ContentRefused(
                f"bundle of kind {kind}: expected one of {', '.join(ROLE_OF)} on its way in, found one that"
                " only goes out"
            )
        return role

    def role_for(self, kind: str) -> Role:
        """Return who must sign a kind of bundle; raises ContentRefused, SignatureError where nobody may."""
        if self.root is None:
            return Role(self.listed, 1)
        name = self.role_name(kind)
        return demand_keys(self.root.roles[name], name)

    def demand_not_revoked(self, manifest_sha256: str) -> None:
        """Raise Expired for a bundle that the root revokes."""
        if self.root is not None and manifest_sha256 in self.root.revoked:
            raise Expired(
                f"manifest: expected one that stands, found {manifest_sha256} revoked by version"
                f" {self.root.version} of the root; ask its sender for another"
            )


def anyone_of(keys: Sequence[VerifierKey]) -> Trust:
    """Return the trust of somebody who knows a list of keys and no root."""
    return Trust(None, tuple(keys))
