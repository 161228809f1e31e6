"""A user's mistake is one line on standard error and exit code 2; never a traceback of ours."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "nofile.py"], "nofile.py does not exist"),
        (["run", "."], "is a folder"),
        (["run", "nomodule"], "there is no file or module 'nomodule'"),
        (["run", "flow.py:nobody"], "no handler 'nobody'; it has handler, asks, fails, naps"),
        (["run", "flow.py", "--input", "{"], "--input is not JSON"),
        (["run", "flow.py", "--input", "NaN"], "--input is not JSON"),
        (["run", "flow.py", "--input", "hello"], "a text needs its quotes: '\"hello\"'"),
        (["run", "flow.py", "--input", "@none.json"], "cannot be read from none.json"),
        (["run", "flow.py", "--id", "no spaces"], "1 to 64 letters"),
        (["run", "flow.py", "--wait", "-1"], "--wait"),
        (["run", "flow.py", "--frob"], "No such option: --frob"),
        (["run"], "Missing argument"),
        (["frob"], "No such command 'frob'"),
        (["list", "--status", "odd"], "--status is one of running, waiting"),
        (["show", "nobody"], "no execution 'nobody'"),
        (["history", "nobody"], "no execution 'nobody'"),
        (["ledger", "nobody"], "no execution 'nobody'"),
        (["show", "nobody", "--call", "x"], "no execution 'nobody'"),
        (["cancel", "nobody"], "no execution 'nobody'"),
        (["delete", "nobody"], "no execution 'nobody'"),
        (["send", "nobody", "x"], "no execution 'nobody'"),
        (["serve", "nofile.py"], "nofile.py does not exist"),
    ],
)
def test_a_mistake_is_one_line(shared: Any, words: list[str], said: str) -> None:
    with shared.engine():  # makes a journal
        done = shared(*words, code=2)
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_id_in_use_is_refused(perdure: Any) -> None:
    perdure("run", "flow.py", "--id", "r1")
    assert "another input" in perdure("run", "flow.py", "-i", "{}", "--id", "r1", code=2).stderr
    assert "runs 'flow.handler'" in perdure("run", "flow.py:asks", "--id", "r1", code=2).stderr
    assert perdure.ran() == ["first", "second"]


def test_another_programs_file_is_not_touched(perdure: Any) -> None:
    path = perdure.folder / "other.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE t (a)")
        other.commit()
    before = path.read_bytes()
    for words in (["run", "flow.py"], ["list"], ["serve", "flow.py"]):
        assert "another program" in perdure(*words, "--journal", "other.db", code=2).stderr
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "said", "line"),
    [
        ("import nothing_of_this_name", "ModuleNotFoundError", "import nothing_of_this_name"),
        ("def f(:\n    pass", "SyntaxError", "def f(:"),
        ("def f():\n    1 / 0\nf()", "ZeroDivisionError: division by zero", "1 / 0"),
        ("import sys\nsys.exit(3)", "SystemExit: 3", "sys.exit(3)"),
        (
            "from perdure.durable import durable_execution\n@durable_execution\ndef f(a): pass",
            "must take (event, context)",
            "@durable_execution",
        ),
    ],
)
def test_an_error_in_the_users_file_shows_the_users_lines(
    perdure: Any, text: str, said: str, line: str
) -> None:
    perdure.write("broken.py", text)
    done = perdure("run", "broken.py", code=2)
    assert "broken.py could not be loaded: " in done.stderr
    assert said in done.stderr
    assert 'broken.py", line ' in done.stderr
    assert line in done.stderr
    assert "/console/" not in done.stderr
    assert "frozen" not in done.stderr
    assert not perdure.journal.exists()


def test_several_handlers_have_to_be_told_apart(perdure: Any) -> None:
    perdure.write(
        "two.py", (perdure.folder / "flow.py").read_text().replace("def handler", "def it")
    )
    refused = perdure("run", "two.py", code=2)
    assert "several handlers: it, asks, fails, naps; choose one, like two.py:it" in refused.stderr
    perdure("run", "two.py:it")


@pytest.mark.parametrize("name", ["json.py", "rich.py"])
def test_a_file_that_would_hide_a_module_is_refused(perdure: Any, name: str) -> None:
    perdure.write(f"in/{name}", "")
    assert "rename the file" in perdure("run", f"in/{name}", code=2).stderr


def test_help_and_version_are_no_mistakes(perdure: Any) -> None:
    assert perdure("--version").stdout.startswith("perdure ")
    assert "Commands" in perdure(FORCE_COLOR="").stdout
    commands = ("run", "resume", "list", "show", "ledger", "history", "send", "cancel", "serve")
    for command in commands:
        assert f"Example: perdure {command}" in perdure(command, "--help", FORCE_COLOR="").stdout


def test_help_is_cheap() -> None:
    code = (
        "import sys, contextlib, io\n"
        "from perdure.console import cli\n"
        "sys.argv = ['perdure', '--help']\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    cli.main()\n"
        "heavy = {'boto3', 'langchain_core', 'slack_sdk', 'pydantic', 'sqlite3', 'starlette'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
