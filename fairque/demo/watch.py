"""One run of the demo: push all files, and look what becomes of them."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from fairque.core.models import TaskState
from fairque.demo.report import TaskTimes
from fairque.demo.tasks import FileMeasure, measure_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fairque.demo.files import SourceFile
    from fairque.queue.handle import TaskHandle
    from fairque.queue.queue import TaskQueue


class Tracked:
    """A pushed file: whose it is, the handle on its task, and what is known of the task so far."""

    def __init__(self, owner: str, handle: TaskHandle[FileMeasure]) -> None:
        self.owner = owner
        self.handle = handle
        self.times: TaskTimes | None = None  # from its start on

    @property
    def is_ended(self) -> bool:
        return self.times is not None and self.times.finished_at is not None

    def look(self) -> None:
        """Ask the server for the task's times."""
        task = self.handle.info()
        if task.run.queued_at is None or task.run.started_at is None or task.state is TaskState.QUEUED:
            self.times = None
            return
        self.times = TaskTimes(
            self.owner,
            task.run.queued_at,
            task.run.started_at,
            task.run.finished_at if task.state is not None and task.state.is_terminal else None,
            error=(task.error or "failed") if task.state is TaskState.FAILED else None,
        )


class Run:
    """All files through the queue, once.

    Args:
        queue: The queue; its workers are running.
        files: The files, in the order they are pushed in.
        queue_user: Which user of the queue a file's owner is in this run.
    """

    def __init__(
        self, queue: TaskQueue, files: Sequence[SourceFile], queue_user: Callable[[str], str]
    ) -> None:
        self._queue = queue
        tasks = [measure_file(file.path).with_options(user_id=queue_user(file.user)) for file in files]
        handles = queue.push_batch(tasks)
        self.tracked = [Tracked(file.user, handle) for file, handle in zip(files, handles, strict=True)]
        self._lanes: dict[str, list[Tracked]] = defaultdict(list)
        for tracked in self.tracked:
            self._lanes[tracked.handle.user_id].append(tracked)
        self._open = dict.fromkeys(self.tracked)  # not yet seen ended, in the order they were pushed in

    def look(self) -> None:
        """Learn the times of what has started since the last look, and of what was running then.

        A user's tasks start in the order they were pushed in. So the number still queued, one call for all
        users, tells which tasks have news; those that wait cost nothing, and both runs cost the same.
        """
        queued = {user.user_id: user.queued for user in self._queue.users(limit=1000)}
        gone = {
            tracked
            for user, lane in self._lanes.items()
            for tracked in lane[: len(lane) - queued.get(user, 0)]
        }
        for tracked in [tracked for tracked in self._open if tracked in gone]:
            tracked.look()
            if tracked.is_ended:
                del self._open[tracked]

    @property
    def is_done(self) -> bool:
        return not self._open

    @property
    def times(self) -> list[TaskTimes]:
        """Of the tasks that have started, as of the last look."""
        return [tracked.times for tracked in self.tracked if tracked.times is not None]

    def results(self) -> list[FileMeasure]:
        """The results of the tasks that finished."""
        return [
            tracked.handle.result(timeout=10)
            for tracked in self.tracked
            if tracked.times is not None and tracked.times.error is None
        ]
