"""The options that many commands share, and how their examples are written."""

from __future__ import annotations

from typing import Annotated

import typer

from .place import VARIABLE

Journal = Annotated[
    str, typer.Option("--journal", "-j", envvar=VARIABLE, metavar="PATH", help="The journal file.")
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


def example(text: str) -> str:
    """Return an example as it stands at the end of a command's help."""
    return f"[dim]Example:[/dim] {text}".replace("[JSON]", r"\[JSON]")
