"""What the primitives share: their prompts, built in or given, and the inputs these are given."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perdure.durable.errors import UsageError

if TYPE_CHECKING:
    from perdure.prompts import Prompt

BUILT_IN = Path(__file__).parent / "prompts"


def prompt_of(prompt: Any, built_in: str) -> Prompt:
    """Return the prompt that was given, read from its file if it is a path; else the built-in one.

    Raises:
        PromptError: there is no such file.
        UsageError: it is no prompt.
    """
    from perdure.prompts import Prompt

    if prompt is None:
        return _built_in(built_in)
    if isinstance(prompt, os.PathLike):
        return Prompt.load(prompt)
    if not isinstance(prompt, Prompt):
        raise UsageError(
            f"prompt= is a Prompt or the pathlib.Path of one, not {type(prompt).__name__}; for a "
            "text write Prompt.from_string(text)"
        )
    return prompt


def inputs_for(prompt: Prompt, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the inputs that a prompt declares."""
    return {name: value for name, value in inputs.items() if name in prompt.inputs}


def lines(hints: str | Sequence[str] | None) -> str:
    """Return hints as one text, several of them as a list."""
    if hints is None or isinstance(hints, str):
        return (hints or "").strip()
    return "\n".join(f"- {hint}" for hint in hints)


@cache
def _built_in(name: str) -> Prompt:
    from perdure.prompts import Prompt

    return Prompt.load(BUILT_IN / f"{name}.prompt")
