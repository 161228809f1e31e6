"""Start as a Lambda sandbox does: import the function's module, then handle one invocation.

The event comes in, the output and the times go out: `python bootstrap.py MODULE`.
"""

import json
import sys
from importlib import import_module
from types import SimpleNamespace

from marks import MARKS

if __name__ == "__main__":
    handler = import_module(sys.argv[1]).handler
    context = SimpleNamespace(aws_request_id="request-1", invoked_function_arn=None)
    output = handler(json.load(sys.stdin), context)
    json.dump({"output": output, "marks": MARKS}, sys.stdout)
