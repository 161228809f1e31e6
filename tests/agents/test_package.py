"""What importing the package costs, and that its names are what they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import perdure.agents as agents

HEAVY = ("boto3", "botocore", "langchain_core", "pydantic", "jinja2", "yaml", "genai_prices")
USES = (
    "perdure.agents",
    "perdure.agents; perdure.agents.llm; perdure.agents.ledger; perdure.agents.Budget",
    "perdure.prompts; perdure.prompts.Prompt",
)
REPLAY = """
import sys
from perdure.agents import ledger, llm
from perdure.durable import LocalEngine, durable_execution

@durable_execution(name="light")
def handler(event, context):
    text = llm(context, "ask", "Cats are nice.", model="offline").text
    context.wait(86_400, name="go")
    return text

with LocalEngine(sys.argv[1], handlers=[handler]) as engine:
    if sys.argv[2] == "first":
        engine.start(handler, id="run")
        engine.wait_idle()
    else:
        engine.send("run", "go")
        print(engine.get("run").result(timeout=60))
        print(ledger(engine.get("run")).totals.calls)
        print(*sys.modules)
"""


def run(code: str, *arguments: str) -> list[str]:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.splitlines()


@pytest.mark.parametrize("use", USES)
def test_importing_the_package_loads_nothing_heavy(use: str) -> None:
    (modules,) = run(f"import sys; import {use}; print(*sys.modules)")
    assert not set(HEAVY) & set(modules.split())


def test_replaying_a_call_loads_no_model_library(tmp_path: Path) -> None:
    run(REPLAY, str(tmp_path / "journal.db"), "first")
    text, calls, modules = run(REPLAY, str(tmp_path / "journal.db"), "again")
    assert (text, calls) == ("Cats are nice.", "1")
    assert not set(HEAVY) & set(modules.split())


def test_no_name_of_the_package_is_a_module_of_it() -> None:
    modules = {path.stem for path in Path(agents.__file__).parent.glob("*.py")}
    assert not modules & set(agents.__all__)
    homes = agents._HOMES
    assert set(agents.__all__) == {name for names in homes.values() for name in names.split()}
