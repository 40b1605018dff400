"""How arguments and results become bytes, and values of the function's annotations again.

JSON through msgspec is the default. MessagePack is a setting. Pickle runs code when it is read, so it is
read only where the configuration opted in. Encoded bytes say themselves which codec made them: JSON text
never begins with the marks of the others.
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import msgspec

from fairque.core.composable import Composable
from fairque.core.exceptions import DecodeError, EncodeError, PayloadTooLargeError
from fairque.core.outputs import Output, OutputFound

Codec: TypeAlias = Literal["json", "msgpack", "pickle"]

_MSGPACK_MARK = b"\x01"
_PICKLE_MARK = b"\x02"


_WHERE_OUTPUTS_GO = "the output of a task can be an argument of another one, by itself or in a list or dict"


def _plain(value: Any) -> Any:
    """Turn what msgspec does not know into what it does: pydantic models into dicts."""
    if hasattr(type(value), "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, Output):
        raise OutputFound(_WHERE_OUTPUTS_GO)
    raise TypeError(f"objects of type {type(value).__name__} have no plain form")


@dataclass(frozen=True, slots=True)
class CustomUnion:
    """A union with classes that msgspec does not know, such as pydantic models: its members in order."""

    members: tuple[Any, ...]


_FINITE = frozenset({str, int, bool, bytes, type(None)})
PLAIN = (str, int, float, bool, bytes)  # values of these types are meant as they are

_json = msgspec.json.Encoder(enc_hook=_plain)
_msgpack = msgspec.msgpack.Encoder(enc_hook=_plain)


def encode(
    value: Any,
    codec: Codec = "json",
    *,
    what: str = "payload",
    parameters: Callable[[], Sequence[str]] | None = None,
) -> bytes:
    """Encode a payload, a result, or the arguments of a call.

    Args:
        value: The payload or result; `(args, kwargs)` for a call.
        codec: Which form to use.
        what: How an error names the whole.
        parameters: For a call: gives the names of the function's parameters, for the error's message.

    Raises:
        EncodeError: The codec cannot carry the value; the message says which part of it.
        OutputFound: It holds an output.
    """
    try:
        return _encode(value, codec)
    except OutputFound:
        raise
    except _ENCODE_ERRORS as error:
        where, reason = _culprit(value, codec, error, what, parameters)
    raise EncodeError(f"{where} cannot be carried as {codec}: {reason}")


def encode_result(result: Any, codec: Codec, limit: int) -> bytes:
    """Encode what a task returned.

    Raises:
        EncodeError: The codec cannot carry it.
        PayloadTooLargeError: It has more than `limit` bytes; a huge one would keep the server from everybody
            else.
    """
    try:
        data = encode(result, codec, what="result")
    except OutputFound:
        raise EncodeError("a result cannot hold the output of another task: return its value") from None
    if len(data) > limit:
        raise PayloadTooLargeError(len(data), limit, "result")
    return data


_OF_A_TASK = "it is a task, pipeline or handle, and not its result: as an argument pass its .output"
_ENCODE_ERRORS = (
    TypeError,
    ValueError,
    OverflowError,
    RecursionError,
    AttributeError,
    pickle.PicklingError,
    msgspec.MsgspecError,
)


def _encode(value: Any, codec: Codec) -> bytes:
    if codec == "json":
        data = _json.encode(value)
        # msgspec writes NaN and infinities as null, which would change the value on its way.
        if b"null" in data and value is not None:
            _refuse_non_finite(value)
        return data
    if codec == "msgpack":
        return _MSGPACK_MARK + _msgpack.encode(value)
    pickled = io.BytesIO()
    _Pickler(pickled, protocol=5).dump(value)
    return _PICKLE_MARK + pickled.getvalue()


class _Pickler(pickle.Pickler):
    """Refuses what has a pickled form for other ends: it would reach the function as it is."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Output):
            raise OutputFound(_WHERE_OUTPUTS_GO)
        if isinstance(value, Composable):
            raise TypeError(_OF_A_TASK)
        return NotImplemented


def _refuse_non_finite(value: Any) -> None:
    if type(value) in _FINITE:
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value!r} has no JSON form; use None or a string")
    if isinstance(value, Mapping):
        for key, item in value.items():
            _refuse_non_finite(key)
            _refuse_non_finite(item)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            _refuse_non_finite(item)
    elif not isinstance(value, (str, bytes, int, float, type(None))):
        # Dataclasses, structs and models: look at the fields, not at encoded text.
        fields = msgspec.to_builtins(value, enc_hook=_plain)
        if isinstance(fields, (dict, list, float)):
            _refuse_non_finite(fields)


