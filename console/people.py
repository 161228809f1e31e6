"""The commands by which a person decides what runs ask, looks at it, and signs in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from perdure.durable.errors import UsageError

from .options import HERE, Id, Journal, Json, Limit, example, located
from .place import DEFAULT, Place

if TYPE_CHECKING:
    from perdure.approvals.requests import Action

commands = typer.Typer()

Name = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME]", help="The approval's name or path, or a wait's, if several are open."
    ),
]
Comment = Annotated[
    str | None, typer.Option("--comment", "-c", metavar="TEXT", help="Kept with the decision.")
]
Confirm = Annotated[
    str | None, typer.Option("--confirm", metavar="WORD", help="The word the request asks for.")
]
Value = Annotated[
    list[str],
    typer.Argument(
        metavar="[NAME] JSON|TEXT|@FILE", help="The name, if several are open, and the value."
    ),
]


@commands.command(epilog=example("perdure inbox"))
@located
def inbox(limit: Limit = 50, place: Place = HERE, json: Json = False) -> None:
    """List what waits for a person, in all runs, and what to type."""
    from .inbox import inbox as inbox_of

    inbox_of(place, limit, json)


@commands.command(epilog=example("perdure approve doc-1 --comment 'as discussed'"))
@located
def approve(
    id: Id,
    name: Name = None,
    comment: Comment = None,
    confirm: Confirm = None,
    place: Place = HERE,
) -> None:
    """Approve what a run asks, as the account you are on the machine; a named wait gets true."""
    _decide(place, id, name, "approve", comment=comment, confirm=confirm)


@commands.command(epilog=example("perdure reject doc-1 --comment 'the figures are old'"))
@located
def reject(id: Id, name: Name = None, comment: Comment = None, place: Place = HERE) -> None:
    """Reject what a run asks; a named wait gets false."""
    _decide(place, id, name, "reject", comment=comment)


@commands.command(epilog=example("""perdure respond doc-1 '{"limit": 100}'"""))
@located
def respond(
    id: Id,
    value: Value,
    comment: Comment = None,
    confirm: Confirm = None,
    place: Place = HERE,
) -> None:
    """Answer what a run asks, with JSON or text; a named wait gets that."""
    name, given = _name_and_value(value)
    _decide(place, id, name, "respond", comment=comment, confirm=confirm, value=given)


@commands.command(epilog=example("perdure edit doc-1 @report.md"))
@located
def edit(
    id: Id,
    value: Value,
    comment: Comment = None,
    confirm: Confirm = None,
    place: Place = HERE,
) -> None:
    """Approve with changes: what you give is taken in place of what was shown."""
    name, given = _name_and_value(value)
    _decide(place, id, name, "edit", comment=comment, confirm=confirm, value=given)


@commands.command(epilog=example("perdure audit --output approvals.jsonl"))
@located
def audit(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="The runs; all, if none is named.")
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="Replaced once complete.")
    ] = None,
    place: Place = HERE,
) -> None:
    """Export what was asked and decided, a line of JSON for each approval; it holds no secret."""
    from .auditing import export

    export(place, ids or [], output)


@commands.command(epilog=example("perdure login --open"))
def login(
    *,
    base_url: Annotated[
        str | None,
        typer.Option("--base-url", metavar="URL", help="The server; by default the one that runs."),
    ] = None,
    open: Annotated[
        bool,
        typer.Option(
            "--open",
            help="Open it in a browser; its command line shows the link to others on this machine.",
        ),
    ] = False,
    journal: Journal = DEFAULT,
) -> None:
    """Print a link that signs a browser in to the inbox as you; it is good for five minutes."""
    from .signing_in import login as login_link

    login_link(Place(journal), base_url, open)


def _decide(
    place: Place,
    id: str,
    name: str | None,
    action: Action,
    *,
    comment: str | None = None,
    confirm: str | None = None,
    value: str | None = None,
) -> None:
    from .deciding import Answer, decide

    decide(place, id, name, Answer(action, comment, confirm, value))


def _name_and_value(words: list[str]) -> tuple[str | None, str]:
    if len(words) > 2:
        raise UsageError("give the value in quotes: [NAME] JSON, or a text, or @FILE")
    return (words[0] if len(words) == 2 else None), words[-1]
