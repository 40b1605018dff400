"""`fairque user …`, `fairque pause` and `fairque resume`: shares and limits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairque.cli.options import ConfigOption, JsonOption, QueueOption, UrlOption, configuration
from fairque.cli.policies import read_changes, show_policy, sources
from fairque.cli.showing import count, emit, plain, seconds, state_of, user_row
from fairque.core.calls import single
from fairque.core.exceptions import ConfigurationError
from fairque.core.keys import DEFAULT

if TYPE_CHECKING:
    from fairque.core.records import UserStats
    from fairque.queue.queue import TaskQueue

UserArgument = Annotated[
    str, typer.Argument(metavar="USER", help="The user's id; one that begins with a dash goes after --.")
]

user = typer.Typer(
    name="user",
    help="One user's share and limits: show them, set them, pause the user. Changes hold at once, for the "
    "backlog as well.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def _open(config: Path | None, url: str | None, queue: str | None) -> AbstractContextManager[TaskQueue]:
    from fairque.queue.queue import TaskQueue  # noqa: PLC0415 - --help and --version stay fast

    return TaskQueue(configuration(config, url, queue))


# --- one user ---


@user.command(short_help="Show a user's policy, where each part comes from, and its tasks.")
def show(
    user_id: UserArgument,
    config: ConfigOption = None,
    url: UrlOption = None,
    queue: QueueOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the policy that counts for a user, where each part of it comes from, and the user's tasks.

    From: live (set by `fairque user` or in code), configuration (the user's entry in `users`), default (the
    configuration's entry for all others), or built-in.

    Example: fairque user show acme
    """
    with _open(config, url, queue) as tasks:
        layers = tasks.run(single(tasks.commands.of(user_id).policies.layers(user_id)))
        found, root = tasks.user_stats(user_id), tasks.commands.where
    if as_json:
        emit(
            queue=root,
            user_id=user_id,
            policy=layers.policy().model_dump(mode="json"),
            sources=sources(layers),
            stats=None if found is None else user_row(found),
        )
        return
    typer.echo(f"user {plain(user_id)} of {root}")
    _tell_apart_from_the_default(user_id)
    show_policy(layers)
    for line in _stats_lines(found):
        typer.echo(line)


def _stats_lines(found: UserStats | None) -> Iterator[str]:
    if found is None or not _has_tasks(found):
        yield "This user has no tasks."
        return
    yield (
        f"now     {state_of(found)}: {found.queued:,} queued · {found.started:,} running · "
        f"{found.scheduled:,} scheduled · {found.deferred:,} deferred · {found.failed:,} failed"
    )
    throttled = f" · throttled for {seconds(found.throttled_seconds)}" if found.throttled_seconds else ""
    yield (
        f"so far  {found.served:,} served, {found.stolen:,} of them stolen · "
        f"{found.worker_seconds:,.1f} worker-seconds · virtual time {found.virtual_time:,.1f}{throttled}"
    )
    if found.wait_p50 is not None:
        yield (
            f"waits   p50 {seconds(found.wait_p50)} · p95 {seconds(found.wait_p95)} · "
            f"p99 {seconds(found.wait_p99)} (tasks started in the last minutes)"
        )


def _has_tasks(found: UserStats) -> bool:
    return bool(found.live or found.served or found.failed)


@user.command(name="set", short_help="Change some parts of a user's policy, and leave the others.")
def set_(  # noqa: PLR0917 - typer passes them by name
    user_id: UserArgument,
    weight: Annotated[
        str | None,
        typer.Option(
            "--weight", metavar="W", help="Share relative to others: 2 is served twice as much as 1."
        ),
    ] = None,
    max_concurrency: Annotated[
        str | None,
        typer.Option(
            "--max-concurrency",
            metavar="N|P%|none",
            help="Tasks running at once; 50% is a share of the slots in use, which binds while others wait.",
        ),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option("--rate", metavar="R|none", help="Tasks started per second; none drops burst as well."),
    ] = None,
    burst: Annotated[
        str | None,
        typer.Option("--burst", metavar="N|none", help="Tasks that may start at once before the rate holds."),
    ] = None,
    max_queued: Annotated[
        str | None,
        typer.Option("--max-queued", metavar="N|none", help="Waiting tasks beyond which a push is refused."),
    ] = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    queue: QueueOption = None,
) -> None:
    """Change some parts of a user's policy and leave the others; `none` lifts a limit.

    What is set counts until `fairque user clear`, over whatever the configuration says.

    Example: fairque user set acme --weight 2 --max-concurrency 50% --rate none
    """
    changes = read_changes(
        {
            "weight": weight,
            "max_concurrency": max_concurrency,
            "rate": rate,
            "burst": burst,
            "max_queued": max_queued,
        }
    )
    with _open(config, url, queue) as tasks:
        _update(tasks, user_id, changes)
        _confirm(tasks, user_id, "now has this policy:")
        show_policy(tasks.run(single(tasks.commands.of(user_id).policies.layers(user_id))))


