"""A handler whose process dies once in a step's body, run as a script: event in, output out."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from perdure.durable import Context, durable_execution


def note(word: str) -> str:
    with Path(os.environ["SIDE_FILE"]).open("a") as side:
        side.write(word + "\n")
    return word


def die_once() -> str:
    marker = Path(os.environ["SIDE_FILE"] + ".died")
    if not marker.exists():
        marker.touch()
        note("dying")
        os._exit(1)
    return note("second")


@durable_execution(name="dying")
def dying(event: Any, context: Context) -> Any:
    first = context.step("first", note, "first")
    second = context.step("second", die_once)
    return [first, second, context.step("third", note, "third")]


if __name__ == "__main__":
    assert not {"boto3", "langchain_core", "rich"} & sys.modules.keys()
    json.dump(dying(json.load(sys.stdin), object()), sys.stdout)
