"""`fairque schedule …`: adding, looking at and changing schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fairque.cli.options import ConfigOption, JsonOption, QueueOption, UrlOption
from fairque.cli.schedule_add import add
from fairque.cli.schedules import (
    TIMES,
    away,
    lines_of,
    local,
    more_than,
    named,
    open_schedules,
    print_schedules,
    schedule_row,
    state_of,
    tell,
)
from fairque.cli.showing import emit, plain
from fairque.core.exceptions import ConfigurationError, ScheduleNotFoundError

if TYPE_CHECKING:
    from fairque.core.schedule import Schedule

PAGE = 50

UserArgument = Annotated[
    str, typer.Argument(metavar="USER", help="Whose it is; one that begins with a dash goes after --.")
]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The schedule's id; the same.")]

schedule = typer.Typer(
    name="schedule",
    help="Tasks that are pushed at certain times: add, see and change them. fairque scheduler fires them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
schedule.command(short_help="Push a task at certain times from now on.")(add)


@schedule.command(name="list", short_help="Show the schedules.")
def list_(  # noqa: PLR0917 - typer passes them by name
    user_id: Annotated[str | None, typer.Option("--user", metavar="USER", help="Only this user's.")] = None,
    active: Annotated[
        bool | None, typer.Option("--active/--paused", help="Only those that are not paused, or are.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Schedules to show.")] = PAGE,
    config: ConfigOption = None,
    url: UrlOption = None,
    queue: QueueOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the schedules, by users and ids; times are in the time zone of each.

    State: active, paused, ended (no time is left; it stays until it is removed), failing (it could not push,
    the last time), unreadable. Fired is how many tasks it has pushed.

    Example: fairque schedule list --user acme --active
    """
    with open_schedules(config, url, queue) as schedules:
        found = schedules.list_schedules(user_id=user_id, active=active, limit=limit + 1)
    more, shown = len(found) > limit, found[:limit]
    if as_json:
        emit(schedules=[schedule_row(one) for one in shown], has_more=more)
    elif not shown:
        typer.echo("There are no such schedules: fairque schedule add makes one.")
    else:
        print_schedules(shown)
        if more:
            typer.echo(more_than(limit))


