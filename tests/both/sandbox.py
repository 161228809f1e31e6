"""One invocation of a file's handler, as Lambda makes it: `python sandbox.py FILE:ATTRIBUTE`.

The file is imported by its name, with its folder on the path. The event comes on stdin, the output
leaves on stdout.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

if __name__ == "__main__":
    file, _, attribute = sys.argv[1].rpartition(":")
    sys.path.insert(0, str(Path(file).parent))
    handler = getattr(importlib.import_module(Path(file).stem), attribute)
    answer, sys.stdout = sys.stdout, sys.stderr
    json.dump(handler(json.load(sys.stdin), object()), answer)
