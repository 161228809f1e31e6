"""`prompts check`: what is wrong with a folder of prompts, one line a problem, or as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.text import Text

from perdure.prompts.folder import check_folder, prompt_files

from .screen import say, stdout
from .words import safe

if TYPE_CHECKING:
    from perdure.prompts import Problem


def check(folder: str, as_json: bool) -> int:
    """Check the prompts in a folder; return 0 if all are well, 1 if a rule is broken.

    Raises:
        UsageError: there is no such folder, or no prompt in it.
    """
    count = len(prompt_files(folder))
    problems = check_folder(folder)
    if as_json:
        report = {"prompts": count, "problems": [asdict(problem) for problem in problems]}
        print(json.dumps(report, indent=2))
    else:
        _print(problems, count)
    return 1 if problems else 0


def _print(problems: list[Problem], count: int) -> None:
    console = stdout()
    for problem in problems:
        place = problem.path if problem.line is None else f"{problem.path}:{problem.line}"
        said = safe(problem.message).replace("\n", " ")
        say(console, Text.assemble((safe(place), "bold"), ": ", said))
    checked = _counted(count, "prompt")
    if problems:
        say(console, f"{_counted(len(problems), 'problem')} in {checked}", "red")
    else:
        say(console, f"{checked}, no problems", "green")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
