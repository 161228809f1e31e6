"""Email as a channel: one mail to each approver, over SMTP or Amazon SES.

The names below are loaded when first used, so that importing this package stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .channel import Email
    from .ses import Ses
    from .smtp import Smtp

_HOMES = {"Email": "channel", "Ses": "ses", "Smtp": "smtp"}

__all__ = ["Email", "Ses", "Smtp"]


def __getattr__(name: str) -> Any:
    module = _HOMES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value
