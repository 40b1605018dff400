"""The steps of a pipeline while it is built: in their order, with what `>>` says and the options they get."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypedDict

from fairque.core.expression import Expression, Kind, fold, joined
from fairque.core.models import Task
from fairque.core.outputs import Output

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fairque.core.header import OnUpstreamFailure, Priority
    from fairque.core.models import Dependencies
    from fairque.core.units import Moment, Seconds


class StepOptions(TypedDict, total=False):
    """The options that a pipeline takes for its steps, as in `Task.create`."""

    priority: Priority | int | None
    delay: Seconds | None
    execute_after: Moment | None
    expires_at: Moment | None
    max_retries: int | None
    timeout: Seconds | None
    group: str | None
    depends_on: Dependencies | None
    on_upstream_failure: OnUpstreamFailure | None


FOR_ENTRIES = ("delay", "execute_after", "depends_on")


@dataclass(slots=True, eq=False)
class Step:
    """A task of a pipeline that is being built."""

    task: Task[Any]
    place: int  # in the expression
    after: Sequence[Step] = ()  # what `>>` puts before it; shared with its neighbours
    map: list[Step] | None = None  # all that one `map` made, with it
    label: str = ""  # its name, told apart from others' of the same name
    upstream: dict[Step, None] = field(default_factory=dict)  # what it waits for, in here
    outside: dict[str, None] = field(default_factory=dict)  # and the ids of what else

    def __str__(self) -> str:
        return self.label

    @property
    def output(self) -> Output:
        """Its result, under the id that it is pushed with."""
        return Output(self.task.task_id)


@dataclass(slots=True)
class Ends:
    """The steps of a part that nothing comes before, and those that nothing comes after."""

    entries: list[Step]
    exits: list[Step]


def lay_out(whole: Expression) -> tuple[list[Step], Ends]:
    """The steps in the order of the expression, each with what `>>` puts before it."""
    steps: list[Step] = []

    def leaf(task: Task[Any]) -> Ends:
        step = Step(task, len(steps))
        steps.append(step)
        return Ends([step], [step])

    return steps, fold(whole, leaf, _ends)


def _ends(node: Expression, parts: list[Ends]) -> Ends:
    if node.kind is Kind.SEQUENCE:
        for before, after in pairwise(parts):
            for step in after.entries:
                step.after = before.exits
        return Ends(parts[0].entries, parts[-1].exits)
    ends = Ends(joined([part.entries for part in parts]), joined([part.exits for part in parts]))
    if node.kind is Kind.MAP:
        members = list(ends.entries)
        for step in members:
            step.map = members
    return ends


def with_step_options(steps: list[Step], ends: Ends, user_id: str | None, options: Mapping[str, Any]) -> None:
    """Give all steps the options, but those that only first steps need to these alone.

    Raises:
        TypeError: There is no such option.
        TaskValidationError: A value is out of its range.
    """
    if unknown := sorted(options.keys() - StepOptions.__optional_keys__):
        raise TypeError(
            f"a pipeline has no option {', '.join(unknown)}: it takes user_id, "
            f"{', '.join(sorted(StepOptions.__optional_keys__))}; task_id and name go to one step by its "
            "own with_options"
        )
    given = {name: value for name, value in options.items() if value is not None}
    first = {name: given.pop(name) for name in FOR_ENTRIES if name in given}
    if user_id is not None or given:
        for step in steps:
            step.task = step.task.with_options(user_id=user_id, **given)
    # An iterator could be read for the first of the steps only, so the ids are taken out once.
    more = Task.create(user_id=user_id, depends_on=first.pop("depends_on", None)).depends_on
    if first or more:
        for step in ends.entries:
            depends_on = [*step.task.depends_on, *more]
            step.task = step.task.with_options(depends_on=depends_on, **first)
