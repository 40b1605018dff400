"""Names of keys. One root per shard; ids are escaped where they become part of a key."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fairque.core.exceptions import TaskValidationError

ID_LIMIT = 256  # characters
GATE = b"%%"  # begins what holds a graph that comes in several pushes; no escaped id does
DEFAULT = "default"  # the entry of a configuration's users that holds for all of them

_SPECIAL = re.compile(r"[%:\x00-\x1f\x7f]")
_ESCAPED = re.compile(r"%([0-7][0-9A-F])")


def check_id(value: object, what: str) -> str:
    """Return `value` if it can be a user or task id: a non-empty unicode string of up to 256 characters.

    Raises:
        TaskValidationError: It is missing, not a string, too long, or holds half a surrogate pair.
    """
    if not isinstance(value, str):
        raise TaskValidationError(f"{what} must be a string, not {type(value).__name__}: {value!r}")
    if not value:
        raise TaskValidationError(f"{what} is empty: give 1 to {ID_LIMIT} characters")
    if len(value) > ID_LIMIT:
        raise TaskValidationError(
            f"{what} has {len(value)} characters, the limit is {ID_LIMIT}: {value[:40]!r}…"
        )
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise TaskValidationError(f"{what} is not valid unicode (a lone surrogate): {value!r}") from None
    return value


def escape(part: str) -> str:
    """Make an id safe inside a key: `:` separates parts there, so it and the escape sign are encoded.

    So are control characters: the server ends the text of an error at a NUL and flattens its newlines, and
    such an error may name a task.
    """
    if ":" in part or "%" in part or not part.isprintable():
        return _SPECIAL.sub(lambda found: f"%{ord(found[0]):02X}", part)
    return part


def unescape(part: str) -> str:
    """Undo `escape`."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), part) if "%" in part else part


def member(user_id: str, task_id: str) -> str:
    """The name of a task in the shard's sets and at the end of its own keys: `<user>:<id>`, escaped."""
    return f"{escape(user_id)}:{escape(task_id)}"


def split_member(name: bytes) -> tuple[str, str]:
    """Undo `member`: the user id and the task id."""
    user, _, task = name.decode().partition(":")
    return unescape(user), unescape(task)


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one shard. Everything else below the root is named inside the scripts."""

    prefix: str
    queue: str
    shard: int = 0

    @property
    def root(self) -> str:
        """The hash tag that keeps a shard in one slot of a cluster, e.g. `fq:{default:0}`."""
        return f"{self.prefix}:{{{self.queue}:{self.shard}}}"

    @property
    def wake(self) -> str:
        """The list on which idle workers block."""
        return f"{self.root}:wake"

    def done(self, user_id: str, task_id: str) -> str:
        """The channel that announces the end of a task."""
        return f"{self.root}:done:{member(user_id, task_id)}"
