"""Ids inside keys: any string comes back, and no two pairs share a key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairque.core.exceptions import TaskValidationError
from fairque.core.keys import Keys, check_id, escape, member, split_member, unescape

# Strings made of what escaping is about, more often than random text would be.
TRICKY = st.text(st.sampled_from(list(":%3Aa25\n\0\r\x7f {}é🎌")), max_size=12)
ANY = st.text(st.characters(codec="utf-8"), max_size=20) | TRICKY


@given(ANY)
def test_unescape_undoes_escape(text: str) -> None:
    assert unescape(escape(text)) == text


@given(ANY)
def test_an_escaped_id_has_no_separator_and_no_control_character(text: str) -> None:
    assert not any(sign == ":" or ord(sign) < 32 or ord(sign) == 127 for sign in escape(text))


@given(ANY, ANY)
def test_different_ids_stay_different(left: str, right: str) -> None:
    assert (escape(left) == escape(right)) is (left == right)


@given(ANY, ANY)
def test_a_member_gives_its_parts_back(user: str, task: str) -> None:
    assert split_member(member(user, task).encode()) == (user, task)


@given(TRICKY, TRICKY, TRICKY, TRICKY)
def test_different_pairs_never_share_a_member(a: str, b: str, c: str, d: str) -> None:
    assert (member(a, b) == member(c, d)) is ((a, b) == (c, d))


def test_plain_ids_stay_readable() -> None:
    assert member("acme", "0190-7c") == "acme:0190-7c"
    assert member("a:b", "50%") == "a%3Ab:50%25"
    assert member("a\nb", "é\0") == "a%0Ab:é%00"


def test_the_root_is_tagged_for_a_cluster() -> None:
    keys = Keys("fq", "default")
    assert keys.root == "fq:{default:0}"
    assert keys.wake == "fq:{default:0}:wake"
    assert keys.done("a:b", "t") == "fq:{default:0}:done:a%3Ab:t"


@pytest.mark.parametrize("good", ["x", " ", "x" * 256, "🎌" * 256, "\0", "\U0010ffff"])
def test_any_text_of_1_to_256_characters_is_an_id(good: str) -> None:
    assert check_id(good, "user_id") is good


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("", "user_id is empty: give 1 to 256 characters"),
        ("x" * 257, "user_id has 257 characters, the limit is 256: 'xxx"),
        (None, "user_id must be a string, not NoneType: None"),
        (7, "user_id must be a string, not int: 7"),
        (b"x", "user_id must be a string, not bytes"),
        ("a\ud800", "user_id is not valid unicode"),
    ],
)
def test_anything_else_is_refused_by_name(bad: object, message: str) -> None:
    with pytest.raises(TaskValidationError, match=message):
        check_id(bad, "user_id")
