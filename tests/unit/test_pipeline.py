"""Pipelines: what the operators say, and the tasks that come of it."""

from __future__ import annotations

import copy
import gc
import itertools
import pickle
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairque import Pipeline, Priority, Task, TaskValidationError, parallel, sequential, task
from fairque.core.exceptions import DependencyCycleError
from fairque.core.models import encode_task
from fairque.core.outputs import Output
from fairque.core.pipeline import Parallel
from fairque.core.pipeline_build import BuiltPipeline


@task(name="pipeline:extract")
def extract(source: int = 0) -> list[int]: ...  # type: ignore[empty-body]


@task(name="pipeline:transform")
def transform(rows: Any = None) -> list[int]: ...  # type: ignore[empty-body]


@task(name="pipeline:validate")
def validate(rows: Any = None) -> bool: ...  # type: ignore[empty-body]


@task(name="pipeline:load")
def load(*rows: Any, **more: Any) -> str: ...  # type: ignore[empty-body]


@task(name="pipeline:fetch")
def fetch(url: Any, *, depth: int = 0) -> str: ...  # type: ignore[empty-body]


@task(name="pipeline:pulling", pull={"rows": "extract"})
def pulling(rows: Any, unit: str = "m") -> int: ...  # type: ignore[empty-body]


def edges(built: BuiltPipeline) -> set[tuple[str, str]]:
    """Names of steps and of what they wait for; an id that is no step's stands for itself."""
    names = {step.task_id: step.name or "?" for step in built.tasks}
    return {(names.get(on, on), names[step.task_id]) for step in built.tasks for on in step.depends_on}


def only(built: BuiltPipeline, name: str) -> Task[Any]:
    (found,) = built.names[name]
    return found


def named(*names: str) -> list[Task[Any]]:
    return [load().with_options(name=name) for name in names]


# --- what the operators say ---


def test_each_first_step_of_the_right_waits_for_each_last_step_of_the_left() -> None:
    built = (extract() >> (transform() | validate()) >> load()).build()
    assert edges(built) == {
        ("extract", "transform"),
        ("extract", "validate"),
        ("transform", "load"),
        ("validate", "load"),
    }


def test_a_step_after_a_chain_beside_others_waits_for_the_ends_of_all() -> None:
    a, b, c, d = named("a", "b", "c", "d")
    built = (((a >> b) | c) >> d).build()
    assert edges(built) == {("a", "b"), ("b", "d"), ("c", "d")}


def test_the_arrow_to_the_left_says_the_same_the_other_way_round() -> None:
    a, b, c = named("a", "b", "c")
    assert edges((a << b << c).build()) == {("b", "a"), ("c", "b")}
    assert edges((a << [b, c]).build()) == {("b", "a"), ("c", "a")}
    assert edges(([b, c] << a).build()) == {("a", "b"), ("a", "c")}


@pytest.mark.parametrize(
    "make",
    [
        lambda a, b, c, d: a >> [b, c] >> d,
        lambda a, b, c, d: a >> (b, c) >> d,
        lambda a, b, c, d: a >> ([b] | c) >> d,
        lambda a, b, c, d: a >> (b | [c]) >> d,
        lambda a, b, c, d: [a] >> (b | c) >> [d],
        lambda a, b, c, d: a >> [[b], [[c]]] >> d,
        lambda a, b, c, d: sequential(a, parallel(b, c), d),
        lambda a, b, c, d: sequential(a, [b, c], d),
        lambda a, b, c, d: sequential(sequential(a), parallel([b, c]), sequential(d)),
        lambda a, b, c, d: d << [b, c] << a,
        lambda a, b, c, d: (a >> [b, c]) >> (d,),
    ],
)
def test_there_are_many_ways_to_say_the_same(make: Callable[..., Pipeline[Any]]) -> None:
    built = make(*named("a", "b", "c", "d")).build()
    assert edges(built) == {("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")}
    assert [step.name for step in built.results] == ["d"]


