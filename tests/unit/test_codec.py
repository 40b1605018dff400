"""How values travel: what each codec carries, and how a refusal names the culprit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from fairque.core.codec import Codec, convert, decode, encode
from fairque.core.exceptions import DecodeError, EncodeError, TaskValidationError
from fairque.core.outputs import Output

CODECS: tuple[Codec, ...] = ("json", "msgpack", "pickle")

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(plain, st.sampled_from(CODECS))
def test_plain_values_come_back_as_they_were(value: Any, codec: Codec) -> None:
    back = decode(encode(value, codec), allow_pickle=True)
    assert back == value
    assert repr(back) == repr(value)


@given(plain)
def test_encoded_bytes_say_which_codec_made_them(value: Any) -> None:
    assert encode(value, "json")[:1] not in {b"\x01", b"\x02"}
    assert encode(value, "msgpack")[:1] == b"\x01"
    assert encode(value, "pickle")[:1] == b"\x02"


class Size(IntEnum):
    SMALL = 1


class Colour(Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    label: str | None = None


class Box(msgspec.Struct):
    point: Point
    tags: frozenset[str]


class Pair(NamedTuple):
    left: int
    right: date


class Row(TypedDict):
    id: UUID


class Inner(BaseModel):
    when: datetime


class Person(BaseModel):
    name: str
    inner: Inner


NOON = datetime(2026, 5, 17, 12, 0, 0, 123456, UTC)
TYPED: list[tuple[Any, Any]] = [
    (NOON, datetime),
    (date(2026, 5, 17), date),
    (time(12, 30), time),
    (timedelta(days=1, seconds=5), timedelta),
    (UUID(int=7), UUID),
    (Decimal("1.500"), Decimal),
    (Size.SMALL, Size),
    (Colour.RED, Colour),
    (Point(1), Point),
    (Box(Point(2, "x"), frozenset({"a"})), Box),
    (Pair(1, date(2026, 1, 1)), Pair),
    ({"id": UUID(int=9)}, Row),
    (Person(name="Ada", inner=Inner(when=NOON)), Person),
    ([Person(name="Ada", inner=Inner(when=NOON))], list[Person]),
    ({"a": Point(1)}, dict[str, Point]),
    ({1: "x"}, dict[int, str]),
    ((1, "a"), tuple[int, str]),
    ({1, 2}, set[int]),
    (b"\x00\xff", bytes),
    (None, Point | None),
    ("red", Literal["red", "blue"]),
    (1.0, float),
    (True, bool),
]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(("value", "annotation"), TYPED, ids=lambda item: str(item)[:40])
def test_typed_values_become_what_the_annotation_says(value: Any, annotation: Any, codec: Codec) -> None:
    back = convert(decode(encode(value, codec), allow_pickle=True), annotation, "it")
    assert back == value
    assert type(back) is type(value)


def test_an_integer_may_stand_where_a_float_is_annotated() -> None:
    assert convert(decode(b"3"), float, "it") == 3.0


@pytest.mark.parametrize(
    ("data", "annotation"),
    [
        (b'"noon"', datetime),
        (b'"x"', int),
        (b'"3"', int),
        (b"1.5", int),
        (b"true", int),
        (b"{}", Point),
        (b'{"x":"y"}', Point),
        (b'"green"', Colour),
        (b'{"name":"Ada"}', Person),
        (b"null", str),
        (b"[1]", PurePosixPath),
    ],
)
def test_what_does_not_fit_is_an_error_that_names_it(data: bytes, annotation: Any) -> None:
    with pytest.raises(DecodeError, match="argument 'size' does not fit its annotation"):
        convert(decode(data), annotation, "argument 'size'")


class Opaque:
    pass


def _bomb(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("args", "kwargs", "where"),
    [
        ((Opaque(),), {}, "argument 1 cannot be carried as json: .*Opaque"),
        ((1, Opaque()), {}, "argument 2 cannot"),
        ((1,), {"size": Opaque()}, "argument 'size' cannot"),
        ((1, {"a": [1, Opaque()]}), {}, r"argument 2\['a'\]\[1\] cannot"),
        ((), {"m": {"a": {"b": Opaque()}}}, r"argument 'm'\['a'\]\['b'\] cannot"),
        (
            ([math.nan],),
            {},
            r"argument 1\[0\] cannot be carried as json: nan has no JSON form; use None or a string",
        ),
        ((None, math.inf), {}, "argument 2 cannot be carried as json: inf"),
        ((Point(math.nan),), {}, "argument 1 cannot be carried as json: nan"),  # type: ignore[arg-type]
        (("a\ud800",), {}, "argument 1 cannot"),
        (
            (_bomb(100_000),),
            {},
            "argument 1 cannot be carried as json: it contains itself, or is nested too deep",
        ),
    ],
)
def test_an_argument_that_cannot_be_carried_is_named_by_its_path(
    args: tuple[Any, ...], kwargs: dict[str, Any], where: str
) -> None:
    with pytest.raises(EncodeError, match=where):
        encode((args, kwargs), "json", parameters=list)


def test_an_output_within_what_cannot_be_carried_is_not_blamed() -> None:
    class Local(NamedTuple):
        value: Any

    with pytest.raises(EncodeError, match=r"payload cannot be carried as pickle: .*Local"):
        encode(Local(Output("t")), "pickle")


def test_a_positional_argument_is_named_by_its_parameter_where_that_is_known() -> None:
    with pytest.raises(EncodeError, match=r"argument 'size'\[0\] cannot"):
        encode((("x", [Opaque()]), {}), "json", parameters=lambda: ("image", "size"))
    with pytest.raises(EncodeError, match="argument 3 cannot"):
        encode((("x", 1, Opaque()), {}), "json", parameters=lambda: ("image", "size"))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: x,
        lambda x: [None, x],
        lambda x: {"a": (x,)},
        lambda x: {x},
        lambda x: Box(Point(x), frozenset()),
        lambda x: [Point(1), {"deep": [Point(x)]}],
    ],
)
def test_nan_and_infinity_are_refused_wherever_they_hide(bad: float, wrap: Any) -> None:
    with pytest.raises(EncodeError, match="has no JSON form"):
        encode(wrap(bad))


def test_none_next_to_a_word_null_is_no_nan() -> None:
    assert decode(encode([None, "null", {"null": None}])) == [None, "null", {"null": None}]


@pytest.mark.parametrize("codec", ["msgpack", "pickle"])
def test_other_codecs_carry_infinity(codec: Codec) -> None:
    assert decode(encode([math.inf], codec), allow_pickle=True) == [math.inf]


def test_pickle_carries_what_json_cannot_and_names_what_it_cannot() -> None:
    assert isinstance(decode(encode(Point(1), "pickle"), allow_pickle=True), Point)
    with pytest.raises(EncodeError, match="argument 1 cannot be carried as pickle"):
        encode(((lambda: None,), {}), "pickle", parameters=list)


class Detonator:
    fired = False

    def __reduce__(self) -> Any:
        return (setattr, (Detonator, "fired", True))


def test_a_pickle_is_not_read_without_opting_in() -> None:
    data = encode(Detonator(), "pickle")
    with pytest.raises(
        DecodeError, match=r"the data is a pickle, and queue\.codec is not set to pickle here"
    ):
        decode(data)
    assert not Detonator.fired


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"\x01\xc1", b"\x01", b"\x02junk", b"\x02"])
def test_broken_data_is_one_kind_of_error(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(data, allow_pickle=True)


def test_an_encode_error_is_a_refusal() -> None:
    assert issubclass(EncodeError, TaskValidationError)
    assert issubclass(TaskValidationError, ValueError)
