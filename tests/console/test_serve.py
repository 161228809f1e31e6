"""`perdure serve`: whatever falls due is run, and each run has its lines."""

from __future__ import annotations

import re
import signal
from typing import Any


def test_a_served_run_is_woken_by_what_is_sent(perdure: Any) -> None:
    perdure("run", "flow.py:asks", "--id", "r1")
    server = perdure.start("serve", "flow.py")
    perdure.until_said("Ctrl-C stops")
    perdure("send", "r1", "approval", '"yes"')
    perdure.until_said("done")
    assert perdure.status("r1") == "SUCCEEDED"
    server.send_signal(signal.SIGINT)
    assert server.wait(60) == 130
    assert re.search(r"\d\d:\d\d:\d\d  r1 +goes on", perdure.output())
    assert re.search(r"r1 +done +in ", perdure.output())
    assert "stopped; nothing is lost" in perdure.output()
    assert "\x1b" not in perdure.output()
    assert "Traceback" not in perdure.output()


def test_a_due_timer_is_run(perdure: Any) -> None:
    perdure("run", "flow.py:naps", "--input", "2", "--wait", "0", "--id", "r1")
    perdure.start("serve", "flow.py")
    perdure.until_said("done")
    assert re.search(r"r1 +done", perdure.output())


def test_a_killed_run_goes_on(perdure: Any) -> None:
    process = perdure.start("run", "flow.py", "-i", '{"gated": ["second"]}', "--id", "r1")
    perdure.until_begun("r1", "second")
    process.kill()
    process.wait()
    perdure.open_gate("second")
    perdure.start("serve", "flow.py")
    perdure.until_said("done")
    assert re.search(r"r1 +done", perdure.output())
    assert perdure.ran() == ["first", "second", "second"]


def test_a_run_that_fails_says_why(perdure: Any) -> None:
    perdure("run", "flow.py:naps", "--input", "1", "--wait", "0", "--id", "r1")
    perdure.write("flow.py", (perdure.folder / "flow.py").read_text().replace('"rested"', "1 / 0"))
    perdure.start("serve", "flow.py")
    perdure.until_said("ZeroDivisionError")
    assert re.search(r"r1 +failed +ZeroDivisionError: division by zero", perdure.output())


def test_only_the_named_handler_is_served(perdure: Any) -> None:
    perdure.start("serve", "flow.py:asks")
    perdure.until_said("serving flow.asks on")


def test_a_file_without_handlers_is_refused(perdure: Any) -> None:
    perdure.write("empty.py", "")
    assert "holds no handler" in perdure("serve", "empty.py", code=2).stderr
