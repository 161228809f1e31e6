"""Prompt templates with typed inputs: files that are checked, versioned, and safe to fill in.

A prompt is a `.prompt` file: front matter that declares its inputs and settings, and a Jinja2 body
in role sections (see `Prompt`). Roles are told apart before anything is filled in, so no value
opens one, and text from outside goes through the filter `untrusted`, which fences it (see
`fence`). The names below are loaded when first used; loading a prompt imports neither a template
engine nor a YAML parser, which the first rendering does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
_MODULES = {name: module for module, names in _HOMES.items() for name in names.split()}

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


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value