def test_the_result_is_the_last_steps_or_the_list_of_them() -> None:
    a, b, c, d = named("a", "b", "c", "d")
    for made, names, is_list in [
        (a >> b, "b", False),
        ((a >> b) | c, "bc", True),
        ((a | b) | (c | d), "abcd", True),
        (a >> (b | c), "bc", True),
        (a >> [b], "b", True),
        (parallel(a), "a", True),
        (sequential(a), "a", False),
        (sequential((a | b) >> c), "c", False),
        (sequential(a, b | c), "bc", True),
    ]:
        built = made.build()
        assert ("".join(step.name or "" for step in built.results), built.returns_list) == (names, is_list)
        assert isinstance(made, Parallel) == is_list


def test_steps_are_found_by_name_in_the_order_of_the_expression() -> None:
    made = fetch.map([3, 4]) >> (load() | fetch(5) | Task.create(payload=1)) >> load().with_options(name="z")
    built = made.build()
    assert {name: len(steps) for name, steps in built.names.items()} == {"fetch": 3, "load": 1, "z": 1}
    assert [step.payload["args"] for step in built.names["fetch"]] == [[3], [4], [5]]


# --- random expressions against a naive model ---


class Whole(NamedTuple):
    made: Any
    entries: list[int]
    exits: list[int]
    edges: set[tuple[int, int]]


Expression = tuple[str, list[Any]]
EXPRESSIONS: st.SearchStrategy[Expression] = st.recursive(
    st.just(("step", [])),
    lambda inner: st.tuples(
        st.sampled_from([">>", "<<", "|", "list", "tuple", "sequential", "parallel"]),
        st.lists(inner, min_size=1, max_size=4),
    ),
    max_leaves=20,
)


def shape(part: Any) -> Any:
    """All that there is to an operand, and the very objects."""
    if isinstance(part, (list, tuple)):
        return type(part), [shape(item) for item in part]
    if isinstance(part, Task):
        return id(part), repr(part)
    return id(part), part.kind, part.size, [shape(item) for item in part.parts]


def with_operator(operator: str, left: Any, right: Any) -> Any:
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        left = parallel(left)  # between two lists it would be theirs
    before = shape(left), shape(right)
    made = {">>": lambda: left >> right, "<<": lambda: left << right, "|": lambda: left | right}[operator]()
    assert (shape(left), shape(right)) == before
    return made


def composed(expression: Expression, count: Iterator[int]) -> Whole:
    kind, inner = expression
    if kind == "step":
        number = next(count)
        return Whole(fetch(number), [number], [number], set())
    parts = [composed(part, count) for part in inner]
    found = set().union(*(part.edges for part in parts))
    if kind in {">>", "<<", "sequential"}:
        ordered = parts[::-1] if kind == "<<" else parts
        for left, right in itertools.pairwise(ordered):
            found |= set(itertools.product(left.exits, right.entries))
        entries, exits = ordered[0].entries, ordered[-1].exits
    else:
        entries = [step for part in parts for step in part.entries]
        exits = [step for part in parts for step in part.exits]
    operands = [part.made for part in parts]
    if kind in {"list", "tuple"}:
        made: Any = operands if kind == "list" else tuple(operands)
    elif kind in {"sequential", "parallel"}:
        made = (sequential if kind == "sequential" else parallel)(*operands)
    else:
        made = operands[0]
        for operand in operands[1:]:
            made = with_operator(kind, made, operand)
    return Whole(made, entries, exits, found)


def pipeline_of(expression: Expression) -> tuple[Pipeline[Any], Whole]:
    whole = composed(expression, itertools.count())
    return sequential(whole.made), whole


def number(step: Task[Any]) -> int:
    return int(step.payload["args"][0])


