"""Results that a step asks for by name: `@task(pull={"rows": "extract"})`."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import msgspec

from fairque.core.exceptions import TaskValidationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fairque.core.steps import Step

SHOWN = 10  # names in a message


def fill_pulls(order: Sequence[Step]) -> None:
    """Give each step the outputs that it pulls, as arguments, and have it wait for them.

    A name means the steps of that name that come before: one, or all that one `map` made, as a list.

    Raises:
        TaskValidationError: There is none, or several.
    """
    wanted = {name for step in order for _, name in step.task.pulls}
    if not wanted:
        return
    named: defaultdict[str, list[Step]] = defaultdict(list)
    for step in sorted(order, key=lambda step: step.place):
        if step.task.name in wanted:
            named[step.task.name].append(step)
    number = {step: n for n, step in enumerate(step for steps in named.values() for step in steps)}
    # What comes before a step, as the bits of a number. Only wanted steps have a bit, so that it stays small.
    before: dict[Step, int] = {}
    for step in order:
        bits = 0
        for other in step.upstream:
            bits |= before[other]
            if other in number:
                bits |= 1 << number[other]
        before[step] = bits
        if step.task.pulls:
            _fill(step, {name: _among(named[name], number, bits) for _, name in step.task.pulls}, order)


def _among(steps: list[Step], number: dict[Step, int], bits: int) -> list[Step]:
    digits = f"{bits:b}"[::-1]  # to shift the number for each step would cost the square of their count
    return [step for step in steps if digits[number[step] : number[step] + 1] == "1"]


def _fill(step: Step, found: dict[str, list[Step]], order: Sequence[Step]) -> None:
    filled: dict[str, Any] = {}
    for parameter, name in step.task.pulls:
        steps = found[name]
        outputs = [other.output for other in steps]
        members = steps[0].map if steps else None
        if members is not None and steps == [other for other in members if other.task.name == name]:
            filled[parameter] = outputs
        elif len(steps) == 1:
            filled[parameter] = outputs[0]
        else:
            why = _why(step, name, steps, order)
            raise TaskValidationError(
                f"step {step} pulls {parameter!r} from a step named {name!r}, but {why}"
            )
        step.upstream |= dict.fromkeys(steps)
    args, kwargs = step.task.arguments
    step.task = msgspec.structs.replace(step.task, arguments=(args, {**kwargs, **filled}))


def _why(step: Step, name: str, found: Sequence[Step], order: Sequence[Step]) -> str:
    if found:
        return (
            f"{len(found)} steps of that name come before it: {_listed(found)}: name one of them with "
            "with_options(name=…), or pass its output as an argument"
        )
    if any(other.task.name == name for other in order if other is not step):
        return "that one does not come before it: put it there with >>"
    if ancestors := _ancestors(step):
        return f"what comes before it is {_listed(sorted(ancestors, key=lambda other: other.place))}"
    return "nothing comes before it"


def _listed(steps: Sequence[Step]) -> str:
    labels = [str(step) for step in steps]
    more = f" and {len(labels) - SHOWN:,} more" if len(labels) > SHOWN else ""
    return ", ".join(labels[:SHOWN]) + more


def _ancestors(step: Step) -> dict[Step, None]:
    reached = list(step.upstream)
    seen = dict.fromkeys(reached)
    for other in reached:  # grows as it is walked
        new = [before for before in other.upstream if before not in seen]
        seen |= dict.fromkeys(new)
        reached += new
    return seen
