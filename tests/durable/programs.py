"""A small language of handler bodies, and the handlers that carry a program of it out.

A program is a list of operations, plain data drawn by hypothesis. One sync and one async handler
interpret whatever program the book holds for their event; putting another program in the book is a
change of code under a running execution. Each value says which operation it belongs to, so one
that came out of place is seen at once, and each run of a body is counted.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from perdure.durable import (
    AsyncContext,
    Context,
    OperationError,
    RetryPolicy,
    current_step,
    durable_execution,
)

Op = tuple[Any, ...]
QUICK = RetryPolicy(max_attempts=5, initial_delay=3, backoff_rate=1, jitter="none")


@dataclass
class Case:
    """One program while it is run: what its bodies did, and what came out of place."""

    program: list[Op]
    runs: Counter[str] = field(default_factory=Counter)
    misplaced: list[str] = field(default_factory=list)

    def body(self, path: str, outcome: Any) -> str:
        """Do what a step does: count, and fail as often as the program says."""
        self.runs[path] += 1
        if outcome == "fails":
            raise LookupError(path)
        if isinstance(outcome, int) and current_step().attempt <= outcome:
            raise TimeoutError(path)
        return path

    def check(self, expected: Any, found: Any) -> Any:
        """Note a value that does not belong to the operation that returned it."""
        if expected != found:
            self.misplaced.append(f"{found!r} instead of {expected!r}")
        return found


BOOK: dict[str, Case] = {}


leaves = st.one_of(
    st.tuples(st.just("step"), st.sampled_from(["ok", "ok", "fails", 1, 2])),
    st.tuples(st.just("step"), st.sampled_from(["ok", "ok", "fails", 1, 2])),
    st.tuples(st.just("sleep"), st.integers(1, 20)),
    st.tuples(st.just("wait"), st.integers(1, 20)),
    st.tuples(st.just("again"), st.integers(2, 3)),
)
alone = st.sampled_from([("now",), ("uuid",), ("random",), ("nap", 2)])


def _scopes(inner: st.SearchStrategy[Op]) -> st.SearchStrategy[Op]:
    bodies = st.lists(inner, min_size=1, max_size=3)
    flat = st.booleans()
    limit = st.sampled_from([None, 1, 2])
    return st.one_of(
        st.tuples(st.just("child"), bodies),
        st.tuples(st.just("failing child"), bodies),
        st.tuples(st.just("map"), bodies, st.integers(0, 3), flat, limit),
        st.tuples(st.just("parallel"), st.lists(bodies, min_size=1, max_size=3), flat, limit),
        st.tuples(st.just("gather"), st.lists(leaves, min_size=1, max_size=3)),
    )


operations = st.recursive(st.one_of(leaves, leaves, alone), _scopes, max_leaves=8)


@st.composite
def programs(draw: st.DrawFn, least: int = 1) -> list[Op]:
    """Draw a program, each operation with a name of its own."""
    count = iter(range(10_000))
    return _named(draw(st.lists(operations, min_size=least, max_size=6)), count)


def _named(ops: list[Op], count: Any) -> list[Op]:
    return [_name(op, count) for op in ops]


def _name(op: Op, count: Any) -> Op:
    kind, *rest = op
    name = f"{kind.split()[-1]}-{next(count)}"
    match kind:
        case "child" | "failing child" | "gather":
            return (kind, name, _named(rest[0], count))
        case "map":
            return (kind, name, _named(rest[0], count), *rest[1:])
        case "parallel":
            return (kind, name, [_named(each, count) for each in rest[0]], *rest[1:])
    return (kind, name, *rest)


def expected_runs(program: list[Op], prefix: str = "") -> Counter[str]:
    """Return how often each body of a program runs, from its start to its end."""
    total: Counter[str] = Counter()
    for kind, name, *rest in program:
        path = f"{prefix}/{name}"
        match kind:
            case "step":
                outcome = rest[0]
                total[path] += outcome + 1 if isinstance(outcome, int) else 1
            case "again":
                total.update({f"{path}#{n}": 1 for n in range(rest[0])})
            case "child" | "failing child":
                total += expected_runs(rest[0], path)
            case "gather":
                total += expected_runs(rest[0], prefix)
            case "map":
                for index in range(rest[1]):
                    total += expected_runs(rest[0], f"{path}[{index}]")
            case "parallel":
                for index, body in enumerate(rest[0]):
                    total += expected_runs(body, f"{path}[{index}]")
    return total


def has_gather(program: list[Op]) -> bool:
    """Return whether claims of the program's own scope are open side by side, if it is async."""
    return any(op[0] in ("gather", "again") for op in program)