@given(EXPRESSIONS)
def test_any_expression_gives_the_edges_and_ends_of_the_naive_model(expression: Expression) -> None:
    pipeline, whole = pipeline_of(expression)
    built = pipeline.build()
    numbers = {step.task_id: number(step) for step in built.tasks}
    assert sorted(numbers.values()) == list(range(pipeline.size))
    found = {(numbers[on], number(step)) for step in built.tasks for on in step.depends_on}
    assert found == whole.edges
    assert [number(step) for step in built.results] == whole.exits
    firsts = {number(step) for step in pipeline.with_options(delay=1).build().tasks if step.header.delay}
    assert firsts == set(whole.entries)
    assert (pipeline.entry_count, pipeline.exit_count) == (len(whole.entries), len(whole.exits))


@given(EXPRESSIONS)
def test_tasks_come_in_an_order_in_which_each_follows_what_it_depends_on(expression: Expression) -> None:
    pipeline, _ = pipeline_of(expression)
    seen: set[str] = set()
    for step in pipeline.build().tasks:
        assert seen.issuperset(step.depends_on)
        assert step.task_id not in seen
        seen.add(step.task_id)


@given(EXPRESSIONS)
def test_the_same_pipeline_has_the_same_ids_and_another_composition_other_ones(
    expression: Expression,
) -> None:
    pipeline, whole = pipeline_of(expression)
    first = pipeline.build()
    assert pipeline.build() == first
    other = sequential(whole.made).build()
    ids = {step.task_id for step in first.tasks}
    assert ids.isdisjoint(step.task_id for step in other.tasks)
    assert first.pipeline_id != other.pipeline_id


@given(EXPRESSIONS)
def test_a_pickled_pipeline_is_still_the_same_pipeline(expression: Expression) -> None:
    pipeline, _ = pipeline_of(expression)
    back = pickle.loads(pickle.dumps(pipeline))
    assert (type(back), repr(back)) == (type(pipeline), repr(pipeline))
    assert back.build() == pipeline.build()
    assert copy.deepcopy(pipeline).build() == pipeline.build()


# --- ids ---


def test_the_same_step_in_two_pipelines_or_twice_in_one_is_two_tasks() -> None:
    step = extract()
    first, second = (step >> load()).build(), (step >> load()).build()
    twice = (step >> step).build()
    ids = [only(first, "extract").task_id, only(second, "extract").task_id]
    ids += [each.task_id for each in twice.names["extract"]]
    assert len({step.task_id, *ids}) == 5
    assert edges(twice) == {("extract", "extract")}


def test_a_part_that_was_built_is_other_tasks_than_in_the_whole() -> None:
    part = extract() >> transform()
    alone = {step.task_id for step in part.build().tasks}
    assert alone.isdisjoint(step.task_id for step in (part >> load()).build().tasks)


def test_a_step_keeps_the_id_that_it_was_given() -> None:
    step = load().with_options(task_id="mine")
    for _ in range(2):
        assert only((extract() >> step).build(), "load").task_id == "mine"


def test_an_id_that_was_given_stands_in_a_pipeline_once() -> None:
    step = load().with_options(task_id="mine")
    with pytest.raises(TaskValidationError, match="steps load #1 and load #2 have the same id 'mine'"):
        (step >> extract() >> step).build()


def test_all_steps_carry_the_pipeline_and_keep_their_own_names() -> None:
    made = extract() >> load().with_options(name="store")
    built = made.build()
    assert {step.header.pipeline for step in built.tasks} == {made.pipeline_id} == {built.pipeline_id}
    assert [step.name for step in built.tasks] == ["extract", "store"]
    assert [step.header.step for step in built.tasks] == [None, "store"]


