"""Email as a channel: one mail to each approver, over SMTP or Amazon SES.

The names below are loaded when first used, so that importing this package stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.durable.lazy import lazily

if TYPE_CHECKING:
    from .channel import Email
    from .ses import Ses
    from .smtp import Smtp

_HOMES = {"channel": "Email", "ses": "Ses", "smtp": "Smtp"}

__all__ = ["Email", "Ses", "Smtp"]

__getattr__ = lazily(__name__, _HOMES)
