"""Pipelines: tasks in an order, as an expression: `extract() >> (transform() | validate()) >> load()`."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from fairque.core.composable import Composable
from fairque.core.exceptions import TaskValidationError
from fairque.core.expression import Expression, Kind, entry_count, exit_count, fold, last_tasks
from fairque.core.forks import Lock
from fairque.core.function import TaskFunction
from fairque.core.ids import new_id
from fairque.core.models import Task
from fairque.core.pipeline_build import build
from fairque.core.steps import lay_out, with_step_options

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Unpack

    from fairque.core.expression import Part
    from fairque.core.pipeline_build import BuiltPipeline
    from fairque.core.steps import StepOptions

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")

MOST_EDGES = 100_000  # between two neighbours of a sequence

_lock = Lock()


class Pipeline(Expression, Composable[R_co]):
    """Tasks in an order; pushing it runs them, and its result is that of its last step. Immutable.

    Made by the operators `>>`, `<<` and `|` on tasks, pipelines and lists of them, by `sequential`,
    `parallel` and a task function's `map`. In `a >> b` each first step of b waits for every last step of a.

    Pushing the same pipeline again adds nothing, as with a task. Composed anew, of the same steps, it is
    another pipeline, whose tasks have other ids; only a step that was given its id by
    `with_options(task_id=…)` keeps it. A copy and a pickled pipeline are still the same pipeline.
    """

    __slots__ = ("_identity",)

    _identity: tuple[str, tuple[str, ...]] | None

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name}: a pipeline cannot be changed: with_options makes another one")

    def with_options(self, *, user_id: str | None = None, **options: Unpack[StepOptions]) -> Pipeline[R_co]:
        """Another pipeline, every step of which has these options.

        Parameters as in `Task.create`. `delay`, `execute_after` and `depends_on` go to its first steps only,
        since all others wait for these; `depends_on` adds to what a step has already.

        Raises:
            TaskValidationError: A value is out of its range.
            TypeError: There is no such option; `task_id` and `name` belong to one step.
        """
        steps, ends = lay_out(self)
        with_step_options(steps, ends, user_id, options)
        changed = iter(steps)
        return fold(self, lambda _: next(changed).task, lambda node, parts: compose(node.kind, parts))  # type: ignore[arg-type, return-value]

    @property
    def output(self) -> R_co:
        """Its result, as an argument of a step of the same pipeline: `m = f.map(x); m >> g(m.output)`.

        The output of its last step, or the list of them if it ends in several side by side.
        """
        outputs = [task.output for task in last_tasks(self)]
        return outputs if self.ends_parallel else outputs[0]  # type: ignore[return-value]

    @property
    def pipeline_id(self) -> str:
        """The id that all its steps carry, which tells its tasks from others; made once."""
        return self._ids()[0]

    def build(self, user_id: str | None = None, **options: Unpack[StepOptions]) -> BuiltPipeline:
        """The tasks to push, in an order in which each comes after what it depends on.

        Every build of the same pipeline gives the same ids. `user_id` and options as in `with_options`.

        Raises:
            DependencyCycleError: Steps wait for each other: an output is used before its step.
            TaskValidationError: A step that an output or `pull` names is missing or not a single one, an id
                is given twice, steps are of several users, or an option is out of its range.
            TypeError: There is no such option.
        """
        return build(self, *self._ids(), user_id, options)

    def _ids(self) -> tuple[str, tuple[str, ...]]:
        """The pipeline's id and one for each step: made when asked for, as most pipelines are only parts."""
        with _lock:  # two threads that push it must push the same
            if self._identity is None:
                _identify(self, (new_id(), tuple(new_id() for _ in range(self.size))))
            return self._identity  # type: ignore[return-value]  # set above

    def __reduce__(self) -> tuple[Any, ...]:
        # Flat, for pickle calls itself at each level of a tree; and with its ids, which make it the same.
        program: list[Task[Any] | tuple[Kind, int]] = []
        fold(self, program.append, lambda node, parts: program.append((node.kind, len(parts))))
        return _restored, (program, self._ids())


class Parallel(Pipeline[list[R]], Generic[R]):
    """A pipeline that ends in several steps side by side: its result is the list of theirs, in order."""

    __slots__ = ()

    if TYPE_CHECKING:
        # The operators join the results of its last steps to others, not the list of these. So does no
        # other pipeline whose result is a list, hence a class of its own.

        def __rrshift__(self, other: Sequence[object]) -> Parallel[R]: ...
        def __lshift__(
            self, other: Composable[Any] | Sequence[Composable[Any] | Sequence[Any]]
        ) -> Parallel[R]: ...
        @overload  # type: ignore[override]
        def __or__(self, other: Parallel[S]) -> Parallel[R | S]: ...
        @overload
        def __or__(self, other: Composable[S]) -> Parallel[R | S]: ...
        @overload
        def __or__(self, other: Sequence[Parallel[S]]) -> Parallel[R | S]: ...
        @overload
        def __or__(self, other: Sequence[Composable[S] | Sequence[Composable[S]]]) -> Parallel[R | S]: ...
        def __or__(self, other: Any) -> Any: ...
        @overload  # type: ignore[override]
        def __ror__(self, other: Sequence[Parallel[S]]) -> Parallel[S | R]: ...
        @overload
        def __ror__(self, other: Sequence[Composable[S] | Sequence[Composable[S]]]) -> Parallel[S | R]: ...
        def __ror__(self, other: Any) -> Any: ...
        def with_options(
            self, *, user_id: str | None = None, **options: Unpack[StepOptions]
        ) -> Parallel[R]: ...


