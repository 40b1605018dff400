"""Traces: who pushed a task when, and how long it runs. Read from and written to CSV or JSON lines."""

from __future__ import annotations

import csv
import json
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from fairque.core.exceptions import ConfigurationError, TaskValidationError
from fairque.core.keys import check_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

FIELDS = ("time", "user", "group", "cost")
REQUIRED = ("time", "user", "cost")
CSV, JSON_LINES = (".csv",), (".jsonl", ".ndjson")
LONGEST_COST = 1_000_000  # seconds
LATEST = 1e11  # seconds; so that milliseconds stay exact
LONGEST_GROUP = 256  # characters
SHOWN = 60  # characters of a wrong value


class TraceError(ConfigurationError):
    """A trace cannot be read or written; the message names the file, the line, the field and its value."""

    def __init__(self, file: Path, message: str, line: int | None = None, field: str | None = None) -> None:
        where = "".join((f":{line}" if line else "", f": {field}" if field else ""))
        super().__init__(f"{file}{where}: {message}")
        self.file, self.line, self.field = str(file), line, field


class Arrival(NamedTuple):
    """A task as it is pushed.

    Attributes:
        time: Milliseconds since the trace began.
        user: Whose it is.
        group: Within the user, groups take turns.
        cost: Milliseconds that it runs, 1 or more.
    """

    time: int
    user: str
    group: str
    cost: int


def read_trace(file: Path) -> list[Arrival]:
    """The tasks of a file, in the order of their times; those of one time in the order of the file.

    Args:
        file: `.csv` with a header line, or `.jsonl` or `.ndjson` with one object a line. The fields are
            `time` and `cost` in seconds, `user`, and optionally `group`; others are ignored.

    Raises:
        TraceError: The file cannot be read, or a value is wrong.
    """
    rows = _reader(file)
    try:
        found = [_arrival(file, line, row) for line, row in rows(file)]
    except OSError as error:
        raise TraceError(file, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TraceError(file, f"is not UTF-8 text (byte {error.start})") from error
    except csv.Error as error:
        raise TraceError(file, f"is not CSV: {error}") from error
    if not found:
        raise TraceError(file, "holds no task: give at least one line with time, user and cost")
    found.sort(key=lambda arrival: arrival.time)
    began = found[0].time
    return [arrival._replace(time=arrival.time - began) for arrival in found]


def write_trace(file: Path, arrivals: Sequence[Arrival]) -> None:
    """Write what `read_trace` reads.

    Raises:
        TraceError: The file cannot be written.
    """
    _reader(file)
    rows = ((one.time / 1000, one.user, one.group, one.cost / 1000) for one in arrivals)
    try:
        with file.open("w", encoding="utf-8", newline="") as out:
            if file.suffix in CSV:
                writer = csv.writer(out, lineterminator="\n")
                writer.writerow(FIELDS)
                writer.writerows(rows)
            else:
                out.writelines(_json_line(row) for row in rows)
    except OSError as error:
        raise TraceError(file, f"cannot be written: {error.strerror}") from error


def _json_line(row: Iterable[object]) -> str:
    return json.dumps(dict(zip(FIELDS, row, strict=True)), ensure_ascii=False) + "\n"


def _reader(file: Path) -> Any:
    if file.suffix in CSV:
        return _csv_rows
    if file.suffix in JSON_LINES:
        return _json_rows
    raise TraceError(file, f"its name must end in {', '.join(CSV + JSON_LINES)}, to say what is in it")


def _csv_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines, strict=True)
        if any(field not in (reader.fieldnames or REQUIRED) for field in REQUIRED):
            header = _shown(",".join(reader.fieldnames or ()))
            message = f"the first line must name time, user and cost, separated by commas; it is {header}"
            raise TraceError(file, message, 1)
        for row in reader:
            yield reader.line_num, row


def _json_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield number, _json_object(file, number, line)


def _json_object(file: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        raise TraceError(file, f"is not JSON: {error}", number) from error
    if not isinstance(row, dict):
        raise TraceError(file, f"must be an object with time, user and cost, not {_shown(row)}", number)
    return row


def _arrival(file: Path, line: int, row: dict[str, Any]) -> Arrival:
    for field in REQUIRED:
        if row.get(field) is None:
            raise TraceError(file, "is missing: each task needs time, user and cost", line, field)
    time = _milliseconds(file, line, "time", row["time"], LATEST)
    cost = _milliseconds(file, line, "cost", row["cost"], LONGEST_COST)
    try:
        user = check_id(row["user"], "user")
    except TaskValidationError as error:
        raise TraceError(file, str(error).removeprefix("user "), line, "user") from error
    group = row.get("group") or ""
    if not isinstance(group, str) or len(group) > LONGEST_GROUP:
        message = f"must be text of at most {LONGEST_GROUP} characters, not {_shown(group)}"
        raise TraceError(file, message, line, "group")
    return Arrival(time, user, group, max(cost, 1))


def _milliseconds(file: Path, line: int, field: str, value: object, limit: float) -> int:
    """Seconds as whole milliseconds."""
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 <= seconds <= limit:
        message = f"must be a number of seconds from 0 to {limit:,.0f}, not {_shown(value)}"
        raise TraceError(file, message, line, field)
    return round(seconds * 1000)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"
