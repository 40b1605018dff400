"""Operations on tasks that depend on each other, as values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fairque.core.exceptions import DecodeError, ResultExpiredError, TaskStateError, TaskValidationError
from fairque.core.keys import escape, member
from fairque.core.models import MOST_DEPENDENCIES, Task, TaskState, dependency_ids, listed
from fairque.queue import replies
from fairque.queue.base import Commands
from fairque.queue.batches import CHUNK, CHUNK_EDGES
from fairque.queue.checks import Missing, check_missing, graph_limit, member_of
from fairque.queue.graphs import ENOUGH_IDS, dead_end, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fairque.core.calls import Call, Flow
    from fairque.core.models import Dependencies, Dependency
    from fairque.core.task_graph import TaskGraph

LOOKED_AT = 500  # tasks of one script that looks
INPUT_BYTES = 4 * 1024 * 1024  # of results in one reply, but for the last


class GraphCommands(Commands):
    """The operations on graphs of tasks, and on many tasks of a user at once."""

    def add_dependency(
        self,
        user_id: str,
        task_id: str,
        depends_on: Dependencies | Dependency,
        missing: Missing | None = None,
    ) -> Flow[TaskState]:
        """Make a task that has not started wait for others too: its state now."""
        name = member_of(user_id, task_id)
        ids = dependency_ids(listed(depends_on), user_id)
        state: TaskState | None = None
        for start in range(0, len(ids), CHUNK_EDGES):
            options = self._options(**self._ending, missing=check_missing(missing))
            args = (options, name, *map(escape, ids[start : start + CHUNK_EDGES]))
            now, is_added = yield self._call("depend", args, replies.read_depended)
            if not is_added:
                raise TaskStateError(
                    user_id, task_id, f"is {now.value}: only one that has not started can depend on more"
                )
            state = now
        if state is None:
            raise TaskValidationError("depends_on names no task: give one or several tasks, or their ids")
        return state

    def dead_end(self, user_id: str, task_ids: Sequence[str]) -> Flow[str | None]:
        """The id of an ended task without which one of these can never start; None if all may."""
        return dead_end(user_id, task_ids, self._look(limit=MOST_DEPENDENCIES, upstream=True))

    def graph(self, user_id: str, task_id: str, limit: int = 10_000) -> Flow[TaskGraph]:
        """All tasks that hang together with one."""
        member_of(user_id, task_id)  # checked first
        return walk(user_id, task_id, limit, self._look(limit=graph_limit(limit) + 1))

    def _look(self, **options: Any) -> Callable[[Sequence[str]], Call[Any]]:
        """What makes the call that looks at some members."""
        encoded = self._options(enough=ENOUGH_IDS, **options)
        return lambda names: self._call("graph", (encoded, *names), list)

    def states(self, user_id: str, task_ids: Sequence[str]) -> Flow[list[TaskState | None]]:
        """Where tasks are; None for one that is not known."""
        found: list[TaskState | None] = []
        for start in range(0, len(task_ids), LOOKED_AT):
            names = [member_of(user_id, task_id) for task_id in task_ids[start : start + LOOKED_AT]]
            found += yield self._call("states", (b"{}", *names), replies.read_states)
        return found

    def results(
        self, user_id: str, task_ids: Sequence[str]
    ) -> Flow[dict[str, tuple[TaskState | None, bytes | None]]]:
        """State and encoded result of each task; None for a state that is not known, and for no result."""
        results: dict[str, tuple[TaskState | None, bytes | None]] = {}
        ids = list(dict.fromkeys(task_ids))
        options = self._options(bytes=INPUT_BYTES)
        while len(results) < len(ids):
            asked = ids[len(results) : len(results) + LOOKED_AT]
            names = [member(user_id, task_id) for task_id in asked]
            found = yield self._call("results", (options, *names), replies.read_results)
            results |= dict(zip(asked, found, strict=False))
        return results

    def inputs(self, task: Task[Any]) -> Flow[Task[Any]]:
        """A popped task with the results that its arguments name; None for that of a task without one."""
        user_id = task.user_id or ""
        found = yield from self.results(user_id, task.inputs())
        results: dict[str, Any] = {}
        for task_id, (state, data) in found.items():
            if data is None and state in {None, TaskState.FINISHED}:
                raise ResultExpiredError(user_id, task_id)
            try:
                results[task_id] = None if data is None else self.decode_result(data, Any)
            except DecodeError as error:
                raise DecodeError(f"the result of task {task_id!r} cannot be an argument: {error}") from error
        return task.with_inputs(results.__getitem__)

    def cancel_all(self, user_id: str, task_ids: Sequence[str]) -> Flow[int]:
        """Cancel tasks in this order: how many of them are canceled now."""
        canceled = 0
        for start in range(0, len(task_ids), CHUNK):
            names = [member_of(user_id, task_id) for task_id in task_ids[start : start + CHUNK]]
            states = yield self._cancel_call(names, cascade=False)
            canceled += states.count(TaskState.CANCELED)
        return canceled

    def _cancel_call(self, names: Sequence[str], *, cascade: bool) -> Call[list[TaskState | None]]:
        options = self._options(**self._ending, cascade=True) if cascade else self._ending_options
        return self._call("cancel", (options, *names), replies.read_states)
