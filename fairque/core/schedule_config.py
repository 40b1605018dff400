"""Schedules that a configuration declares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AwareDatetime, Field

from fairque.core.keys import ID_LIMIT
from fairque.core.strict import PositiveSeconds, StrictModel

if TYPE_CHECKING:
    from fairque.core.schedule import Schedule

Text = Annotated[str, Field(min_length=1, max_length=ID_LIMIT)]


class ScheduleConfig(StrictModel):
    """A schedule, and the task that it pushes. What is left out is as for `TaskScheduler.add_schedule`."""

    shows_values: ClassVar[bool] = True

    user_id: Text = Field(description="Whose task it is.")
    task: Text | None = Field(
        None, description="The registered name of its function; without one a handler gets `payload`."
    )
    args: list[Any] = Field(default_factory=list, description="Its arguments by position,")
    kwargs: dict[str, Any] = Field(default_factory=dict, description="and by name.")
    payload: Any = Field(None, description="What a handler gets.")
    cron: str | None = Field(None, description="A cron expression. Give one of cron, every, at.")
    every: PositiveSeconds | None = Field(None, description="Seconds from one time to the next.")
    at: AwareDatetime | None = Field(None, description="The only time.")
    timezone: str = Field("UTC", description="In which cron is read.")
    start: AwareDatetime | None = Field(None, description="The first moment at which it may fire.")
    end: AwareDatetime | None = Field(None, description="The last one.")
    jitter: PositiveSeconds | None = Field(None, description="Seconds by less than which it may be late.")
    catch_up: Literal["latest", "all", "none"] = Field(
        "latest", description="Which missed times it makes up for."
    )
    max_catch_up: int = Field(100, ge=1, le=10_000, description="How many at the most, with all.")
    overlap: Literal["allow", "skip"] = Field(
        "allow", description="skip pushes nothing while the last task has not ended."
    )
    active: bool = Field(True, description="Whether it fires, until it is paused or resumed.")
    priority: int | None = Field(
        None, ge=1, le=6, description="Of its tasks, from 1 (very low) to 6 (critical)."
    )
    max_retries: int | None = Field(None, ge=0, description="Of its tasks.")
    timeout: PositiveSeconds | None = Field(None, description="Seconds that an attempt may take.")
    group: Text | None = Field(None, description="The part of the user's work that its tasks belong to.")
    metadata: dict[str, Any] = Field(default_factory=dict, description="Anything of your own.")

    def schedule(self, schedule_id: str) -> Schedule:
        """The schedule, under this id.

        Raises:
            ScheduleValidationError: A value is wrong; the message names it.
        """
        from fairque.core.models import task_by_name  # noqa: PLC0415 - a configuration alone needs no tasks
        from fairque.core.schedule import Schedule  # noqa: PLC0415 - nor schedules

        options = self.model_dump(include={"priority", "max_retries", "timeout", "group"}, exclude_none=True)
        task = task_by_name(self.task, self.args, self.kwargs, self.payload, **options)
        times = self.model_dump(include={"every", "at", "timezone", "start", "end", "jitter"})
        rest = self.model_dump(
            include={"catch_up", "max_catch_up", "overlap", "active", "metadata", "user_id"}
        )
        return Schedule.create(self.cron, task, schedule_id=schedule_id, origin="config", **times, **rest)
