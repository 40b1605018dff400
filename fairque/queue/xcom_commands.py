"""Operations on cross-task data (XCom), as values. No I/O here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from fairque.core import codec
from fairque.core.calls import Call, Flow
from fairque.core.exceptions import EncodeError, PayloadTooLargeError, TaskValidationError, XComKeyError
from fairque.core.keys import check_id, escape, unescape
from fairque.core.outputs import OutputFound
from fairque.core.units import to_ms
from fairque.core.xcom_defaults import DEFAULT_NAMESPACE, MISSING, check_ttl
from fairque.queue.replies import groups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fairque.core.config import QueueConfig
    from fairque.core.units import Seconds

T = TypeVar("T")

# Of one script, to bound how long the server is busy with it: values that are read, the bytes after which a
# reply ends, values that are removed.
PAGE = 100
PAGE_BYTES = 1024 * 1024
CHUNK = 500
SWEPT = 20  # expired entries that a write removes from its namespace's index; it adds one at the most


class XComCommands:
    """The operations on one user's cross-task data.

    Args:
        config: The queue's settings.
        root: The shard's.
        user_id: Whose data.
        namespace: Where a call names none.
        fence: Member, number and claim of the attempt that must hold its lease to write; None for anybody.
    """

    def __init__(
        self,
        config: QueueConfig,
        root: str,
        user_id: str,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        fence: tuple[str, int, str] | None = None,
    ) -> None:
        self.user_id = check_id(user_id, "user_id")
        self.namespace = check_id(namespace, "namespace")
        self._config = config
        self._root = root
        self._user = escape(user_id)
        self._fence = None if fence is None else (fence[0], str(fence[1]), fence[2])

    # --- writing ---

    def push_call(
        self, key: str, value: Any, *, ttl: Seconds | None = None, namespace: str | None = None
    ) -> Call[None]:
        """Store a value in place of the one before. Raises `LeaseLostError` for an attempt that is stale."""
        name = _key(key)
        data = self._encode(key, value)
        ttl_ms = max(1, to_ms(self._config.xcom_ttl if ttl is None else check_ttl(ttl), "ttl"))
        script = "xcom_push" if self._fence is None else "xcom_push_running"
        return self._writing(script, namespace, (name, data), _nothing, ttl_ms=ttl_ms)

    def push(
        self, key: str, value: Any, *, ttl: Seconds | None = None, namespace: str | None = None
    ) -> Flow[None]:
        """Store a value in place of the one before."""
        yield self.push_call(key, value, ttl=ttl, namespace=namespace)

    def delete(self, key: str, *, namespace: str | None = None) -> Flow[bool]:
        """Remove a value: whether it was there."""
        removed: bool = yield self._writing("xcom_delete", namespace, (_key(key),), bool)
        return removed

    def clear(self, namespace: str | None = None) -> Flow[int]:
        """Remove all values of a namespace, chunk by chunk: how many."""
        total = 0
        while True:
            removed, left = yield self._writing("xcom_clear", namespace, (), tuple, limit=CHUNK)
            total += int(removed)
            if left == 0:
                return total

    # --- reading ---

    def pull(self, key: str, *, default: Any = MISSING, namespace: str | None = None) -> Flow[Any]:
        """One value."""
        found = yield from self.pull_many([key], namespace=namespace)
        if key in found:
            return found[key]
        if default is MISSING:
            raise XComKeyError(self.user_id, self.namespace if namespace is None else namespace, key)
        return default

    def pull_many(self, keys: Iterable[str], *, namespace: str | None = None) -> Flow[dict[str, Any]]:
        """Several values, those that are there."""
        if isinstance(keys, str):
            raise TaskValidationError(f"keys must be a list of keys, not one string: {keys!r}")
        names = {_key(key): key for key in keys}
        found = yield from self._values(list(names), namespace)
        return {key: self._decode(found[name]) for name, key in names.items() if name in found}

    def pull_all(self, namespace: str | None = None) -> Flow[dict[str, Any]]:
        """All values of a namespace, page by page."""
        found: dict[str, bytes] = {}
        cursor = "0"
        while True:
            options = self._options(cursor=cursor, limit=PAGE, bytes=PAGE_BYTES)
            cursor, page, left = yield self._call("xcom_pull_all", options, namespace, (), _read_page)
            found |= page
            found |= yield from self._values(left, namespace)
            if cursor == "0":
                return {key: self._decode(data) for key, data in sorted(_unescaped(found))}

    def _values(self, names: list[str], namespace: str | None) -> Flow[dict[str, bytes]]:
        """The values of escaped keys, as many at a time as a reply may carry."""
        options = self._options(bytes=PAGE_BYTES)
        found: dict[str, bytes] = {}
        while names:
            values = yield self._call("xcom_pull", options, namespace, names[:PAGE], list)
            answered = zip(names, values, strict=False)
            found |= {name: value for name, value in answered if value is not None}
            names = names[len(values) :]
        return found

    # --- the wire ---

    def _encode(self, key: str, value: Any) -> bytes:
        what = f"XCom value {key!r}"
        try:
            data = codec.encode(value, self._config.codec, what=what)
        except OutputFound:
            raise EncodeError(f"{what} cannot hold the output of a task: push its value") from None
        if len(data) > self._config.max_xcom_bytes:
            raise PayloadTooLargeError(len(data), self._config.max_xcom_bytes, what, "queue.max_xcom_bytes")
        return data

    def _decode(self, data: bytes) -> Any:
        return codec.decode(data, allow_pickle=self._config.codec == "pickle")

    @staticmethod
    def _options(**options: Any) -> bytes:
        return msgspec.json.encode({name: value for name, value in options.items() if value is not None})

    def _writing(
        self,
        script: str,
        namespace: str | None,
        args: Iterable[str | bytes],
        read: Callable[[Any], T],
        **options: Any,
    ) -> Call[T]:
        encoded = self._options(**options, sweep=SWEPT, fence=self._fence)
        return self._call(script, encoded, namespace, args, read)

    def _call(
        self,
        script: str,
        options: bytes,
        namespace: str | None,
        args: Iterable[str | bytes],
        read: Callable[[Any], T],
    ) -> Call[T]:
        space = self.namespace if namespace is None else check_id(namespace, "namespace")
        return Call(script, self._root, (options, self._user, escape(space), *args), read)


def _key(key: str) -> str:
    return escape(check_id(key, "key"))


def _nothing(_: Any) -> None:
    return None


def _read_page(reply: Any) -> tuple[str, dict[str, bytes], list[str]]:
    """The reply of xcom_pull_all.lua: the next cursor, the values, and the keys that come without one."""
    cursor, *rows = reply
    found: dict[str, bytes] = {}
    left: list[str] = []
    for name, value in groups(rows, 2):
        if value == 0:
            left.append(name.decode())
        else:
            found[name.decode()] = value
    return cursor.decode(), found, left


def _unescaped(found: dict[str, bytes]) -> Iterable[tuple[str, bytes]]:
    return ((unescape(name), data) for name, data in found.items())