@schedule.command(short_help="Show a schedule: its next times, and how it went so far.")
def show(  # noqa: PLR0917 - typer passes them by name
    user_id: UserArgument,
    schedule_id: IdArgument,
    config: ConfigOption = None,
    url: UrlOption = None,
    queue: QueueOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a schedule: when it fires next, what it pushes, and how it went so far.

    Example: fairque schedule show acme daily-report
    """
    with open_schedules(config, url, queue) as schedules:
        found = schedules.get_schedule(user_id, schedule_id)
    if as_json:
        emit(**schedule_row(found), next_fire_times=found.next_fire_times(TIMES))
        return
    typer.echo(f"{named(user_id, schedule_id)}: {state_of(found)}")
    for name, text in lines_of(found):
        typer.echo(f"  {name:<12}{text}")


@schedule.command(short_help="Let a schedule not fire until resume.")
def pause(  # noqa: PLR0917 - typer passes them by name
    user_id: UserArgument,
    schedule_id: IdArgument,
    config: ConfigOption = None,
    url: UrlOption = None,
    queue: QueueOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a schedule not fire until fairque schedule resume. What it has pushed runs.

    Example: fairque schedule pause acme daily-report
    """
    with open_schedules(config, url, queue) as schedules:
        tell(schedules.pause(user_id, schedule_id), as_json=as_json)


@schedule.command(short_help="Let a paused schedule fire from now on.")
def resume(  # noqa: PLR0917 - typer passes them by name
    user_id: UserArgument,
    schedule_id: IdArgument,
    config: ConfigOption = None,
    url: UrlOption = None,
    queue: QueueOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a paused schedule fire from now on; what it would have done meanwhile is not made up for.

    Example: fairque schedule resume acme daily-report
    """
    with open_schedules(config, url, queue) as schedules:
        tell(schedules.resume(user_id, schedule_id), as_json=as_json)


@schedule.command(short_help="Forget a schedule.")
def remove(  # noqa: PLR0917 - typer passes them by name
    user_id: UserArgument,
    schedule_id: IdArgument,
    config: ConfigOption = None,
    url: UrlOption = None,
    queue: QueueOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forget a schedule. The tasks that it has pushed stay.

    One that is declared in code or in a configuration comes back when a worker or a scheduler starts with it.

    Example: fairque schedule remove acme daily-report
    """
    with open_schedules(config, url, queue) as schedules:
        if not schedules.remove_schedule(user_id, schedule_id):
            raise ScheduleNotFoundError(user_id, schedule_id)
    if as_json:
        emit(user_id=user_id, schedule_id=schedule_id, removed=True)
    else:
        typer.echo(f"{named(user_id, schedule_id)} is removed; the tasks that it has pushed stay")


@schedule.command(short_help="Push a schedule's task now, besides its times.")
def trigger(  # noqa: PLR0917 - typer passes them by name
    user_id: UserArgument,
    schedule_id: IdArgument,
    config: ConfigOption = None,
    url: UrlOption = None,
    queue: QueueOption = None,
    as_json: JsonOption = False,
) -> None:
    """Push a schedule's task now, besides its times; also while it is paused, or its last task runs.

    Example: fairque schedule trigger acme daily-report
    """
    with open_schedules(config, url, queue) as schedules:
        pushed = schedules.trigger_now(user_id, schedule_id)
    if as_json:
        emit(user_id=user_id, schedule_id=schedule_id, task_id=pushed.task_id)
    else:
        typer.echo(f"{named(user_id, schedule_id)} has pushed task {plain(pushed.task_id)}")


@schedule.command(name="next", short_help="Show when a schedule, or any expression, fires next.")
def next_(  # noqa: PLR0917 - typer passes them by name
    user_id: Annotated[str | None, typer.Argument(metavar="USER", help="Whose it is,")] = None,
    schedule_id: Annotated[str | None, typer.Argument(metavar="ID", help="and the schedule's id.")] = None,
    number: Annotated[int, typer.Option("-n", metavar="N", help="How many times.")] = TIMES,
    expr: Annotated[
        str | None,
        typer.Option("--expr", metavar="EXPR", help="A cron expression instead; needs no server."),
    ] = None,
    timezone: Annotated[str, typer.Option("--timezone", metavar="ZONE", help="Of --expr.")] = "UTC",
    config: ConfigOption = None,
    url: UrlOption = None,
    queue: QueueOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show when a schedule fires next, without its jitter; or try an expression out.

    Example: fairque schedule next acme daily-report -n 10

    Example: fairque schedule next --expr "30 2 * * *" --timezone Europe/Berlin
    """
    if expr is not None and user_id is None:
        found = _trial(expr, timezone)
    elif expr is None and user_id is not None and schedule_id is not None:
        with open_schedules(config, url, queue) as schedules:
            found = schedules.get_schedule(user_id, schedule_id)
    else:
        raise ConfigurationError("schedule next: give USER and ID, or --expr alone")
    times = found.next_fire_times(number)
    if as_json:
        emit(user_id=user_id, schedule_id=schedule_id, timezone=found.timezone, next_fire_times=times)
        return
    for time in times:
        typer.echo(f"{local(time, found.timezone)}{away(time)}")
    if not times:
        typer.echo(f"it does not fire: it is {state_of(found)}")


def _trial(expr: str, timezone: str) -> Schedule:
    from fairque.core.models import Task  # noqa: PLC0415 - --help and --version stay fast
    from fairque.core.schedule import Schedule  # noqa: PLC0415 - the same

    return Schedule.create(expr, Task.create(), user_id="nobody", timezone=timezone)