def test_threads_that_build_one_pipeline_at_once_build_the_same() -> None:
    for _ in range(20):
        made, found, ready = fetch.map(range(50)) >> load(), list[BuiltPipeline](), threading.Barrier(4)

        def build(made: Any = made, found: Any = found, ready: Any = ready) -> None:
            ready.wait()
            found.append(made.build())

        threads = [threading.Thread(target=build) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [found[0]] * 4


# --- options ---


def test_options_go_to_every_step_and_leave_the_pipeline_as_it_was() -> None:
    made = extract() >> (transform() | validate())
    changed = made.with_options(priority=Priority.HIGH, timeout=3, max_retries=1, group="g", user_id="u")
    assert {
        (step.priority, step.timeout, step.max_retries, step.group, step.user_id)
        for step in changed.build().tasks
    } == {(Priority.HIGH, 3.0, 1, "g", "u")}
    assert {(step.priority, step.user_id) for step in made.build().tasks} == {(Priority.NORMAL, None)}
    assert changed.pipeline_id != made.pipeline_id
    assert (type(changed), repr(changed)) == (type(made), repr(made))


def test_what_holds_back_goes_to_the_first_steps_only() -> None:
    built = ((extract() | validate()) >> load()).build(delay=5, depends_on=iter(["before"]))
    assert {step.name: step.header.delay for step in built.tasks} == {
        "extract": 5000,
        "validate": 5000,
        "load": 0,
    }
    assert edges(built) >= {("before", "extract"), ("before", "validate")}
    assert ("before", "load") not in edges(built)
    later = (extract() >> load()).with_options(execute_after=7).build()
    assert [step.header.execute_after for step in later.tasks] == [7000, None]


def test_a_pipelines_dependencies_add_to_those_of_its_first_steps() -> None:
    made = extract().with_options(depends_on=["one"]) >> load().with_options(depends_on=["three"])
    built = made.build(depends_on=["two", "one"])
    assert edges(built) == {("one", "extract"), ("two", "extract"), ("extract", "load"), ("three", "load")}


def test_options_of_a_build_do_not_change_the_ids() -> None:
    made = extract() >> load()
    ids = [step.task_id for step in made.build().tasks]
    built = made.build("u", priority=Priority.LOW)
    assert [step.task_id for step in built.tasks] == ids
    assert {(step.user_id, step.priority) for step in built.tasks} == {("u", Priority.LOW)}


def test_a_pipeline_has_no_id_or_name_and_says_where_they_go() -> None:
    made: Any = extract() >> load()
    for options in ({"task_id": "x"}, {"name": "x"}, {"colour": "red"}):
        for call in (made.with_options, made.build):
            with pytest.raises(TypeError, match=f"a pipeline has no option {next(iter(options))}: it takes"):
                call(**options)


def test_a_bad_option_is_refused_as_for_a_task() -> None:
    made: Any = extract() >> load()
    with pytest.raises(TaskValidationError, match="priority must be one of"):
        made.with_options(priority=9)
    with pytest.raises(TaskValidationError, match="depends_on"):
        made.build(depends_on=[5])


def test_steps_without_a_user_get_the_others_and_two_users_are_refused() -> None:
    mine = extract().with_options(user_id="u")
    assert {step.user_id for step in (mine >> load()).build().tasks} == {"u"}
    assert {step.user_id for step in (mine >> load()).build("v").tasks} == {"v"}
    with pytest.raises(TaskValidationError, match="steps of one pipeline are of users 'u', 'v'"):
        (mine >> load().with_options(user_id="v")).build()


# --- outputs as arguments ---


def test_an_output_becomes_the_new_steps_and_a_dependency() -> None:
    step = extract()
    built = (step >> validate() >> load({"rows": [step.output]}, also=(step.output,))).build()
    new = Output(only(built, "extract").task_id)
    assert only(built, "load").payload == {"args": [{"rows": [new]}], "kwargs": {"also": (new,)}}
    assert edges(built) == {("extract", "validate"), ("validate", "load"), ("extract", "load")}


def test_an_output_orders_steps_that_no_arrow_does() -> None:
    step = extract()
    built = parallel(transform(step.output), step).build()
    assert edges(built) == {("extract", "transform")}
    assert [each.name for each in built.tasks] == ["extract", "transform"]
    assert [each.name for each in built.results] == ["transform", "extract"]


def test_the_output_of_a_task_outside_is_a_dependency_under_its_own_id() -> None:
    outside = extract()
    built = (load(outside.output) >> validate()).build()
    assert edges(built) == {(outside.task_id, "load"), ("load", "validate")}
    assert only(built, "load").payload["args"] == [outside.output]


def test_the_output_of_a_step_that_stands_twice_is_refused_by_name() -> None:
    step = extract()
    with pytest.raises(
        TaskValidationError, match="step load uses the output of step extract, which stands 2 times in"
    ):
        (step >> step.with_options(priority=1) >> load(step.output)).build()


def test_a_step_that_was_renamed_is_still_the_one_its_output_names() -> None:
    step = extract()
    renamed = step.with_options(name="first")
    assert edges((renamed >> load(step.output)).build()) == {("first", "load")}
    mine = step.with_options(task_id="mine")
    assert edges((mine >> load(mine.output)).build()) == {("extract", "load")}


def test_a_pipelines_output_is_that_of_its_end() -> None:
    first, last = extract(), transform()
    assert (first >> last).output == last.output
    assert (first >> [last, first]).output == [last.output, first.output]
    assert parallel(last).output == [last.output]
    part = first >> (transform() | validate())
    built = (part >> load(part.output)).build()
    assert only(built, "load").payload["args"] == [
        [Output(only(built, name).task_id) for name in ("transform", "validate")]
    ]


def test_what_a_step_depends_on_by_itself_is_kept_and_means_the_step_if_it_is_one() -> None:
    step = extract()
    built = parallel(step, load().with_options(depends_on=[step, "outside"])).build()
    assert edges(built) == {("extract", "load"), ("outside", "load")}
    with pytest.raises(TaskValidationError, match="step load depends on step extract, which stands 2 times"):
        (parallel(step, step) | load().with_options(depends_on=[step])).build()


def test_a_built_step_goes_over_the_wire_only_with_its_outputs_named() -> None:
    step = extract()
    built = (step >> load(step.output, x=1)).build()
    assert built.tasks[1].inputs() == [built.tasks[0].task_id]
    assert encode_task(built.tasks[0], created_at=1, max_bytes=1000, codec_name="json")


# --- pulling results by name ---


def test_a_step_gets_the_result_that_it_pulls() -> None:
    built = (extract() >> validate() >> pulling(unit="km")).build()
    step = only(built, "pulling")
    assert step.payload == {
        "args": [],
        "kwargs": {"unit": "km", "rows": Output(only(built, "extract").task_id)},
    }
    assert step.pulls == ()
    assert edges(built) == {("extract", "validate"), ("validate", "pulling"), ("extract", "pulling")}


def test_an_argument_that_is_given_is_not_pulled() -> None:
    assert only((validate() >> pulling(rows=5)).build(), "pulling").payload["kwargs"] == {"rows": 5}


def test_what_comes_before_by_an_output_can_be_pulled() -> None:
    step = extract()
    middle = transform(step.output)
    built = parallel(pulling().with_options(depends_on=[middle]), middle, step).build()
    assert ("extract", "pulling") in edges(built)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_all_that_one_map_made_is_pulled_as_a_list(count: int) -> None:
    built = (extract.map(range(count)) >> validate() >> pulling()).build()
    outputs = [Output(step.task_id) for step in built.names["extract"]]
    assert only(built, "pulling").payload["kwargs"]["rows"] == outputs
    assert len(outputs) == count


def test_one_of_a_map_can_be_pulled_where_only_that_one_comes_before() -> None:
    steps = extract.map(range(3))
    third = steps.parts[2]
    assert isinstance(third, Task)
    built = (steps | (transform(third.output) >> pulling())).build()
    assert only(built, "pulling").payload["kwargs"]["rows"] == Output(built.names["extract"][2].task_id)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pulling() >> load(), "a step named 'extract', but nothing comes before it"),
        (lambda: validate() >> load() >> pulling(), "but what comes before it is validate, load"),
        (lambda: validate() >> (pulling() | extract()), "but that one does not come before it: put it"),
        (lambda: pulling() >> extract(), "but that one does not come before it"),
        (
            lambda: (extract() | extract()) >> pulling(),
            "but 2 steps of that name come before it: extract #1, extract #2: name one of them with",
        ),
        (lambda: extract.map([1, 2]) >> extract() >> pulling(), "but 3 steps of that name"),
        (lambda: (extract.map([1]) | extract.map([2])) >> pulling(), "but 2 steps of that name"),
        (lambda: parallel([extract() for _ in range(12)]) >> pulling(), r"extract #10 and 2 more: name one"),
        (lambda: pulling().with_options(name="extract"), "step extract pulls 'rows'.* nothing comes before"),
    ],
)
def test_a_pull_that_means_no_step_or_several_is_refused_by_name(
    make: Callable[[], Any], message: str
) -> None:
    with pytest.raises(TaskValidationError, match=rf"step \w+ pulls 'rows' from.*{message}|{message}"):
        sequential(make()).build()


