"""Slack: a channel that posts requests, and the receiver of the clicks on them.

The names below are loaded when first used; slack_sdk is loaded when Slack is spoken to.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .channel import Slack
    from .incoming import SlackIn

_MODULES = {"Slack": "channel", "SlackIn": "incoming"}

__all__ = ["Slack", "SlackIn"]


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value
