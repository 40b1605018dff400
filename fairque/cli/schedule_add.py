"""`fairque schedule add`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from fairque.cli.options import ConfigOption, JsonOption, QueueOption, UrlOption
from fairque.cli.schedules import open_schedules, tell
from fairque.cli.showing import plain
from fairque.core.exceptions import ConfigurationError

if TYPE_CHECKING:
    from fairque.core.models import Task
    from fairque.core.schedule import CatchUp, Overlap


def add(  # noqa: PLR0917 - typer passes them by name
    user_id: Annotated[str, typer.Option("--user", metavar="USER", help="Whose task it is.")],
    places: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[EXPR] TASK",
            help="When, as a cron expression in quotes, unless --every or --at says it; and the registered "
            "name of a function, as myapp.tasks:report.",
        ),
    ] = None,
    schedule_id: Annotated[
        str | None,
        typer.Option("--id", metavar="ID", help="Its id among the user's schedules; made up if not given."),
    ] = None,
    every: Annotated[
        float | None, typer.Option("--every", metavar="S", help="Seconds from one time to the next.")
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="Once, then: 2030-01-31T09:00:00+09:00.")
    ] = None,
    timezone: Annotated[
        str,
        typer.Option("--timezone", metavar="ZONE", help="Of EXPR and of times without offset: Asia/Tokyo."),
    ] = "UTC",
    arg: Annotated[
        list[str] | None,
        typer.Option(
            "--arg", metavar="JSON", help="An argument of the function: '\"daily\"', 3. Repeatable."
        ),
    ] = None,
    kwarg: Annotated[
        list[str] | None,
        typer.Option("--kwarg", metavar="NAME=JSON", help="One by name: 'format=\"pdf\"'. Repeatable."),
    ] = None,
    payload: Annotated[
        str | None, typer.Option("--payload", metavar="JSON", help="Without TASK: what a handler gets.")
    ] = None,
    catch_up: Annotated[
        str,
        typer.Option("--catch-up", metavar="WHICH", help="Of missed times make up for: latest, all or none."),
    ] = "latest",
    max_catch_up: Annotated[
        int, typer.Option("--max-catch-up", metavar="N", help="With all, for how many of the last ones.")
    ] = 100,
    jitter: Annotated[
        float | None,
        typer.Option(
            "--jitter", metavar="S", help="Be less than so many seconds late, differently each time."
        ),
    ] = None,
    start: Annotated[
        str | None, typer.Option("--start", metavar="TIME", help="Not before; --every counts from it.")
    ] = None,
    end: Annotated[str | None, typer.Option("--end", metavar="TIME", help="Not after.")] = None,
    overlap: Annotated[
        str,
        typer.Option(
            "--overlap", metavar="HOW", help="allow, or skip: push nothing while the last task has not ended."
        ),
    ] = "allow",
    priority: Annotated[
        int | None,
        typer.Option("--priority", metavar="P", help="Of its tasks, 1 (very low) to 6 (critical)."),
    ] = None,
    max_retries: Annotated[
        int | None, typer.Option("--max-retries", metavar="N", help="Of its tasks.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="S", help="Seconds that an attempt may take.")
    ] = None,
    group: Annotated[
        str | None, typer.Option("--group", metavar="NAME", help="The part of the user's work.")
    ] = None,
    metadata: Annotated[
        str | None, typer.Option("--metadata", metavar="JSON", help="An object with anything of your own.")
    ] = None,
    paused: Annotated[
        bool, typer.Option("--paused", help="Do not fire until fairque schedule resume.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put it in place of another one with its id.")
    ] = False,
    config: ConfigOption = None,
    url: UrlOption = None,
    queue: QueueOption = None,
    as_json: JsonOption = False,
) -> None:
    """Push a task at certain times from now on; fairque scheduler fires it, workers run it.

    EXPR has five fields: minute, hour, day of month, month, day of week; or six with the second first; or it
    is @hourly, @daily, @weekly, @monthly or @yearly. The same schedule may be added again under its --id.
    Options of @task, as timeout, are not known here: give those that matter.

    Example: fairque schedule add "0 9 * * MON-FRI" myapp.tasks:report --user acme --id daily-report
    --timezone Europe/Berlin --arg '"daily"' --kwarg 'format="pdf"'

    Example: fairque schedule add myapp.tasks:sync --every 300 --user acme --overlap skip
    """
    expr, name = read_places(places or [], has_expr=every is None and at is None)
    options = {"priority": priority, "max_retries": max_retries, "timeout": timeout, "group": group}
    moments: dict[str, Any] = {
        option: read_moment(f"--{option}", text, timezone)
        for option, text in (("at", at), ("start", start), ("end", end))
    }
    with open_schedules(config, url, queue) as schedules:
        added = schedules.add_schedule(
            expr,
            read_task(name, arg or [], kwarg or [], payload, **options),
            every=every,
            **moments,
            timezone="UTC" if expr is None and any(moments.values()) else timezone,
            user_id=user_id,
            schedule_id=schedule_id,
            catch_up=cast("CatchUp", catch_up),
            max_catch_up=max_catch_up,
            overlap=cast("Overlap", overlap),
            jitter=jitter,
            active=not paused,
            metadata=None if metadata is None else read_json("--metadata", metadata),
            replace=replace,
        )
    tell(added, as_json=as_json)


# --- reading ---


def read_places(given: Sequence[str], *, has_expr: bool) -> tuple[str | None, str | None]:
    """EXPR and TASK. EXPR is there unless --every or --at takes its place.

    Raises:
        ConfigurationError: There are too many, or none where the expression should be.
    """
    most = 2 if has_expr else 1
    if has_expr and not given:
        raise ConfigurationError(
            'schedule add: say when: a cron expression such as "0 9 * * *" before TASK, --every or --at'
        )
    if len(given) > most:
        wanted = "EXPR and TASK" if has_expr else "TASK alone, as --every or --at says when"
        raise ConfigurationError(
            f"schedule add: takes {wanted}, not {' '.join(map(repr, given))}; arguments go by --arg"
        )
    expr, *rest = given if has_expr else (None, *given)
    return expr, rest[0] if rest else None


def read_task(
    name: str | None, args: Iterable[str], kwargs: Iterable[str], payload: str | None, **options: Any
) -> Task[Any]:
    """What is pushed: a function's task by its registered name, or a handler's with a payload.

    Raises:
        ConfigurationError: An argument is no JSON, or does not go with the others.
        TaskValidationError: An option is out of its range.
    """
    from fairque.core.models import task_by_name  # noqa: PLC0415 - --help and --version stay fast

    positional = [read_json("--arg", text) for text in args]
    named = dict(_read_named(text) for text in kwargs)
    if name is None and payload is None:
        raise ConfigurationError(
            "schedule add: TASK is missing, the registered name of a function such as myapp.tasks:report; "
            "for a handler's task give --payload"
        )
    if name is None and (positional or named):
        raise ConfigurationError("schedule add: --arg and --kwarg are for a function: give TASK too")
    if name is not None and payload is not None:
        raise ConfigurationError(
            "schedule add: --payload is for a handler: leave TASK out, or give it --arg and --kwarg"
        )
    value = None if payload is None else read_json("--payload", payload)
    given = {option: setting for option, setting in options.items() if setting is not None}
    return task_by_name(name, positional, named, value, **given)


def _read_named(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise ConfigurationError(f"--kwarg {plain(text)}: must be name=JSON, as in 'format=\"pdf\"'")
    return name, read_json(f"--kwarg {name}", value)


def read_json(option: str, text: str) -> Any:
    """A value that was given as JSON.

    Raises:
        ConfigurationError: It is none; the message names the option.
    """
    try:
        return json.loads(text)
    except ValueError:
        raise ConfigurationError(
            f"{option}: {plain(text)} is not JSON: text stands in double quotes, as in '\"{plain(text)}\"'"
        ) from None


def read_moment(option: str, text: str | None, timezone: str) -> datetime | None:
    """A time; one without an offset is meant in the time zone.

    Raises:
        ConfigurationError: It is none; the message names the option.
        ScheduleValidationError: There is no such zone.
    """
    from fairque.core.zones import load_zone  # noqa: PLC0415 - --help and --version stay fast

    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"{option} {plain(text)}: must be a time such as 2030-01-31T09:00 or 2030-01-31T09:00:00+09:00"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=load_zone(timezone))
