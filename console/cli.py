"""The command `perdure`: reads the command line, has it done, and tells the shell how it went.

Exit codes: 0 done or suspended, 1 the run failed, 2 the user's mistake (one line, no traceback),
130 stopped by Ctrl-C. The engine and the displays are imported by the commands that need them.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any, NoReturn

import typer

from perdure.durable.errors import PerdureError, UsageError

from .cloud import commands as of_cloud
from .options import HERE, Id, Journal, Json, Limit, Wait, example, located
from .people import commands as of_people
from .place import DEFAULT, Place

MISTAKE = 2
_CLOSED_PIPE = 141
_WAIT = 60.0

app = typer.Typer(
    name="perdure",
    help="Run pipelines whose finished steps are never run again.",
    epilog="""Begin with: perdure run flow.py --input '{"document_id": "d1"}'""",
    add_completion=False,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

prompts = typer.Typer(
    help="Look after the prompts of a pipeline.",
    invoke_without_command=True,
    rich_markup_mode="rich",
)
app.add_typer(of_people)
app.add_typer(of_cloud)
app.add_typer(prompts, name="prompts")


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Run pipelines whose finished steps are never run again."""
    if version:
        print(f"perdure {_version()}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help(), end="")
        raise typer.Exit


@app.command(epilog=example("""perdure run flow.py --input '{"document_id": "d1"}' --id doc-1"""))
@located
def run(
    *,
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE[:HANDLER]",
            help="A Python file, or package.module:handler. The handler may be left out if it is "
            "the only one or is called `handler`. With --engine aws the function has its own.",
        ),
    ] = None,
    input: Annotated[
        str, typer.Option("--input", "-i", metavar="JSON|@FILE", help="The event; @- reads stdin.")
    ] = "null",
    id: Annotated[
        str | None,
        typer.Option("--id", metavar="ID", help="The run's id; the same id and input go on."),
    ] = None,
    place: Place = HERE,
    wait: Wait = _WAIT,
    json: Json = False,
) -> None:
    """Start a run, or go on with it, and show it until it ends or only waits.

    Ctrl-C and kill -9 lose nothing: the same command with the same --id goes on where it was.
    """
    from .acting import read_json
    from .following import run as run_there
    from .running import Following
    from .running import run as run_here

    event, how = read_json(input, "--input"), Following(place, wait, json)
    if place.function is not None:
        raise typer.Exit(run_there(target, event, id, how))
    if target is None:
        raise UsageError("Missing argument: the file of the handler, perdure run FILE")
    raise typer.Exit(run_here(target, event, id, how))


@app.command(epilog=example("perdure resume doc-1"))
@located
def resume(
    *,
    id: Id,
    reopen: Annotated[
        list[str] | None,
        typer.Option(
            "--reopen", metavar="NAME", help="Also try this failed operation again; repeatable."
        ),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option("--file", metavar="FILE", help="Where the handler is now, if it moved."),
    ] = None,
    place: Place = HERE,
    wait: Wait = _WAIT,
    json: Json = False,
) -> None:
    """Go on with a failed, killed or waiting run: what failed is tried again, the rest stays.

    The handler's file is recorded with the run and loaded as it is now.
    """
    from .following import resume as resume_there
    from .running import Following
    from .running import resume as resume_here

    how = Following(place, wait, json)
    resume_it = resume_here if place.function is None else resume_there
    raise typer.Exit(resume_it(id, reopen or [], file, how))


@app.command("list", epilog=example("perdure list --status waiting"))
@located
def list_(
    status: Annotated[
        str | None,
        typer.Option(
            "--status",
            "-s",
            metavar="STATUS",
            help="running, waiting, succeeded, failed, cancelled or timed_out.",
        ),
    ] = None,
    pending: Annotated[
        bool, typer.Option("--pending", help="List what waits for a person, as `inbox` does.")
    ] = False,
    limit: Limit = 50,
    place: Place = HERE,
    json: Json = False,
) -> None:
    """List the newest runs: their state, their cost, and what they wait for."""
    if pending:
        from .inbox import inbox as inbox_of

        inbox_of(place, limit, json)
        return
    from .looking import list_runs

    list_runs(place, status, limit, json)


@app.command(epilog=example("perdure show doc-1"))
@located
def show(
    *,
    id: Id,
    call: Annotated[
        str | None,
        typer.Option(
            "--call", metavar="PATH", help="Show this model call: its prompt, answer and cost."
        ),
    ] = None,
    place: Place = HERE,
    json: Json = False,
) -> None:
    """Show one run: its operations, its result or error, its cost, and how to go on."""
    from .calls import show_call
    from .looking import show as show_it

    if call is None:
        show_it(place, id, json)
    else:
        show_call(place, id, call, json)


