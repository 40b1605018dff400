"""`fairque stats`, `fairque users` and `fairque explain`: looking at a queue."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from fairque.cli.options import ConfigOption, JsonOption, QueueOption, UrlOption, configuration
from fairque.cli.showing import count, emit, plain, print_users, seconds, user_row

if TYPE_CHECKING:
    from fairque.core.records import Explanation, QueueStats, UserStats

TOP_USERS, PAGE = 20, 50
LIMITS = {
    "queue_paused": "the queue is paused; fairque resume lets it go on",
    "paused": "its user is paused; fairque user resume lets it go on",
    "max_concurrency": "max_concurrency of its user; fairque user show tells the policy",
    "rate": "rate of its user; fairque user show tells the policy",
    "share": "max_concurrency of its user, as a share of the slots; fairque user show tells the policy",
}


def stats(
    config: ConfigOption = None, url: UrlOption = None, queue: QueueOption = None, as_json: JsonOption = False
) -> None:
    """Show how many tasks are where, whether users are served fairly, and whose the tasks are.

    Jain's index is 1 where all users with work were served alike in the last minute, by their weights; the
    spread of virtual time is how far behind the first one is the last at most.

    Example: fairque stats --url redis://localhost:6379/0 --json
    """
    from fairque.queue.queue import TaskQueue  # noqa: PLC0415 - --help and --version stay fast

    with TaskQueue(configuration(config, url, queue)) as tasks:
        numbers, found, root = tasks.stats(), tasks.users(TOP_USERS), tasks.commands.where
    if as_json:
        import msgspec  # noqa: PLC0415

        emit(queue=root, **msgspec.to_builtins(numbers), top_users=[user_row(user) for user in found])
        return
    for line in _stats_lines(root, numbers):
        typer.echo(line)
    if found:
        print_users((user, _turns(user)) for user in found)
    _tell_of_more(numbers.users, TOP_USERS, "fairque users")


def _stats_lines(root: str, numbers: QueueStats) -> Iterator[str]:
    yield (
        f"{root}  {numbers.queued:,} queued · {numbers.scheduled:,} scheduled · "
        f"{numbers.deferred:,} deferred · {numbers.started:,} started · {numbers.finished:,} finished · "
        f"{numbers.failed:,} failed · {numbers.canceled:,} canceled · {count(numbers.workers, 'worker')}"
    )
    stolen = numbers.totals.get("stolen", 0)
    jain = "nothing was served lately" if numbers.jain_index is None else f"{numbers.jain_index:.3f}"
    yield (
        f"{count(numbers.users, 'user')}: {numbers.ready_users:,} ready, "
        f"{numbers.throttled_users:,} throttled · {count(numbers.started, 'slot')} in use · "
        f"{stolen:,} stolen · Jain index: {jain} · virtual time spread: {numbers.virtual_time_spread:,.1f}"
    )
    yield from _paused(numbers)


def _paused(numbers: QueueStats) -> Iterator[str]:
    if numbers.paused:
        yield "The queue is paused and starts nothing: fairque resume lets it go on."


def _tell_of_more(known: int, seen: int, how: str) -> None:
    if known > seen:
        typer.echo(f"… and {count(known - seen, 'more user')}: {how} --offset {seen}")


def users(  # noqa: PLR0917 - typer passes them by name
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="Users to show, 1 to 1,000.")] = PAGE,
    offset: Annotated[int, typer.Option("--offset", metavar="N", help="Users to skip.")] = 0,
    config: ConfigOption = None,
    url: UrlOption = None,
    queue: QueueOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the users one by one: what waits, what was served, how long it waited, what holds them back.

    Those with live tasks come first. State: eligible (may start something), paused, throttled (by its rate),
    at its limit (max_concurrency), running or idle (nothing is ready). Waits are those of the last minutes.

    Example: fairque users --limit 20 --offset 40
    """
    from fairque.queue.queue import TaskQueue  # noqa: PLC0415 - --help and --version stay fast

    with TaskQueue(configuration(config, url, queue)) as tasks:
        found, numbers, root = tasks.users(limit, offset), tasks.stats(), tasks.commands.where
    seen = offset + limit
    if as_json:
        emit(
            queue=root,
            paused=numbers.paused,
            known_users=numbers.users,
            next_offset=seen if numbers.users > seen else None,
            users=[user_row(user) for user in found],
        )
        return
    for line in _paused(numbers):
        typer.echo(line)
    if found:
        print_users((user, _service(user)) for user in found)
    else:
        typer.echo(f"{root} knows no users" + (f" after the first {offset:,}" if offset else ""))
    _tell_of_more(numbers.users, seen, "fairque users" + ("" if limit == PAGE else f" --limit {limit}"))