@given(st.data())
def test_a_pull_finds_what_a_search_backwards_finds(data: st.DataObject) -> None:
    expression = data.draw(EXPRESSIONS)
    whole = composed(expression, itertools.count())
    pipeline = sequential(whole.made)
    chosen = data.draw(st.integers(0, pipeline.size - 1))

    def rename(part: Any) -> Any:
        if isinstance(part, Task):
            return part.with_options(name="extract" if number(part) == chosen else "other")
        kind = sequential if part.kind == "sequence" else parallel
        return kind(*map(rename, part.parts))

    built = (rename(pipeline) >> load() >> pulling()).build()
    target = Output(only(built, "extract").task_id)
    assert only(built, "pulling").payload["kwargs"]["rows"] == target


# --- cycles ---


def test_outputs_against_the_arrows_are_a_cycle_told_by_names() -> None:
    last = load()
    with pytest.raises(DependencyCycleError) as error:
        (extract() >> transform(last.output) >> validate() >> last).build()
    assert set(error.value.cycle) == {"transform", "validate", "load"}
    assert error.value.cycle[0] == error.value.cycle[-1]


def test_a_cycle_tells_steps_of_one_name_apart() -> None:
    last = load()
    with pytest.raises(
        DependencyCycleError, match=r"load #1 → load #2 → load #1|load #2 → load #1 → load #2"
    ):
        (load(last.output) >> last).build()


