"""The blocking face of the scheduler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from fairque.core.calls import single
from fairque.core.schedule import Schedule
from fairque.queue.async_queue import AsyncTaskQueue
from fairque.queue.docstrings import take_docstrings
from fairque.queue.handle import TaskHandle
from fairque.queue.queue import TaskQueue
from fairque.queue.schedules import add_all, list_all
from fairque.scheduler.async_scheduler import AsyncTaskScheduler
from fairque.utils.background import Background

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from types import TracebackType

    from fairque.core.config import FairQueueConfig
    from fairque.core.models import Task
    from fairque.core.schedule import CatchUp, Overlap
    from fairque.core.units import Moment, Seconds


class TaskScheduler:
    """Adds and changes schedules, and fires them: `run()` blocks, `start()` works in the background.

    A schedule pushes a task of one user at certain times. Any number of schedulers may run for a queue,
    and none is special: whichever comes first pushes the task and moves the schedule on, in one step on
    the server.
    One that does not run can add, list and change schedules, too.

    Args:
        source: A queue, which stays open when the scheduler is closed; or what a queue is made from (a URL, a
            `FairQueueConfig`, None), and then the scheduler has one of its own to close.

    Raises:
        ConfigurationError: The source cannot be used; the message says why.
    """

    def __init__(self, source: TaskQueue | AsyncTaskQueue | FairQueueConfig | str | None = None) -> None:
        self._owned: TaskQueue | None = None
        if not isinstance(source, TaskQueue):
            source = source.config if isinstance(source, AsyncTaskQueue) else source
            self._owned = source = TaskQueue(source)
        self._queue = source
        self.config = source.config
        self._commands = source.commands
        self._background = Background(_Engine(self.config), "the scheduler", thread="fairque-scheduler")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop, and close the queue that the scheduler opened; one that it was given stays open."""
        try:
            self.stop()
        finally:
            if self._owned is not None:
                self._owned.close()

    # --- firing ---

    def run(self) -> None:
        """Fire schedules until stopped: by `stop` from another thread, or by SIGTERM or SIGINT.

        Before that, what `@task(cron=…)` and the configuration declare is put on the server. The server may
        go away and come back: the scheduler waits for it, for ever.

        Raises:
            RuntimeError: It works already.
            ScheduleValidationError: A declared schedule is wrong; the message names it.
            UnsafeServerError: The server may drop tasks.
            ConfigurationError: `FAIRQUE_EVENT_LOOP` names no event loop, or one that is not installed.
        """
        self._background.run()

    def start(self) -> None:
        """Fire schedules in a background thread until `stop`.

        Raises:
            RuntimeError: It works already.
            ConfigurationError: As for `run`.
        """
        self._background.start()

    def stop(self) -> None:
        """Fire no more. Returns when a started scheduler has ended. From any thread.

        Raises:
            Exception: What ended the background scheduler, if it was not this call.
        """
        self._background.stop()

    # --- schedules ---

    def add_schedule(
        self,
        expr: str | None = None,
        task: Task[Any] | None = None,
        *,
        every: Seconds | None = None,
        at: Moment | None = None,
        user_id: str | None = None,
        timezone: str = "UTC",
        schedule_id: str | None = None,
        catch_up: CatchUp = "latest",
        max_catch_up: int = 100,
        jitter: Seconds | None = None,
        start: Moment | None = None,
        end: Moment | None = None,
        overlap: Overlap = "allow",
        active: bool = True,
        metadata: Mapping[str, Any] | None = None,
        replace: bool = False,
    ) -> Schedule:
        """Push a task at certain times from now on. Give one of `expr`, `every` and `at`.

        One that is there already and means the same stays as it is, so this may be said at every start of a
        program that chooses a `schedule_id`.

        Args:
            expr: A cron expression of five fields, or six with the second first, or `@hourly`, `@daily`,
                `@weekly`, `@monthly`, `@yearly`.
            task: What is pushed, as `report("daily")` makes it; each time under an id of its own.
            every: Seconds or timedelta from one time to the next.
            at: Fire once, then.
            user_id: Whose task it is, if the task does not say so.
            timezone: In which the expression is read, by its name ("Europe/Berlin"). A local time that does
                not exist fires at the shift; one that comes twice fires once.
            schedule_id: 1 to 230 characters, unique within the user; made up if not given.
            catch_up: Of the times that were missed because no scheduler ran, or the server was away, make up
                for the `latest`, for `all`, or for `none`. `scheduler.misfire_grace` says what is missed.
            max_catch_up: With `all`, how many of the last ones at the most.
            jitter: Seconds by less than which it is late, differently each time, so that not all fire at
                once.
            start: The first moment at which it may fire; `every` counts from there.
            end: The last one.
            overlap: `skip` pushes nothing while the last task that it has pushed has not ended.
            active: Whether it fires; see `pause`.
            metadata: Anything of the caller's that JSON carries.
            replace: Put it in place of another one under its id.

        Raises:
            ScheduleValidationError: A value is wrong, or it would never fire; the message names it.
            ScheduleExistsError: Another one has its id, and `replace` is not given.
            EncodeError: The codec cannot carry an argument of the task.
            ServerError: The server refused or could not be reached.
        """
        schedule = Schedule.create(
            expr,
            task,
            every=every,
            at=at,
            user_id=user_id,
            timezone=timezone,
            schedule_id=schedule_id,
            catch_up=catch_up,
            max_catch_up=max_catch_up,
            jitter=jitter,
            start=start,
            end=end,
            overlap=overlap,
            active=active,
            metadata=metadata,
        )
        return self.add_schedules([schedule], replace=replace)[0]

    def add_schedules(self, schedules: Iterable[Schedule], *, replace: bool = False) -> list[Schedule]:
        """Add many schedules, made by `Schedule.create`, a hundred in a round trip. As `add_schedule`.

        Raises:
            ScheduleExistsError: As for `add_schedule`; of the hundreds before that, all are added.
        """
        return self._queue.run(add_all(self._commands, schedules, replace=replace))

    def update_schedule(self, user_id: str, schedule_id: str, **changes: Any) -> Schedule:
        """Change some settings of a schedule, by the names that `add_schedule` has for them.

        With other times it fires next when they say so, from now on; else it goes on from where it was.

        Raises:
            ScheduleNotFoundError: There is none.
            ScheduleValidationError: A name is unknown, or a value wrong.
        """
        return self._queue.run(
            self._commands.of(user_id).schedules.change(
                user_id, schedule_id, lambda schedule: schedule.changed(**changes)
            )
        )

    def remove_schedule(self, user_id: str, schedule_id: str) -> bool:
        """Forget a schedule. The tasks that it has pushed stay.

        Returns:
            Whether it was there.
        """
        return self._queue.run(single(self._commands.of(user_id).schedules.remove(user_id, schedule_id)))

    def get_schedule(self, user_id: str, schedule_id: str) -> Schedule:
        """A schedule, with what it has done so far.

        Raises:
            ScheduleNotFoundError: There is none.
        """
        return self._queue.run(self._commands.of(user_id).schedules.get(user_id, schedule_id))

    def list_schedules(
        self, *, user_id: str | None = None, active: bool | None = None, limit: int | None = None
    ) -> list[Schedule]:
        """Schedules in the order of their users and ids (with several shards, shard by shard), read in pages.

        Args:
            user_id: Only this user's.
            active: Only those that are, or are not, paused.
            limit: How many at the most; all if not given.
        """
        return self._queue.run(list_all(self._commands, user_id=user_id, active=active, limit=limit))

    def pause(self, user_id: str, schedule_id: str) -> Schedule:
        """Let a schedule not fire until `resume`. Raises as `update_schedule` does."""
        return self.update_schedule(user_id, schedule_id, active=False)

    def resume(self, user_id: str, schedule_id: str) -> Schedule:
        """Let a paused schedule fire from now on. What it would have done meanwhile is not made up for."""
        return self.update_schedule(user_id, schedule_id, active=True)

    def trigger_now(self, user_id: str, schedule_id: str) -> TaskHandle[Any]:
        """Push a schedule's task now, besides its times; also while it is paused, and the last one runs.

        Raises:
            ScheduleNotFoundError: There is none.
            QueueFullError: The user, or the queue, may not have so many waiting tasks.
        """
        receipt = self._queue.run(self._commands.of(user_id).schedules.fire_by_hand(user_id, schedule_id))
        return TaskHandle(self._queue, receipt.task, created=receipt.created)

    def next_fire_times(self, user_id: str, schedule_id: str, n: int = 1) -> list[datetime]:
        """The next `n` fire times of a schedule, without jitter; fewer where it ends before.

        Raises:
            ScheduleNotFoundError: There is none.
        """
        return self.get_schedule(user_id, schedule_id).next_fire_times(n)


class _Engine:
    """A scheduler for one run at a time: its connections belong to the event loop of that run."""

    def __init__(self, config: FairQueueConfig) -> None:
        self._config = config
        self._stop_was_asked = False
        self._running: AsyncTaskScheduler | None = None

    async def run(self) -> None:
        if self._running is not None:
            raise RuntimeError("the scheduler works already: stop() it first")
        async with AsyncTaskScheduler(self._config) as scheduler:
            self._running = scheduler
            try:
                if self._stop_was_asked:  # looked at after stop() can find it
                    scheduler.stop()
                await scheduler.run()
            finally:
                self._running, self._stop_was_asked = None, False

    def stop(self) -> None:
        self._stop_was_asked = True
        running = self._running
        if running is not None:
            running.stop()

    def forget_stop(self) -> None:
        self._stop_was_asked = False


take_docstrings(AsyncTaskScheduler, TaskScheduler)  # each method's is its blocking twin's
