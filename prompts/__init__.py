"""Prompt templates with typed inputs: files that are checked, versioned, and safe to fill in.

A prompt is a `.prompt` file: front matter that declares its inputs and settings, and a Jinja2 body
in role sections (see `Prompt`). Roles are told apart before anything is filled in, so no value
opens one, and text from outside goes through the filter `untrusted`, which fences it (see
`fence`). The names below are loaded when first used; loading a prompt imports neither a template
engine nor a YAML parser, which the first rendering does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.durable.lazy import lazily

if TYPE_CHECKING:
    from .errors import Problem, PromptError
    from .fencing import fence
    from .folder import check_folder
    from .inputs import InputField, InputType
    from .prompt import Message, Prompt, Rendered

_HOMES = {
    "errors": "Problem PromptError",
    "fencing": "fence",
    "folder": "check_folder",
    "inputs": "InputField InputType",
    "prompt": "Message Prompt Rendered",
}

__all__ = [
    "InputField",
    "InputType",
    "Message",
    "Problem",
    "Prompt",
    "PromptError",
    "Rendered",
    "check_folder",
    "fence",
]

__getattr__ = lazily(__name__, _HOMES)
