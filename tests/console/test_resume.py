"""`perdure resume`: a run goes on from its journal alone, and what is recorded stays."""

from __future__ import annotations

import json
import re
from typing import Any

GATED = '{"gated": ["second"]}'


def test_a_failed_run_goes_on_after_the_cause_is_mended(perdure: Any) -> None:
    perdure("run", "flow.py:fails", "--id", "r1", code=1)
    perdure.write("fixed", "")
    done = perdure("resume", "r1")
    assert re.search(r"first +replayed", done.stdout)
    assert re.search(r"second +done", done.stdout)
    assert done.stdout.splitlines()[-1] == '"mended"'
    assert perdure.ran() == ["first", "second", "second"]


def test_a_run_that_fails_again_exits_1_again(perdure: Any) -> None:
    perdure("run", "flow.py:fails", "--id", "r1", code=1)
    assert "failed at second" in perdure("resume", "r1", code=1).stdout


def test_a_killed_run_goes_on_without_being_told_its_file(perdure: Any) -> None:
    process = perdure.start("run", "flow.py", "--input", GATED, "--id", "r1")
    perdure.until_begun("r1", "second")
    process.kill()
    process.wait()
    perdure.open_gate("second")
    outcome = json.loads(perdure("resume", "r1", "--json").stdout)
    assert outcome["result"] == ["FIRST", "SECOND"]
    assert perdure.ran() == ["first", "second", "second"]


def test_an_answered_run_goes_on(perdure: Any) -> None:
    perdure("run", "flow.py:asks", "--id", "r1")
    perdure("send", "r1", "approval", '{"by": "me"}')
    done = perdure("resume", "r1")
    assert done.stdout.splitlines()[-1] == '{"answer": {"by": "me"}}'
    assert perdure.ran() == ["prepare"]


def test_a_further_failure_is_reopened_by_name(perdure: Any) -> None:
    perdure.write(
        "caught.py",
        """
from pathlib import Path
from perdure.durable import StepError, durable_execution

def breaks():
    if not (Path(__file__).parent / "fixed").exists():
        raise ValueError("broken")
    return "mended"

@durable_execution
def handler(event, context):
    try:
        first = context.step("first", breaks)
    except StepError:
        first = "caught"
    return [first, context.step("second", breaks)]
""",
    )
    perdure("run", "caught.py", "--id", "plain", code=1)
    perdure("run", "caught.py", "--id", "named", code=1)
    perdure.write("fixed", "")
    plain, named = perdure("resume", "plain"), perdure("resume", "named", "--reopen", "first")
    assert plain.stdout.splitlines()[-1] == '["caught", "mended"]'
    assert named.stdout.splitlines()[-1] == '["mended", "mended"]'


def test_a_moved_file_is_asked_for_and_can_be_named(perdure: Any) -> None:
    perdure("run", "flow.py:fails", "--id", "r1", code=1)
    source = perdure.folder / "flow.py"
    perdure.write("elsewhere/flow.py", source.read_text())
    perdure.write("elsewhere/fixed", "")
    source.unlink()
    refused = perdure("resume", "r1", code=2)
    assert "flow.py, which is gone; name it with --file FILE" in refused.stderr
    done = perdure("resume", "r1", "--file", "elsewhere/flow.py")
    assert done.stdout.splitlines()[-1] == '"mended"'


def test_a_renamed_handler_is_missed_by_its_name(perdure: Any) -> None:
    perdure("run", "flow.py:fails", "--id", "r1", code=1)
    text = (perdure.folder / "flow.py").read_text()
    perdure.write("flow.py", text.replace("def fails", "def falters"))
    refused = perdure("resume", "r1", code=2)
    assert "has no handler 'flow.fails', which the run 'r1' needs" in refused.stderr
    assert "flow.falters" in refused.stderr
    assert perdure.status("r1") == "FAILED"


def test_a_finished_run_is_not_resumed(perdure: Any) -> None:
    perdure("run", "flow.py", "--id", "r1")
    assert "only a failed one is resumed" in perdure("resume", "r1", code=2).stderr
    assert "no execution 'r2'" in perdure("resume", "r2", code=2).stderr


def test_values_of_the_files_own_classes_are_found_again(perdure: Any) -> None:
    perdure.write(
        "papers.py",
        """
from pathlib import Path
from pydantic import BaseModel
from perdure.durable import durable_execution
from sibling import FOLDER

class Paper(BaseModel):
    title: str

def breaks():
    if not (FOLDER / "fixed").exists():
        raise ValueError("broken")

@durable_execution
def handler(event, context):
    paper = context.step("read", lambda: Paper(title="On rest"))
    context.step("second", breaks)
    assert type(paper) is Paper
    return paper
""",
    )
    perdure.write("sibling.py", "from pathlib import Path\nFOLDER = Path(__file__).parent\n")
    perdure("run", "papers.py", "--id", "r1", code=1)
    perdure.write("fixed", "")
    assert perdure("resume", "r1").stdout.splitlines()[-1] == '{"title": "On rest"}'


def test_a_handler_of_a_package_is_imported_from_it_again(perdure: Any) -> None:
    perdure.write("flows/__init__.py", "")
    perdure.write("flows/parts.py", "GREETING = 'hello'\n")
    perdure.write(
        "flows/main.py",
        """
from pathlib import Path
from perdure.durable import durable_execution
from .parts import GREETING

@durable_execution
def greet(event, context):
    if not (Path(__file__).parent.parent / "fixed").exists():
        raise ValueError("broken")
    return GREETING
""",
    )
    perdure("run", "flows.main:greet", "--id", "r1", code=1)
    perdure.write("fixed", "")
    assert perdure("resume", "r1").stdout.splitlines()[-1] == '"hello"'