def test_a_step_cannot_wait_for_itself() -> None:
    step = load(Output("mine")).with_options(task_id="mine")
    with pytest.raises(DependencyCycleError, match="load → load"):
        (step >> extract()).build()


# --- map ---


def test_map_runs_a_step_for_each_item_and_gives_the_list_to_the_next() -> None:
    steps = fetch.map(["a", "b"], depth=2)
    built = (steps >> load(steps.output)).build()
    assert [step.payload for step in built.names["fetch"]] == [
        {"args": ["a"], "kwargs": {"depth": 2}},
        {"args": ["b"], "kwargs": {"depth": 2}},
    ]
    ids = [step.task_id for step in built.names["fetch"]]
    assert only(built, "load").payload["args"] == [[Output(each) for each in ids]]
    assert list(only(built, "load").depends_on) == ids


def test_a_map_over_what_is_no_list_of_items_is_refused() -> None:
    with pytest.raises(TaskValidationError, match="not the characters of 'abc'"):
        fetch.map("abc")
    with pytest.raises(TaskValidationError, match="map in a task of its own"):
        fetch.map(extract().output)


@pytest.mark.parametrize(
    "use",
    [
        lambda output: f"{output}.csv",
        lambda output: output[0],
        lambda output: output["rows"],
        list,
        len,
        lambda output: "a" in output,
        lambda output: 1 if output else 2,
        lambda output: output(),
    ],
)
def test_an_output_that_is_used_as_a_value_says_that_it_is_none_yet(use: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match="needs its value goes into the function of a step"):
        use(extract().output)
    assert "output of task" in repr(extract().output)


