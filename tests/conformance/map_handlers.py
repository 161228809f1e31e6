"""Handlers of the map suite."""

from typing import Any

from perdure.durable import BatchError, BatchResult, Completion, Context

from .registry import requirement
from .step_handlers import greet


class Wrapped:
    """Keeps an item's result behind a prefix."""

    def dumps(self, value: str) -> str:
        return f"wrapped:{value}"

    def loads(self, text: str) -> str:
        return text.removeprefix("wrapped:")


class Joined:
    """Keeps the results of a whole map as one line."""

    def dumps(self, value: Any) -> str:
        return "OPSERDE:" + ",".join(value)

    def loads(self, text: str) -> list[str]:
        return text.removeprefix("OPSERDE:").split(",")


def give_or_fail(context: Context, item: str) -> str:
    if item == "fail":
        raise ValueError("this item fails")
    return item


def upper(context: Context, item: str) -> str:
    return item.upper()


def settled(context: Context, name: str, items: list[str], completion: Completion) -> Any:
    """Map one after the other; return the result also of a batch that failed."""
    try:
        return context.map(name, items, give_or_fail, max_concurrency=1, completion=completion)
    except BatchError as error:
        return error.result


def counts(result: BatchResult, *keys: str) -> dict[str, Any]:
    """Return the named facts about a batch."""
    facts = {
        "completionReason": result.reason,
        "status": result.status,
        "successCount": result.success_count,
        "failureCount": result.failure_count,
        "totalCount": result.total_count,
    }
    return {key: facts[key] for key in keys or facts}


@requirement("9-1")
def step_per_item(event: list[str], context: Context) -> list[str]:
    def one(branch: Context, item: str) -> str:
        return branch.step("greet", greet, item)

    return list(context.map("map", event, one, max_concurrency=1))


@requirement("9-2")
def items_only(event: list[int], context: Context) -> list[int]:
    return list(context.map("any", event, lambda branch, item: item * 2, max_concurrency=1))


@requirement("9-3")
def item_and_index(event: list[int], context: Context) -> list[int]:
    def one(branch: Context, item: int, index: int) -> int:
        return item + index

    return list(context.map("indexed", event, one, max_concurrency=1))


@requirement("9-4")
def no_items(event: list[Any], context: Context) -> list[Any]:
    return list(context.map("empty", event, lambda branch, item: item))


@requirement("9-5")
def fail_fast(event: None, context: Context) -> dict[str, Any]:
    return counts(settled(context, "failfast", ["ok", "fail", "ok"], Completion(max_failures=0)))


@requirement("9-6")
def raised(event: None, context: Context) -> list[str]:
    stop = Completion(max_failures=0)
    items = ["fail", "ok"]
    return list(context.map("throwing", items, give_or_fail, max_concurrency=1, completion=stop))


@requirement("9-7")
def enough(event: None, context: Context) -> dict[str, Any]:
    result = settled(context, "min-successful", list("abcd"), Completion(min_successful=2))
    return counts(result, "completionReason", "successCount", "totalCount")


@requirement("9-8")
def tolerated(event: None, context: Context) -> dict[str, Any]:
    return counts(settled(context, "tolerated", ["ok", "fail", "ok"], Completion(max_failures=1)))


@requirement("9-9")
def tolerance_exceeded(event: None, context: Context) -> dict[str, Any]:
    items = ["fail", "fail", "ok"]
    result = settled(context, "tolerated-exceeded", items, Completion(max_failures=1))
    return counts(result, "completionReason", "successCount", "failureCount", "totalCount")


@requirement("9-10")
def ratio_exceeded(event: None, context: Context) -> dict[str, Any]:
    items = ["fail", "fail", "ok", "ok"]
    result = settled(context, "tolerated-pct", items, Completion(max_failure_ratio=0.25))
    return counts(result, "completionReason", "successCount", "failureCount", "totalCount")


@requirement("9-11")
def two_at_once(event: None, context: Context) -> list[str]:
    items = ["r0", "r1", "r2"]
    return list(context.map("concurrent", items, give_or_fail, max_concurrency=2))


@requirement("9-12")
def flat(event: None, context: Context) -> list[str]:
    def one(branch: Context, item: str) -> str:
        return branch.step("give", lambda: item)

    return list(context.map("flat", ["fa", "fb"], one, max_concurrency=1, nesting="flat"))


@requirement("9-13")
def item_names(event: list[int], context: Context) -> list[int]:
    return list(
        context.map(
            "named-items",
            event,
            lambda branch, item: item * 10,
            max_concurrency=1,
            item_name=lambda item, index: f"item-{item}",
        )
    )


@requirement("9-14")
def item_serdes(event: None, context: Context) -> list[str]:
    result = context.map("serdes", ["x", "y"], upper, max_concurrency=1, item_serdes=Wrapped())
    return list(result)


@requirement("9-15")
def wait_in_an_item(event: None, context: Context) -> list[str]:
    def one(branch: Context, item: str, index: int) -> str:
        if index == 1:
            branch.sleep(1)
        return branch.step("give", lambda: item)

    return list(context.map("suspend", ["r0", "r1"], one, max_concurrency=1))


@requirement("9-16")
def large_map(event: None, context: Context) -> dict[str, Any]:
    def one(branch: Context, item: str) -> str:
        return item * 70 * 1024

    result = context.map("large", list("abcd"), one, max_concurrency=1)
    return counts(result, "successCount", "totalCount")


@requirement("9-17")
def map_then_wait(event: None, context: Context) -> list[str]:
    result = context.map("then-wait", ["a", "b"], upper, max_concurrency=1)
    context.sleep(1)
    return list(result)


@requirement("9-18")
def failed_map_then_wait(event: None, context: Context) -> dict[str, Any]:
    result = settled(context, "fail-then-wait", ["ok", "fail"], Completion(max_failures=1))
    context.sleep(1)
    return counts(result)


@requirement("9-19")
def map_serdes(event: None, context: Context) -> list[str]:
    return list(context.map("op-serde", ["x", "y"], upper, max_concurrency=1, serdes=Joined()))


@requirement("9-20")
def map_serdes_at_replay(event: None, context: Context) -> list[str]:
    result = context.map("op-serde-replay", ["x", "y"], upper, max_concurrency=1, serdes=Joined())
    context.sleep(1)
    return list(result)