@app.command(epilog=example("perdure ledger doc-1"))
@located
def ledger(
    *,
    id: Annotated[
        str | None, typer.Argument(metavar="ID", help="The run whose calls to list.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, metavar="N", help="How many of the newest runs.")
    ] = 50,
    place: Place = HERE,
    json: Json = False,
) -> None:
    """Show what model calls cost: the totals of the newest runs, or each call of one."""
    from . import ledgers

    if id is None:
        ledgers.runs(place, limit, json)
    else:
        ledgers.one(place, id, json)


@app.command(epilog=example("perdure history doc-1 --json"))
@located
def history(id: Id, place: Place = HERE, json: Json = False) -> None:
    """List a run's events, in the shape of AWS's durable functions."""
    from .looking import history as history_of

    history_of(place, id, json)


@app.command(epilog=example("""perdure send doc-1 approval '{"approved": true}'"""))
@located
def send(
    id: Id,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What it waits for, or its path: review[3]/vote")
    ],
    payload: Annotated[
        str | None,
        typer.Argument(metavar="JSON|@FILE", help="The event; without it the handler gets True."),
    ] = None,
    place: Place = HERE,
) -> None:
    """Send an event to a waiting run; whoever serves it, or `perdure resume`, goes on with it."""
    from .acting import send as send_it

    send_it(place, id, name, payload)


@app.command(epilog=example("perdure cancel doc-1 --reason 'wrong document'"))
@located
def cancel(
    id: Id,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT")] = "cancelled",
    place: Place = HERE,
) -> None:
    """End a run, and tell those it asked; a step in flight may still record its result."""
    from .acting import cancel as cancel_it

    cancel_it(place, id, reason)


@app.command(epilog=example("perdure delete doc-1"))
@located
def delete(id: Id, place: Place = HERE) -> None:
    """Remove an ended run from the journal, for good."""
    from .acting import delete as delete_it

    delete_it(place, id)


@app.command(epilog=example("perdure serve flow.py other.py"))
def serve(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Python files, or package.module:handler."),
    ],
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Where the pages of approvals listen.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            min=0,
            max=65_535,
            metavar="N",
            help="0 is any that is free. By default 8400, or another if that is taken.",
        ),
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(
            "--base-url",
            envvar="PERDURE_BASE_URL",
            metavar="URL",
            help="Where others reach the pages, for the links in messages.",
        ),
    ] = None,
    web: Annotated[bool, typer.Option("--web/--no-web", help="Serve the pages.")] = True,
    journal: Journal = DEFAULT,
) -> None:
    """Stay up and run whatever falls due: timers, retries, events, runs that others start.

    It also serves the inbox and the pages on which people decide, to this machine alone unless
    --host says otherwise.
    """
    from .reception import Address
    from .serving import serve as serve_them

    raise typer.Exit(serve_them(files, Place(journal), Address(host, port, base_url, web)))


@prompts.callback()
def prompts_options(context: typer.Context) -> None:
    """Look after the prompts of a pipeline."""
    if context.invoked_subcommand is None:
        print(context.get_help(), end="")
        raise typer.Exit


@prompts.command(epilog=example("perdure prompts check prompts/"))
def check(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="The folder with the prompts.")],
    json: Json = False,
) -> None:
    """Check every prompt in a folder; exit with 1 if one breaks a rule."""
    from .prompting import check as check_them

    raise typer.Exit(check_them(folder, json))


def main() -> NoReturn:
    """Run the command line and exit."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace", line_buffering=True)
    sys.exit(_run())


def _run() -> int:
    try:
        code: Any = app(standalone_mode=False, prog_name="perdure")
        return code if isinstance(code, int) else 0
    except PerdureError as error:
        return _mistake(str(error), getattr(error, "lines", []))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _CLOSED_PIPE
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        return _misread(error)


def _misread(error: Any) -> int:
    """Report what the command line's parser found."""
    context = getattr(error, "ctx", None)
    where = context.command_path if context is not None else "perdure"
    message = error.format_message().rstrip(".").replace("\n", " ")
    return _mistake(f"{message}; see `{where} --help`")


def _mistake(message: str, lines: list[str] | None = None) -> int:
    from .screen import say, stderr
    from .words import safe

    console = stderr()
    said = safe(message).replace("\n", " ")
    from rich.text import Text

    say(console, Text.assemble(("error: ", "bold red"), (said, "red")))
    for line in lines or []:
        say(console, f"  {line}", "dim")
    return MISTAKE


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("perdure")
    except PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    main()
