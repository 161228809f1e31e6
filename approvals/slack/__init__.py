"""Slack: a channel that posts requests, and the receiver of the clicks on them.

The names below are loaded when first used; slack_sdk is loaded when Slack is spoken to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.durable.lazy import lazily

if TYPE_CHECKING:
    from .channel import Slack
    from .incoming import SlackIn

_HOMES = {"channel": "Slack", "incoming": "SlackIn"}

__all__ = ["Slack", "SlackIn"]

__getattr__ = lazily(__name__, _HOMES)
