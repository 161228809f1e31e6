"""The first process of a crash case: `python -m conformance.doomed ID JOURNAL EXECUTION`.

The event comes in the environment; log messages leave on stdout, one JSON string a line.
"""

import json
import logging
import os
import sys

from perdure.durable import Limits, LocalEngine
from perdure.durable.testing import ManualClock

from . import child_handlers, step_handlers  # noqa: F401 - they fill HANDLERS
from .dying import MUST_DIE, PATIENCE
from .judge import message
from .registry import HANDLERS


class LinesOfJson(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(message(record))


def main(id: str, journal: str, execution: str) -> None:
    lines = logging.StreamHandler(sys.stdout)
    lines.setFormatter(LinesOfJson())
    logger = logging.getLogger("perdure")
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    handler = HANDLERS[id]
    event = json.loads(os.environ[MUST_DIE])
    clock = ManualClock()
    with LocalEngine(journal, handlers=[handler], clock=clock, limits=Limits.aws()) as engine:
        engine.start(handler, event, id=execution).result(timeout=PATIENCE)


if __name__ == "__main__":
    main(*sys.argv[1:])