def _update(tasks: TaskQueue, user_id: str, changes: dict[str, Any]) -> None:
    try:
        tasks.update_policy(user_id, **changes)
    except ConfigurationError:
        burst = changes.get("burst")
        if burst is None:
            raise
        # Each value was checked alone, so it is this: what is stored has no rate.
        raise ConfigurationError(
            f"--burst {burst}: has no effect without a rate, and user {user_id!r} has none: give --rate too"
        ) from None


@user.command(short_help="Forget what was set: the configuration's policy counts again.")
def clear(
    user_id: UserArgument, config: ConfigOption = None, url: UrlOption = None, queue: QueueOption = None
) -> None:
    """Forget what was set for a user, a pause included: the configuration's policy counts again.

    Example: fairque user clear acme
    """
    with _open(config, url, queue) as tasks:
        tasks.clear_policy(user_id)
        _confirm(tasks, user_id, "has nothing set any more; what counts now:")
        show_policy(tasks.run(single(tasks.commands.of(user_id).policies.layers(user_id))))


@user.command(name="pause")
def pause_user(
    user_id: UserArgument, config: ConfigOption = None, url: UrlOption = None, queue: QueueOption = None
) -> None:
    """Start no more tasks of a user, say while it floods a service. It can still push; what runs goes on.

    Example: fairque user pause acme
    """
    with _open(config, url, queue) as tasks:
        tasks.pause_user(user_id)
        _confirm(
            tasks, user_id, "is paused: none of its tasks starts; what runs goes on, pushes are accepted"
        )


@user.command(name="resume")
def resume_user(
    user_id: UserArgument, config: ConfigOption = None, url: UrlOption = None, queue: QueueOption = None
) -> None:
    """Let a paused user go on, with the tasks it has pushed meanwhile.

    Example: fairque user resume acme
    """
    with _open(config, url, queue) as tasks:
        tasks.resume_user(user_id)
        _confirm(tasks, user_id, "is not paused: its tasks take their turns")
        if tasks.stats().paused:
            typer.echo("The whole queue is paused, though: fairque resume lets it go on.")


def _confirm(tasks: TaskQueue, user_id: str, what: str) -> None:
    found = tasks.user_stats(user_id)
    known = found is not None and _has_tasks(found)
    typer.echo(f"user {plain(user_id)} {'' if known else '(who has no tasks) '}{what}")
    _tell_apart_from_the_default(user_id)


def _tell_apart_from_the_default(user_id: str) -> None:
    if user_id == DEFAULT:
        typer.echo(
            f"This is the user called {DEFAULT!r}, nobody else: what holds for all users is the entry "
            f"{DEFAULT} in the configuration's section users."
        )


# --- the whole queue ---


def pause(config: ConfigOption = None, url: UrlOption = None, queue: QueueOption = None) -> None:
    """Start no more tasks of anybody, say during a migration. Pushes are accepted; what runs goes on.

    Example: fairque pause --url redis://localhost:6379/0
    """
    with _open(config, url, queue) as tasks:
        tasks.pause()
        running = tasks.stats().started
        typer.echo(
            f"{tasks.commands.where} is paused: nothing starts, pushes are accepted; "
            f"{count(running, 'running task')} will go on to the end"
        )


def resume(config: ConfigOption = None, url: UrlOption = None, queue: QueueOption = None) -> None:
    """Let a paused queue go on. Users that are paused by themselves stay so.

    Example: fairque resume --url redis://localhost:6379/0
    """
    with _open(config, url, queue) as tasks:
        tasks.resume()
        numbers = tasks.stats()
        typer.echo(
            f"{tasks.commands.where} is not paused: {count(numbers.queued, 'task')} queued, "
            f"{count(numbers.ready_users, 'user')} ready"
        )
