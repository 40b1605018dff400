"""From a pipeline's expression to the tasks that are pushed: their ids, their order, what each waits for."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from fairque.core.exceptions import TaskValidationError
from fairque.core.expression import step_name
from fairque.core.graph import Graph
from fairque.core.models import MOST_DEPENDENCIES
from fairque.core.outputs import Output
from fairque.core.pulls import fill_pulls
from fairque.core.steps import Step, lay_out, with_step_options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fairque.core.expression import Expression
    from fairque.core.models import Task


@dataclass(frozen=True, slots=True)
class BuiltPipeline:
    """The tasks of a pipeline, ready to be pushed.

    Attributes:
        pipeline_id: The id that all of them carry in their header.
        tasks: All, each after what it depends on. `depends_on` is complete and `pulls` empty.
        results: The last steps, in order: their results are the pipeline's.
        returns_list: Whether its result is the list of theirs, even of one, and not that of the only one.
        names: The tasks of each name, in the order in which the expression names them.
    """

    pipeline_id: str
    tasks: tuple[Task[Any], ...]
    results: tuple[Task[Any], ...]
    returns_list: bool
    names: dict[str, list[Task[Any]]]


def build(
    whole: Expression,
    pipeline_id: str,
    ids: Sequence[str],
    user_id: str | None,
    options: Mapping[str, Any],
) -> BuiltPipeline:
    """See `Pipeline.build`; `ids` has one for each step."""
    steps, ends = lay_out(whole)
    with_step_options(steps, ends, user_id, options)
    _label(steps)
    places = defaultdict[str, list[Step]](list)
    for step in steps:
        places[step.task.task_id].append(step)
    _identify(steps, pipeline_id, ids)
    for step in steps:
        _connect(step, places)
    order = _order(steps)
    fill_pulls(order)
    for step in steps:
        _settle(step)
    names: defaultdict[str, list[Task[Any]]] = defaultdict(list)
    for step in steps:
        if step.task.name is not None:
            names[step.task.name].append(step.task)
    return BuiltPipeline(
        pipeline_id,
        tuple(step.task for step in order),
        tuple(step.task for step in ends.exits),
        whole.ends_parallel,
        dict(names),
    )


def _label(steps: list[Step]) -> None:
    count = Counter(step_name(step.task) for step in steps)
    seen = Counter[str]()
    for step in steps:
        name = step_name(step.task)
        seen[name] += 1
        step.label = name if count[name] == 1 else f"{name} #{seen[name]}"


def _identify(steps: list[Step], pipeline_id: str, ids: Sequence[str]) -> None:
    """Give each step its new id, the pipeline's, and the user that the others have."""
    users = sorted({step.task.user_id for step in steps if step.task.user_id is not None})
    if len(users) > 1:
        raise TaskValidationError(
            f"steps of one pipeline are of users {', '.join(map(repr, users[:5]))}: all must be of the same, "
            "for dependencies stay within one user"
        )
    user_id = users[0] if users else None
    taken: dict[str, Step] = {}
    for step, new in zip(steps, ids, strict=True):
        task = step.task
        task_id = task.task_id if task.has_own_id else new
        if task_id in taken:
            raise TaskValidationError(
                f"steps {taken[task_id]} and {step} have the same id {task_id!r}: give another one, or leave "
                "task_id out for the second"
            )
        taken[task_id] = step
        header = msgspec.structs.replace(task.header, pipeline=pipeline_id)
        step.task = msgspec.structs.replace(task, task_id=task_id, user_id=user_id, header=header)


def _connect(step: Step, places: Mapping[str, list[Step]]) -> None:
    """Find what a step waits for, and name it by the new ids."""
    step.upstream = dict.fromkeys(step.after)

    def connect(task_id: str, what: str) -> str:
        known = places.get(task_id)
        if known is None:
            step.outside[task_id] = None
            return task_id
        if len(known) > 1:
            raise TaskValidationError(
                f"step {step} {what} step {step_name(known[0].task)}, which stands {len(known)} times in "
                "this pipeline: call the function once for each place, and take the one that is meant"
            )
        step.upstream[known[0]] = None
        return known[0].task.task_id

    task = step.task
    for task_id in task.depends_on:
        connect(task_id, "depends on")
    if task.body is None or task.header.inputs:
        step.task = task.with_inputs(lambda task_id: Output(connect(task_id, "uses the output of")))


def _order(steps: list[Step]) -> list[Step]:
    graph = Graph[Step]()
    for step in steps:  # so that steps which need no other order keep that of the expression
        graph.add(step)
    graph.depend_all((step, before) for step in steps for before in step.upstream)
    return graph.order()


def _settle(step: Step) -> None:
    """Write down what a step waits for."""
    ids = {before.task.task_id: None for before in step.upstream} | step.outside
    if len(ids) > MOST_DEPENDENCIES:
        raise TaskValidationError(
            f"step {step} would wait for {len(ids):,} tasks, the limit is {MOST_DEPENDENCIES:,}: put "
            "steps in between that join some of them each"
        )
    step.task = msgspec.structs.replace(step.task, depends_on=tuple(ids), pulls=())