@durable_execution(name="sync-program")
def sync_program(key: str, context: Context) -> Any:
    case = BOOK[key]
    return _run(case, case.program, context, "")


def _run(case: Case, ops: list[Op], context: Context, path: str) -> list[Any]:
    return [_one(case, op, context, path) for op in ops]


def _one(case: Case, op: Op, context: Context, prefix: str) -> Any:
    kind, name, *rest = op
    path = f"{prefix}/{name}"
    match kind:
        case "step":
            try:
                value = context.step(
                    name, case.body, path, rest[0], retry=QUICK if rest[0] != "fails" else None
                )
            except OperationError as error:
                value = error.error.message
            return case.check(path, value)
        case "again":
            return [
                case.check(f"{path}#{n}", context.step(name, case.body, f"{path}#{n}", "ok"))
                for n in range(rest[0])
            ]
        case "sleep":
            return case.check(None, context.sleep(rest[0], name))
        case "nap":
            return case.check(None, context.sleep(rest[0]))
        case "wait":
            return _sent(case, path, context.wait(rest[0], name))
        case "now":
            return context.now()
        case "uuid":
            return context.uuid()
        case "random":
            return context.random()
        case "gather":
            return _run(case, rest[0], context, prefix)
        case "child":
            return context.child(name, lambda inner: _run(case, rest[0], inner, path))
        case "failing child":

            def fail(inner: Context) -> None:
                _run(case, rest[0], inner, path)
                raise LookupError(path)

            try:
                return context.child(name, fail)
            except OperationError as error:
                return case.check(path, error.error.message)
        case "map":
            body, count, flat, limit = rest
            return list(
                context.map(
                    name,
                    range(count),
                    lambda inner, i: _run(case, body, inner, f"{path}[{i}]"),
                    limit,
                    nesting="flat" if flat else "nested",
                )
            )
        case _:
            bodies, flat, limit = rest
            branches = [
                lambda inner, i=i, body=body: _run(case, body, inner, f"{path}[{i}]")
                for i, body in enumerate(bodies)
            ]
            return list(
                context.parallel(name, branches, limit, nesting="flat" if flat else "nested")
            )


@durable_execution(name="async-program")
async def async_program(key: str, context: AsyncContext) -> Any:
    case = BOOK[key]
    return await _arun(case, case.program, context, "")


async def _arun(case: Case, ops: list[Op], context: AsyncContext, path: str) -> list[Any]:
    return [await _aone(case, op, context, path) for op in ops]


async def _aone(case: Case, op: Op, context: AsyncContext, prefix: str) -> Any:
    kind, name, *rest = op
    path = f"{prefix}/{name}"
    match kind:
        case "step":
            try:
                value = await context.step(
                    name, case.body, path, rest[0], retry=QUICK if rest[0] != "fails" else None
                )
            except OperationError as error:
                value = error.error.message
            return case.check(path, value)
        case "again":
            calls = [context.step(name, _abody, case, f"{path}#{n}") for n in range(rest[0])]
            values = await asyncio.gather(*calls)
            return [case.check(f"{path}#{n}", value) for n, value in enumerate(values)]
        case "sleep":
            return case.check(None, await context.sleep(rest[0], name))
        case "nap":
            return case.check(None, await context.sleep(rest[0]))
        case "wait":
            return _sent(case, path, await context.wait(rest[0], name))
        case "now":
            return await context.now()
        case "uuid":
            return context.uuid()
        case "random":
            return context.random()
        case "gather":
            return await asyncio.gather(*(_aone(case, each, context, prefix) for each in rest[0]))
        case "child":
            return await context.child(name, lambda inner: _arun(case, rest[0], inner, path))
        case "failing child":

            async def fail(inner: AsyncContext) -> None:
                await _arun(case, rest[0], inner, path)
                raise LookupError(path)

            try:
                return await context.child(name, fail)
            except OperationError as error:
                return case.check(path, error.error.message)
        case "map":
            body, count, flat, limit = rest
            return list(
                await context.map(
                    name,
                    range(count),
                    lambda inner, i: _arun(case, body, inner, f"{path}[{i}]"),
                    limit,
                    nesting="flat" if flat else "nested",
                )
            )
        case _:
            bodies, flat, limit = rest
            branches = [
                lambda inner, i=i, body=body: _arun(case, body, inner, f"{path}[{i}]")
                for i, body in enumerate(bodies)
            ]
            return list(
                await context.parallel(name, branches, limit, nesting="flat" if flat else "nested")
            )


async def _abody(case: Case, path: str) -> str:
    await asyncio.sleep(0)
    return case.body(path, "ok")


def _sent(case: Case, path: str, value: Any) -> Any:
    return value if value is None else case.check(path, value)
