"""One invocation of a crash case: `python -m conformance.sandbox ID`, as Lambda runs a handler.

The event is the first line of stdin; the output leaves on stdout, log messages on stderr, one JSON
string a line. If the process was started to die, the end of stdin is its word.
"""

import json
import logging
import sys

from . import child_handlers, step_handlers  # noqa: F401 - they fill HANDLERS
from .doomed import LinesOfJson
from .registry import HANDLERS


def main(id: str) -> None:
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(LinesOfJson())
    logger = logging.getLogger("perdure")
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    event = json.loads(sys.stdin.readline())
    print(json.dumps(HANDLERS[id](event, object())))


if __name__ == "__main__":
    main(*sys.argv[1:])