def place_only(rows: Any, /) -> None: ...
def variadic(*rows: Any) -> None: ...
def by_any_name(**more: Any) -> None: ...
def misspelt(row: Any) -> None: ...


@pytest.mark.parametrize("function", [place_only, variadic, by_any_name, misspelt])
def test_a_pull_into_what_is_no_parameter_is_refused_where_it_is_written(
    function: Callable[..., Any],
) -> None:
    with pytest.raises(TaskValidationError, match=r"pulls into \['rows'\], and has no such parameters"):
        task(name="pipeline:pulls_wrong", pull={"rows": "extract"})(function)


@pytest.mark.parametrize("pull", ["extract", ["rows"], {"rows": 3}, {"rows": ""}])
def test_what_maps_no_parameters_to_steps_is_no_pull(pull: Any) -> None:
    with pytest.raises(TaskValidationError, match="pull maps names of parameters to names of steps"):
        task(pull=pull)


def test_a_pulled_parameter_that_is_given_by_place_is_named_where_another_is_missing() -> None:
    @task(name="pipeline:pulls_first", pull={"rows": "extract"})
    def store(rows: list[int], table: str) -> None: ...

    with pytest.raises(
        TypeError, match="'table'; 'rows' was given and is not pulled: give the others by key"
    ):
        store("tbl")


def test_a_map_over_nothing_is_refused() -> None:
    with pytest.raises(TaskValidationError, match=r"pipeline:fetch\.map got no items"):
        fetch.map([])


# --- mistakes ---

# As the interpreter sees them: to a type checker these mistakes are errors.
EXTRACT: Any = extract
LOAD: Any = load


@pytest.mark.parametrize(
    "mistake",
    [
        lambda: EXTRACT >> LOAD(),
        lambda: EXTRACT() >> LOAD,
        lambda: EXTRACT >> LOAD,
        lambda: EXTRACT << LOAD(),
        lambda: EXTRACT | LOAD(),
        lambda: EXTRACT() | LOAD,
        lambda: [EXTRACT(), LOAD] >> validate(),
        lambda: [EXTRACT()] >> LOAD,
        lambda: parallel(EXTRACT, LOAD()),
        lambda: sequential(LOAD(), EXTRACT),
    ],
)
def test_a_function_that_was_not_called_is_told_so(mistake: Callable[[], Any]) -> None:
    with pytest.raises(TaskValidationError, match=r"is no step of a pipeline yet: call it: (extract|load)\("):
        mistake()


@pytest.mark.parametrize(
    ("mistake", "value"),
    [
        (lambda: LOAD() >> 5, "5"),
        (lambda: 5 >> LOAD(), "5"),
        (lambda: LOAD() << "x", "'x'"),
        (lambda: None | LOAD(), "None"),
        (lambda: [LOAD(), "x"] | LOAD(), "'x'"),
        (lambda: LOAD() >> {LOAD: 1}, "{"),
        (lambda: LOAD() | (each for each in [LOAD()]), "<generator"),
    ],
)
def test_anything_else_is_refused_by_its_value(mistake: Callable[[], Any], value: str) -> None:
    with pytest.raises(TaskValidationError, match=rf"^{re.escape(value)}.* is no step of a pipeline: steps"):
        mistake()


@pytest.mark.parametrize(
    "mistake",
    [
        parallel,
        sequential,
        lambda: load() >> [],
        lambda: [] >> load(),
        lambda: () | load(),
        lambda: load() >> [[]],
    ],
)
def test_nothing_is_no_pipeline(mistake: Callable[[], Any]) -> None:
    with pytest.raises(TaskValidationError, match=r"there is no step in it|a list must hold at least one"):
        mistake()


def test_a_pipeline_cannot_be_changed() -> None:
    made: Any = extract() >> load()
    for name in ("parts", "colour"):
        with pytest.raises(AttributeError, match="a pipeline cannot be changed: with_options makes another"):
            setattr(made, name, ())


