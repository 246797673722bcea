"""Whose turn it is among a keyring's vault identities: the log says, the keyring on disk may be behind it.

Guarantees whoever unseals that the keyring's vault identity is the one that the log names, and that a next
one is kept only if the log says that a rotation to it began. What each crash of a rotation leaves, and what
is made of it here:

    keyring holds    log names               so
    V                V                       no rotation
    V, N             V, none begun           N was never used: forget it
    V, N             V, begun to N           half the headers may be N's: keep both, rotate again
    V, N             N                       it ended: N is the vault's now
    V                another, V before it    this keyring was put back from before a rotation
"""

from __future__ import annotations

from appliance.custody.keyring import Keyring
from appliance.errors import IntegrityError, SetBack
from appliance.inventory import Inventory


def settle_succession(keyring: Keyring, genesis_recipient: str, inventory: Inventory) -> bool:
    """Bring a keyring in line with the log; returns whether the one on disk should be written anew.

    Raises SetBack, or IntegrityError for another appliance's.
    """
    current = inventory.vault_recipient or genesis_recipient
    upcoming = keyring.next_vault_identity
    if upcoming is not None and upcoming.recipient.text == current:
        keyring.end_rotation()
        return True
    _compare(
        keyring.vault_identity.recipient.text, current, {genesis_recipient, *inventory.former_recipients}
    )
    begun = inventory.next_recipient
    unused = upcoming is not None and upcoming.recipient.text != begun
    if unused:
        keyring.drop_rotation()
    if begun is not None and keyring.next_vault_identity is None:
        raise SetBack(
            "keyring: expected the next vault identity too, as the log says that a rotation to it began, "
            "found none: keys/ was put back; restore its newest copy"
        )
    return unused


def _compare(held: str, current: str, former: set[str]) -> None:
    if held == current:
        return
    if held in former:
        raise SetBack(
            "keyring: expected the vault identity that the newest rotation in the log names, found one of "
            "before it: keys/ was put back; restore its newest copy"
        )
    raise IntegrityError(
        "keyring: expected the vault identity that the log names, found another; restore keys/ from a backup "
        "of this appliance"
    )
