"""A folder of prompts, checked as a whole before anything is run."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import Problem, PromptError
from .prompt import Prompt
from .source import path_of


def prompt_files(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the `*.prompt` files in a folder and below, sorted.

    Left out are hidden files and folders, and files whose name starts with `_`: those are for
    including, and are checked where they are included.

    Raises:
        PromptError: there is no such folder, or no prompt in it.
    """
    home = path_of(folder)
    if not home.is_dir():
        what = "it is a file; give the folder" if home.exists() else "there is no such folder"
        raise PromptError.at(str(home), None, what)
    found = sorted(path for path in home.rglob("*.prompt") if _counts(path.relative_to(home)))
    if not found:
        raise PromptError.at(str(home), None, "there is no *.prompt file in this folder")
    return found


def check_folder(
    folder: str | os.PathLike[str], *, root: str | os.PathLike[str] | None = None
) -> list[Problem]:
    """Return what is wrong with the prompts in a folder and below; nothing if all is well.

    Args:
        folder: where the `*.prompt` files are.
        root: where their includes are named from, as in `Prompt.load`; each file's own folder if
            not given.

    Raises:
        PromptError: there is no such folder, or no prompt in it.
    """
    return [problem for path in prompt_files(folder) for problem in _problems(path, root)]


def _problems(path: Path, root: str | os.PathLike[str] | None) -> tuple[Problem, ...]:
    try:
        Prompt.load(path, root=root).check()
    except PromptError as error:
        return error.problems
    return ()


def _counts(path: Path) -> bool:
    return not path.name.startswith("_") and not any(part.startswith(".") for part in path.parts)
