"""The settings of single processes: workers and schedulers."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, field_validator, model_validator

from fairque.core.exceptions import TaskValidationError
from fairque.core.keys import ID_LIMIT
from fairque.core.schedule_config import ScheduleConfig  # noqa: TC001 - pydantic reads it
from fairque.core.strict import Seconds, StrictModel, refuse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fairque.core.schedule import Schedule

Id = Annotated[str, Field(min_length=1, max_length=ID_LIMIT)]


def user_ids(value: object) -> object:
    """Check a list of user ids, none of them twice."""
    if not isinstance(value, list):
        raise ValueError("must be a list of user ids")  # noqa: TRY004 - pydantic collects ValueErrors
    for user in value:
        if not isinstance(user, str):
            raise ValueError(f"user id {user!r} must be text: put it in quotes")  # noqa: TRY004 - the same
        if not 1 <= len(user) <= ID_LIMIT:
            raise ValueError(f"a user id has 1 to {ID_LIMIT} characters, this one has {len(user)}")
        if any("\ud800" <= sign <= "\udfff" for sign in user):
            raise ValueError(f"user id {user!r} is not valid unicode (a lone surrogate)")
    twice = [user for user, count in Counter(value).items() if count > 1]
    if twice:
        raise ValueError(f"listed twice: {', '.join(map(repr, twice))}")
    return value


def _user_ids_or_all(value: object) -> object:
    if isinstance(value, str) and value != "*":
        raise ValueError('must be a list of user ids, or "*" for all')
    return value if value == "*" else user_ids(value)


class WorkerConfig(StrictModel):
    """One worker process: whom it serves, and how much at a time."""

    id: Id | None = Field(None, description="Name of the process; unset lets the worker generate one.")
    assigned_users: Annotated[list[str], BeforeValidator(user_ids)] = Field(
        default_factory=list, description="Users served first; none assigned means all users alike."
    )
    steal_targets: Annotated[list[str] | Literal["*"], BeforeValidator(_user_ids_or_all)] = Field(
        default_factory=list, description='Users served when no assigned user has ready tasks; "*" is all.'
    )
    concurrency: int = Field(10, ge=1, description="Tasks run at the same time.")
    executor: Literal["thread", "process"] = Field(
        "thread",
        description="Where plain functions run that do not say it themselves; a process can be killed.",
    )
    graceful_shutdown_timeout: Seconds = Field(
        30.0,
        description="Seconds in which a stopped worker is gone; unfinished tasks are handed back before.",
    )
    processes: int | None = Field(
        None,
        ge=1,
        description="Processes that `fairque worker` starts and replaces; unset, it is the worker itself.",
    )
    max_tasks: int | None = Field(
        None, ge=1, description="Tasks after which a process ends, to be replaced by a fresh one."
    )
    max_memory_mb: int | None = Field(
        None, ge=1, description="Resident MiB above which a process ends when its tasks have."
    )

    @model_validator(mode="after")
    def _nobody_is_assigned_and_stolen_from(self) -> Self:
        both = [
            user for user in self.assigned_users if user in self.steal_targets and self.steal_targets != "*"
        ]
        if both:
            names = ", ".join(map(repr, both))
            raise ValueError(f"assigned_users and steal_targets both list {names}: leave each in one of them")
        return self


class SchedulerConfig(StrictModel):
    """A scheduler process, and the schedules that it declares."""

    id: Id | None = Field(
        None, description="Name of the process, for its log; unset, host and process id make one."
    )
    misfire_grace: Seconds = Field(
        1.0,
        description="Seconds by which a schedule may be late before its time counts as missed (catch_up).",
    )
    schedules: dict[Id, ScheduleConfig] = Field(default_factory=dict, description="Schedules by their ids.")

    @field_validator("schedules")
    @classmethod
    def _that_can_fire(cls, schedules: dict[str, ScheduleConfig]) -> dict[str, ScheduleConfig]:
        refuse(problem for name, given in schedules.items() for problem in _problems(name, given))
        return schedules

    def declared(self) -> list[Schedule]:
        """The schedules."""
        return [given.schedule(name) for name, given in self.schedules.items()]


def _problems(name: str, given: ScheduleConfig) -> Iterator[str]:
    try:
        given.schedule(name)
    except TaskValidationError as error:
        yield f"{name}: {error}"


Process = TypeVar("Process", WorkerConfig, SchedulerConfig)


def named(process: Process, name: str) -> Process:
    """The process with an id: its own, else `name`."""
    return process if process.id else process.model_copy(update={"id": name})


def shared_by_mistake(workers: dict[str, WorkerConfig]) -> Iterator[str]:
    """What two workers must not share: an assigned user, an id."""
    owners: dict[str, str] = {}
    ids: dict[str | None, str] = {}
    for name, worker in workers.items():
        for user in worker.assigned_users:
            if owners.setdefault(user, name) != name:
                yield f"user {user!r} is assigned to both {owners[user]!r} and {name!r}"
        if ids.setdefault(worker.id, name) != name:
            yield f"{ids[worker.id]!r} and {name!r} have the same id {worker.id!r}"
