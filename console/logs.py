"""What handlers log with `context.logger` is shown, unless they arranged for that themselves."""

from __future__ import annotations

import logging
import sys

from .words import safe


def show_logs() -> None:
    """Have the logger `perdure` write lines to standard error, if nobody else listens."""
    logger = logging.getLogger("perdure")
    if logger.handlers or logging.root.handlers:
        return
    logger.addHandler(_ToStderr())
    logger.setLevel(logging.INFO)


class _ToStderr(logging.Handler):
    """Writes to whatever standard error is at the time, so that a live tree stays whole."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        sys.stderr.write(f"{level}{safe(record.getMessage())}\n")
