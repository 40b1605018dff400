"""The operators of pipelines: what a task and a pipeline have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fairque.core.pipeline import Parallel, Pipeline

R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")


class Composable(Generic[R_co]):
    """What can be a part of a pipeline: a task, or a pipeline.

    `a >> b` runs b after a, `a << b` is `b >> a`, and `a | b` runs them side by side. On either side there
    may be a list or tuple, whose members run side by side. No operator changes what it is given: a step
    that stands in two pipelines is a task of its own in each.

    All raise `TaskValidationError` for what cannot be a step (a task function that was not called, an empty
    list), and `>>` and `<<` also if too many steps would wait for too many others.
    """

    __slots__ = ()

    # The pipeline is made of tasks, which have these operators: hence the imports inside.

    @overload
    def __rshift__(self, other: Parallel[S]) -> Parallel[S]: ...
    @overload
    def __rshift__(self, other: Composable[S]) -> Pipeline[S]: ...
    @overload
    def __rshift__(self, other: Sequence[Parallel[S]]) -> Parallel[S]: ...
    @overload
    def __rshift__(self, other: Sequence[Composable[S] | Sequence[Composable[S]]]) -> Parallel[S]: ...
    def __rshift__(self, other: Any) -> Any:
        from fairque.core.pipeline import sequential  # noqa: PLC0415 - see above

        return sequential(self, other)

    def __rrshift__(self, other: Sequence[object]) -> Pipeline[R_co]:
        from fairque.core.pipeline import sequential  # noqa: PLC0415 - see above

        made: Any = sequential(other, self)
        return made  # type: ignore[no-any-return]

    def __lshift__(
        self, other: Composable[Any] | Sequence[Composable[Any] | Sequence[Any]]
    ) -> Pipeline[R_co]:
        from fairque.core.pipeline import sequential  # noqa: PLC0415 - see above

        made: Any = sequential(other, self)
        return made  # type: ignore[no-any-return]

    @overload
    def __rlshift__(self, other: Sequence[Parallel[S]]) -> Parallel[S]: ...
    @overload
    def __rlshift__(self, other: Sequence[Composable[S] | Sequence[Composable[S]]]) -> Parallel[S]: ...
    def __rlshift__(self, other: Any) -> Any:
        from fairque.core.pipeline import sequential  # noqa: PLC0415 - see above

        return sequential(self, other)

    @overload
    def __or__(self, other: Parallel[S]) -> Parallel[R_co | S]: ...
    @overload
    def __or__(self, other: Composable[S]) -> Parallel[R_co | S]: ...
    @overload
    def __or__(self, other: Sequence[Parallel[S]]) -> Parallel[R_co | S]: ...
    @overload
    def __or__(self, other: Sequence[Composable[S] | Sequence[Composable[S]]]) -> Parallel[R_co | S]: ...
    def __or__(self, other: Any) -> Any:
        from fairque.core.pipeline import parallel  # noqa: PLC0415 - see above

        return parallel(self, other)

    @overload
    def __ror__(self, other: Sequence[Parallel[S]]) -> Parallel[S | R_co]: ...
    @overload
    def __ror__(self, other: Sequence[Composable[S] | Sequence[Composable[S]]]) -> Parallel[S | R_co]: ...
    def __ror__(self, other: Any) -> Any:
        from fairque.core.pipeline import parallel  # noqa: PLC0415 - see above

        return parallel(other, self)