@overload
def sequential(*steps: *tuple[*tuple[Any, ...], Parallel[S]]) -> Parallel[S]: ...
@overload
def sequential(*steps: *tuple[*tuple[Any, ...], Composable[S]]) -> Pipeline[S]: ...
@overload
def sequential(*steps: Any) -> Pipeline[Any]: ...
def sequential(*steps: Any) -> Pipeline[Any]:  # type: ignore[misc]  # mypy misreads the unpacked tuples
    """The steps one after the other: `sequential(a, b, c)` is `a >> b >> c`. A list is a group side by side.

    Args:
        steps: Tasks, pipelines, and lists or tuples of them.

    Raises:
        TaskValidationError: There are none, one is no step, or too many would wait for too many others.
    """
    return compose(Kind.SEQUENCE, [_part(step) for step in steps])


@overload
def parallel(*steps: Parallel[S]) -> Parallel[S]: ...
@overload
def parallel(*steps: Composable[S] | Sequence[Composable[S]]) -> Parallel[S]: ...
@overload
def parallel(*steps: Composable[Any] | Sequence[Any]) -> Parallel[Any]: ...
def parallel(*steps: Any) -> Parallel[Any]:
    """The steps side by side: `parallel(a, b, c)` is `a | b | c`, and so is `parallel([a, b, c])`.

    Args:
        steps: Tasks, pipelines, and lists or tuples of them.

    Raises:
        TaskValidationError: There are none, or one is no step.
    """
    made: Any = compose(Kind.PARALLEL, [_part(step) for step in steps])
    return made  # type: ignore[no-any-return]


def mapped(tasks: Sequence[Task[R]], name: str) -> Parallel[R]:
    """The tasks that `map` made of the function of this name, as the one group that they are.

    Raises:
        TaskValidationError: There are none.
    """
    if not tasks:
        raise TaskValidationError(
            f"{name}.map got no items: a step after it would wait for nothing; leave them out then"
        )
    made: Any = compose(Kind.MAP, list(tasks))
    return made  # type: ignore[no-any-return]


def compose(kind: Kind, parts: Sequence[Part]) -> Pipeline[Any]:
    """A pipeline of parts.

    Raises:
        TaskValidationError: There are none, or too many would wait for too many others.
    """
    if not parts:
        raise TaskValidationError("there is no step in it: give at least one task, as in parallel(a(), b())")
    first, last = parts[0], parts[-1]
    if kind is Kind.SEQUENCE:
        for before, after in pairwise(parts):
            _check_edges(exit_count(before), entry_count(after))
        entries, exits = entry_count(first), exit_count(last)
        ends_parallel = isinstance(last, Expression) and last.ends_parallel
    else:
        entries, exits, ends_parallel = sum(map(entry_count, parts)), sum(map(exit_count, parts)), True
    size = sum(part.size if isinstance(part, Expression) else 1 for part in parts)
    made: Pipeline[Any] = (Parallel if ends_parallel else Pipeline)(
        kind, tuple(parts), size, entries, exits, ends_parallel
    )
    _identify(made, None)
    return made


def _check_edges(before: int, after: int) -> None:
    if before * after > MOST_EDGES:
        raise TaskValidationError(
            f"each of {after:,} steps would wait for each of {before:,}: that is {before * after:,} "
            f"dependencies, the limit is {MOST_EDGES:,}: put a step in between that joins them"
        )


def _part(value: Any) -> Part:
    if isinstance(value, (Task, Expression)):
        return value
    if isinstance(value, (list, tuple)):
        if not value:
            raise TaskValidationError(f"{value!r} is no step of a pipeline: a list must hold at least one")
        return compose(Kind.PARALLEL, [_part(item) for item in value])
    if isinstance(value, TaskFunction):
        name = value.function.__name__ if hasattr(value.function, "__name__") else value.name
        raise TaskValidationError(f"{value!r} is no step of a pipeline yet: call it: {name}(…)")
    raise TaskValidationError(
        f"{value!r} is no step of a pipeline: steps are tasks, pipelines, and lists or tuples of them"
    )


def _restored(
    program: list[Task[Any] | tuple[Kind, int]], identity: tuple[str, tuple[str, ...]]
) -> Pipeline[Any]:
    parts: list[Part] = []
    for item in program:
        if isinstance(item, Task):
            parts.append(item)
        else:
            kind, count = item
            parts[-count:] = [compose(kind, parts[-count:])]
    whole: Any = parts[0]
    _identify(whole, identity)
    return whole  # type: ignore[no-any-return]


def _identify(pipeline: Pipeline[Any], identity: tuple[str, tuple[str, ...]] | None) -> None:
    object.__setattr__(pipeline, "_identity", identity)  # it is frozen for everyone else
