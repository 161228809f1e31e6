"""Ids by which others complete a callback: which run, which operation, in base64 as AWS has it."""

from __future__ import annotations

import base64
import binascii

from ..errors import CallbackNotFoundError


def callback_id(run: int, operation: str) -> str:
    """Return the id of a callback."""
    return base64.urlsafe_b64encode(f"{run}.{operation}".encode()).decode()


def parse_callback_id(text: str) -> tuple[int, str]:
    """Return the run and the operation that a callback id names.

    Raises:
        CallbackNotFoundError: it is not a callback id.
    """
    try:
        run, _, operation = base64.urlsafe_b64decode(text.encode()).decode().partition(".")
        return int(run), operation
    except (ValueError, binascii.Error, UnicodeError, AttributeError):
        raise CallbackNotFoundError(f"{text!r} is not the id of a callback") from None