def _culprit(
    value: Any,
    codec: Codec,
    error: BaseException,
    path: str,
    parameters: Callable[[], Sequence[str]] | None,
) -> tuple[str, str]:
    """Name the smallest part of the value that cannot be encoded, by its path."""
    if parameters is not None:
        args, kwargs = (*value, {})[:2]
        known = parameters()
        names = [*(repr(name) for name in known), *map(str, range(len(known) + 1, len(args) + 1))]
        parts = [(f"argument {name}", item) for name, item in zip(names, args, strict=False)]
        parts += [(f"argument {name!r}", item) for name, item in kwargs.items()]
        for name, item in parts:
            reason = _failure(item, codec)
            if reason is not None:
                path, value, error = name, item, reason
                break
    if isinstance(error, RecursionError):
        return path, "it contains itself, or is nested too deep"
    while True:
        inner = next(((p, v, e) for p, v in _items(value) if (e := _failure(v, codec)) is not None), None)
        if inner is None:
            # Else it is said of some part of it that nobody has put there.
            is_task = isinstance(value, Composable) or type(value).__module__.startswith("fairque.queue.")
            return path, _OF_A_TASK if is_task else str(error) or type(error).__name__
        path, value, error = path + inner[0], inner[1], inner[2]


def _items(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(f"[{key!r}]", item) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return [(f"[{index}]", item) for index, item in enumerate(value)]
    return []


def _failure(value: Any, codec: Codec) -> BaseException | None:
    try:
        _encode(value, codec)
    except OutputFound:
        return None  # is filled in later, and not what is wrong
    except _ENCODE_ERRORS as error:
        return error
    return None


def decode(data: bytes, *, allow_pickle: bool = False) -> Any:
    """Decode what `encode` made, into plain values.

    Raises:
        DecodeError: Not such data, or a pickle where pickle was not opted in (`queue.codec: pickle`).
    """
    mark = data[:1]
    if mark == _PICKLE_MARK and not allow_pickle:
        raise DecodeError("the data is a pickle, and queue.codec is not set to pickle here")
    try:
        if mark == _MSGPACK_MARK:
            return msgspec.msgpack.decode(data[1:])
        if mark == _PICKLE_MARK:
            return pickle.loads(data[1:])  # noqa: S301 - opted in by configuration
        return msgspec.json.decode(data)
    except Exception as error:  # a broken pickle may raise anything
        raise DecodeError(f"the data cannot be decoded: {error}") from error


def convert(value: Any, annotation: Any, what: str) -> Any:
    """Turn a decoded value into the annotated type: datetime, UUID, Enum, dataclass, model and so on.

    Raises:
        DecodeError: The value does not fit the annotation.
    """
    if annotation is Any or annotation is None or _fits(value, annotation):
        return value
    if isinstance(annotation, CustomUnion):
        return convert_union(value, annotation.members, what)
    try:
        # str_keys: JSON has text for keys, whatever the annotation of the dict's keys.
        return msgspec.convert(value, annotation, dec_hook=_build, str_keys=True)
    except (TypeError, ValueError, msgspec.ValidationError) as error:
        raise DecodeError(f"{what} does not fit its annotation {annotation!r}: {error}") from error


def convert_union(value: Any, members: Sequence[Any], what: str) -> Any:
    """Turn a value into the first member of a union that it fits, for unions that msgspec cannot judge.

    Raises:
        DecodeError: It fits none.
    """
    for member in members:
        # A value of a plain type is meant as it is; None is nobody else.
        if (member is type(value) and member in PLAIN) or (member is type(None) and value is None):
            return value
    problems = []
    for member in members:
        try:
            return convert(value, member, what)
        except DecodeError as error:
            problems.append(str(error))
    raise DecodeError("; ".join(problems))


def _fits(value: Any, annotation: Any) -> bool:
    return type(value) is annotation and annotation in PLAIN


def _build(annotation: type, value: Any) -> Any:
    """Build what msgspec does not know: pydantic models. Any other class must already be one (pickle)."""
    if hasattr(annotation, "model_validate"):
        return annotation.model_validate(value)
    if isinstance(value, annotation):
        return value
    raise TypeError(f"cannot build {annotation.__name__} from {type(value).__name__}")
