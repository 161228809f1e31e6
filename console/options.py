"""The options that many commands share, and how their examples are written."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from .place import DEFAULT, ENGINE, FUNCTION, VARIABLE, Place, place_of

T = TypeVar("T")
HERE = Place()
Journal = Annotated[
    str, typer.Option("--journal", "-j", envvar=VARIABLE, metavar="PATH", help="The journal file.")
]
Engine = Annotated[
    str,
    typer.Option(
        "--engine", envvar=ENGINE, metavar="local|aws", help="Where runs are: a journal, or AWS."
    ),
]
Function = Annotated[
    str | None,
    typer.Option(
        "--function",
        envvar=FUNCTION,
        metavar="NAME",
        help="The Lambda function, with --engine aws; NAME:ALIAS where runs are started.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Wait = Annotated[
    float,
    typer.Option(
        "--wait",
        "-w",
        min=0,
        metavar="SECONDS",
        help="Stay for timers and retries that are due within this time; leave, suspended, when "
        "the run only waits for later ones or for an event. The default covers the longest pause "
        "of the default retry policy.",
    ),
]
Id = Annotated[str, typer.Argument(metavar="ID", help="The run's id.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, metavar="N", help="How many.")]


def located(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command the options that say where its runs are; it gets them as `place`."""
    signature, hints = inspect.signature(command), get_type_hints(command, include_extras=True)
    options = {
        "journal": (Journal, DEFAULT),
        "engine": (Engine, "local"),
        "function": (Function, None),
    }

    @wraps(command)
    def run(*, journal: str, engine: str, function: str | None, **given: Any) -> T:
        return command(place=place_of(journal, engine, function), **given)

    kept = [
        each.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[each.name])
        for each in signature.parameters.values()
    ]
    at = next(number for number, each in enumerate(kept) if each.name == "place")
    kept[at : at + 1] = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=hint, default=default)
        for name, (hint, default) in options.items()
    ]
    del run.__wrapped__
    run.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in kept}
    return run


def example(text: str) -> str:
    """Return an example as it stands at the end of a command's help."""
    return f"[dim]Example:[/dim] {text}".replace("[JSON]", r"\[JSON]")