# --- how it reads ---


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: extract() >> (transform() | validate()) >> load(),
            "extract >> (transform | validate) >> load",
        ),
        (lambda: (extract() >> load()) | validate(), "(extract >> load) | validate"),
        (lambda: (extract() | load()) | validate(), "extract | load | validate"),
        (lambda: extract() >> (load() >> validate()), "extract >> load >> validate"),
        (lambda: fetch.map(range(10_000)) >> load(), "map(fetch, 10000) >> load"),
        (lambda: extract() >> [load()], "extract >> parallel(load)"),
        (lambda: sequential(extract()) | load().with_options(name="l"), "extract | l"),
        (lambda: sequential(extract() | load()) >> validate(), "(extract | load) >> validate"),
        (lambda: sequential(Task.create(payload=1), load()), "task >> load"),
        (
            lambda: sequential(*named(*"abcdefghijkl")),
            "a >> b >> c >> d >> … 4 more … >> i >> j >> k >> l",
        ),
    ],
)
def test_a_pipeline_reads_like_its_expression(make: Callable[[], Any], text: str) -> None:
    assert repr(make()) == text


# --- size ---


def test_too_many_edges_between_two_groups_are_refused_with_the_way_out() -> None:
    wide, wider = fetch.map(range(300)), fetch.map(range(334))
    assert (wide >> fetch.map(range(333))).size == 633
    with pytest.raises(
        TaskValidationError,
        match="each of 334 steps would wait for each of 300: that is 100,200 dependencies, the limit is "
        "100,000: put a step in between that joins them",
    ):
        wide >> wider
    assert (wide >> load() >> wider).size == 635


@dataclass
class Stopwatch:
    """Processor time, which other work on the machine does not change; the best of three.

    The collector rests meanwhile: what it takes depends on all that other tests have left in memory.
    """

    seconds: list[float] = field(default_factory=list)

    def best(self, run: Callable[[], Any]) -> float:
        for _ in range(3):
            gc.collect()
            gc.disable()
            try:
                start = time.process_time()
                run()
                self.seconds.append(time.process_time() - start)
            finally:
                gc.enable()
        return min(self.seconds)


# Ten times as much takes about ten times as long; what is quadratic takes a hundred times.
AS_LONG = 25


@pytest.mark.parametrize("by", ["output", "pull"])
def test_a_map_of_ten_thousand_takes_about_ten_times_as_long_as_one_of_a_thousand(by: str) -> None:
    def seconds(size: int) -> float:
        steps = fetch.map(range(size))
        made = steps >> load(steps.output) if by == "output" else extract.map(range(size)) >> pulling()
        return Stopwatch().best(made.build)

    large, small = seconds(10_000), seconds(1_000)
    print(f"{large / small:.1f} times as long")
    assert large < AS_LONG * small


@pytest.mark.parametrize("operator", [">>", "<<", "|"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_thousands_of_steps_joined_one_by_one_are_no_burden(operator: str, side: str) -> None:
    def chain(size: int = 5_000) -> Pipeline[Any]:
        made: Any = load()
        for _ in range(size - 1):
            left, right = (made, load()) if side == "left" else (load(), made)
            made = {">>": lambda a, b: a >> b, "<<": lambda a, b: a << b, "|": lambda a, b: a | b}[operator](
                left, right
            )
        result: Pipeline[Any] = made
        return result

    assert Stopwatch().best(lambda: chain().build()) < AS_LONG * Stopwatch().best(lambda: chain(500).build())
    made = chain()
    assert len(repr(made)) < 200
    assert len(made.build().tasks) == 5_000
    assert made.with_options(priority=1).size == 5_000
    assert pickle.loads(pickle.dumps(made)).build() == made.build()
    assert len(made.output if isinstance(made, Parallel) else [made.output]) == (
        5_000 if operator == "|" else 1
    )
