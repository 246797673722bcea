"""The parts of a bundle on their way to a medium: begun anew, or taken up where an earlier try was cut off.

Guarantees to the sender: a part counts as complete once it is durable and the signed journal says so; an
earlier try is taken up only if it was for the same contents, recipient, channel and signers, and only with
the parts that the medium still gives back unchanged. What another key wrote is left alone.
Source: docs/formats/transfer-bundle.md, section Resume.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from appliance.age import FILE_KEY_SIZE, NONCE_SIZE, Recipient, encode_header, payload_key
from appliance.bundle.folder import BundleFolder, write_all
from appliance.bundle.manifest import Label, PartFile, part_name
from appliance.bundle.medium import medium_error
from appliance.bundle.parts import PartOutput, PartWriter
from appliance.bundle.signer import SignerKey
from appliance.bundle.unfinished import Unfinished, keep_whole_parts, read_journal, write_journal

if TYPE_CHECKING:
    from audit.note import VerifierKey

_FOLDER = re.compile(r"[0-9a-f]{8}\.bundle")


@dataclass(frozen=True, slots=True)
class Writing:
    """One bundle being written: where, what, by whom and for whom; `entropy(n)` returns n random bytes."""

    folder: BundleFolder
    state: Unfinished
    key: SignerKey
    recipient: Recipient
    entropy: Callable[[int], bytes]

    def writer(self) -> PartWriter:
        """Return a writer of the parts that are still missing, which keeps the journal."""
        state = keep_whole_parts(self.folder, self.state)
        self._journal(state.parts)
        return PartWriter(state.part_sizes, self._new_part, state.parts, self._journal)

    def _journal(self, parts: Sequence[PartFile]) -> None:
        write_journal(self.folder, self.state, parts, self.key)

    def _new_part(self, index: int) -> PartOutput:
        file_key = bytearray(self.entropy(FILE_KEY_SIZE))
        nonce = self.entropy(NONCE_SIZE)
        prefix = encode_header(file_key, [self.recipient]) + nonce
        key = payload_key(file_key, nonce)
        file_key[:] = bytes(FILE_KEY_SIZE)
        fd = self.folder.create_file(part_name(index))
        try:
            write_all(fd, memoryview(prefix), part_name(index))
        except BaseException:
            os.close(fd)
            raise
        return PartOutput(fd, key, prefix)


def find_unfinished(parent: int, label: Label, key: VerifierKey, *, any_seq: bool) -> Unfinished | None:
    """Return the bundle that an earlier try left beneath an open folder, if it was to bear this label.

    Bundle id and times may differ, the number too where `any_seq` says that nobody chose it; what has expired
    by now is not taken up.
    """
    try:
        names = os.listdir(parent)
    except OSError as error:
        raise medium_error(error, "the folder to write to") from error
    for name in sorted(names):
        if _FOLDER.fullmatch(name):
            with BundleFolder.beneath(parent, name) as folder:
                state = read_journal(folder, key)
            if state is not None and state.label.folder_name == name:
                found = state.label
                same = replace(
                    label,
                    bundle_id=found.bundle_id,
                    issued_at=found.issued_at,
                    expires=found.expires,
                    seq=found.seq if any_seq else label.seq,
                )
                if same == found and found.expires > label.issued_at:
                    return state
    return None