def _tasks(user: UserStats) -> dict[str, str]:
    return {
        "queued": f"{user.queued:,}",
        "running": f"{user.started:,}",
        "scheduled": f"{user.scheduled:,}",
        "deferred": f"{user.deferred:,}",
        "failed": f"{user.failed:,}",
        "weight": f"{user.weight:g}",
        "served": f"{user.served:,}",
    }


def _turns(user: UserStats) -> dict[str, str]:
    return _tasks(user) | {"stolen": f"{user.stolen:,}", "virtual time": f"{user.virtual_time:,.1f}"}


def _service(user: UserStats) -> dict[str, str]:
    return _tasks(user) | {
        "worker\nseconds": f"{user.worker_seconds:,.1f}",
        "wait\np50": seconds(user.wait_p50),
        "wait\np95": seconds(user.wait_p95),
        "wait\np99": seconds(user.wait_p99),
        "throttled": seconds(user.throttled_seconds or None),
    }


def explain(  # noqa: PLR0917 - typer passes them by name
    user_id: Annotated[
        str,
        typer.Argument(metavar="USER", help="Whose task it is; one that begins with a dash goes after --."),
    ],
    task_id: Annotated[str, typer.Argument(metavar="ID", help="The task's id; the same.")],
    config: ConfigOption = None,
    url: UrlOption = None,
    queue: QueueOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell why a task is not running yet: who is ahead, what holds its user back, when it may start.

    Example: fairque explain acme 0198c7d2-4a51-7c3e-9f20-1b2c3d4e5f60
    """
    from fairque.queue.queue import TaskQueue  # noqa: PLC0415 - --help and --version stay fast

    with TaskQueue(configuration(config, url, queue)) as tasks:
        found = tasks.explain(user_id, task_id)
    if as_json:
        import msgspec  # noqa: PLC0415

        emit(**msgspec.to_builtins(found))
        return
    typer.echo(f"task {plain(task_id)} of user {plain(user_id)}: {found.state}")
    for name, text in _explanation(found):
        typer.echo(f"  {name:<12}{text}")


def _explanation(found: Explanation) -> Iterator[tuple[str, str]]:
    """What there is to say, by name; nothing of what is absent."""
    yield "why", plain(found.reason)
    if found.ahead:
        more = ", …" if found.ahead > len(found.ahead_ids) else ""
        yield "ahead", f"{count(found.ahead, 'task')}: {', '.join(map(plain, found.ahead_ids))}{more}"
    if found.group is not None:
        turn = f", with {count(found.groups_ahead, 'group')} before it" if found.groups_ahead else ""
        yield "group", plain(found.group) + turn
    if found.users_ahead is not None:
        yield "users ahead", f"{found.users_ahead:,} of {found.ready_users:,} ready"
    if found.limit is not None:
        yield "limit", LIMITS.get(found.limit, found.limit)
    if found.until is not None:
        yield "until", _when(found.until)
    if found.waits_for:
        yield "waits for", ", ".join(map(plain, found.waits_for))
    if found.estimated_start is not None:
        yield "may start", _when(found.estimated_start)


def _when(moment: datetime) -> str:
    """The local time, and how far away it is."""
    local = moment.astimezone()
    away = (moment - datetime.now(UTC)).total_seconds()
    today = local.date() == datetime.now(UTC).astimezone().date()
    clock = f"{local:%H:%M:%S}" if today else f"{local:%Y-%m-%d %H:%M:%S}"
    return f"{clock}, {f'in {seconds(round(away))}' if away >= 1 else 'now'}"
