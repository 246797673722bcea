"""In which form a model leaves: with or without its architecture, with all digits of its weights or rounded.

Guarantees to officers that what they sign says the form: it stands in the options of the request, the rules
see it as facts, the lineage repeats it to the recipient, and a request for one form releases no other.
Rounding takes away the sixteen low bits of each number, which a captured worker could otherwise fill with
what it likes; what remains can carry less, not nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from appliance.errors import UsageError

INCLUDED, WITHHELD = "included", "withheld"
EXACT, BF16 = "none", "bf16"
ARCHITECTURES = (INCLUDED, WITHHELD)
ROUNDINGS = (EXACT, BF16)

_FILES = ("config.json", "model.safetensors", "tokenizer.json")


@dataclass(frozen=True, slots=True)
class Form:
    """One form; the default is what a request without options asks for."""

    architecture: str = INCLUDED
    rounding: str = EXACT

    @classmethod
    def of(cls, options: Mapping[str, str]) -> Form:
        """Read the form out of a request's options; raises UsageError for a word that is none."""
        form = cls(options.get("architecture", INCLUDED), options.get("rounding", EXACT))
        if form.architecture not in ARCHITECTURES or form.rounding not in ROUNDINGS:
            raise UsageError(
                f"expected architecture {' or '.join(ARCHITECTURES)} and rounding {' or '.join(ROUNDINGS)}, "
                f"found {form.architecture[:20]!r} and {form.rounding[:20]!r}"
            )
        return form

    @property
    def options(self) -> dict[str, str]:
        """What a request says of it: nothing where it is the default."""
        told = {"architecture": self.architecture, "rounding": self.rounding}
        default = {"architecture": INCLUDED, "rounding": EXACT}
        return {name: word for name, word in told.items() if word != default[name]}

    @property
    def files(self) -> tuple[str, ...]:
        """The model's own files that leave, sorted."""
        return tuple(name for name in _FILES if name != "config.json" or self.architecture == INCLUDED)
