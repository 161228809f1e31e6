"""A handler whose process dies in the middle, once: `kill -9` by itself. Each body adds a line."""

import os
import signal
from pathlib import Path

from perdure.durable import durable_execution


@durable_execution
def handler(folder, context):
    first = context.step("first", note, folder, "first")
    names = ["a", "b", "c"]
    items = list(
        context.map("items", names, lambda scope, name: scope.step("item", note, folder, name), 1)
    )
    middle = context.step("middle", die_once, folder)
    paid = context.step("paid", note, folder, "paid", semantics="at_most_once")
    return [first, items, middle, paid]


def note(folder, word):
    with (Path(folder) / "side").open("a") as side:
        side.write(word + "\n")
    return word


def die_once(folder):
    note(folder, "middle")
    marker = Path(folder) / "died"
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"
