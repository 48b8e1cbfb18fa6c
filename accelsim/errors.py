"""The one error a user's mistake raises: where it is, what was given, what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """A mistake in what the user gave: a file, a flag, an argument.

    The text is one line that stands alone. ``where`` is ``file:line:column`` (or a flag, or an
    argument name) and is put in front of the message when it is known.
    """

    def __init__(self, message: str, where: str = "") -> None:
        self.message = message
        self.where = where
        super().__init__(f"{where}: {message}" if where else message)


def nearest(given: str, allowed: Iterable[str]) -> str:
    """A ``" (did you mean 'x'?)"`` clause for a misspelt word, or an empty string."""
    matches = difflib.get_close_matches(given, list(allowed), n=1, cutoff=0.6)
    return f" (did you mean '{matches[0]}'?)" if matches else ""


def unknown(what: str, given: str, allowed: Iterable[str], where: str = "") -> InputError:
    """The error for a name that is not in a closed list: names the list and the nearest match."""
    names = sorted(allowed)
    message = f"unknown {what} {given[:60]!r}{nearest(given, names)}; allowed: {', '.join(names)}"
    return InputError(message, where)
