"""What a person sees of model calls: cost, prompts and answers, what is saved and in doubt."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from perdure.agents.lines import KIND
from perdure.console.costs import CALL, dollars
from perdure.console.words import ending

MODELS = (Path(__file__).parent / "programs" / "models.py").read_text()
COST = "$0.0045"
"""Of 1,234 tokens in and 56 out, at $3 and $15 a million."""


@pytest.fixture(scope="module")
def outputs(shared: Any) -> dict[str, str]:
    """A run of each kind in one journal; what the commands said."""
    shared.write("models.py", MODELS)
    codes = {"plain": 0, "talks": 0, "repairs": 0, "offline": 0, "breaks": 1}
    return {id: shared("run", f"models.py:{id}", "--id", id, code=codes[id]).stdout for id in codes}


@pytest.fixture(scope="module")
def told(shared: Any, outputs: dict[str, str]) -> Any:
    """The journal of those runs; tests leave it as it is."""
    return shared


@pytest.fixture
def modelled(perdure: Any) -> Any:
    perdure.write("models.py", MODELS)
    return perdure


# The ledger


def test_the_ledger_of_a_run_has_a_row_for_each_call_then_sums(told: Any) -> None:
    rows = [re.split(r"  +", line) for line in told("ledger", "talks").stdout.splitlines()]
    assert rows[0][:3] == ["CALL", "MODEL", "ATTEMPTS"]
    assert rows[1][:6] == ["greet", "scripted", "answered", "1,234", "56", COST]
    assert rows[2][:6] == ["more", "scripted", "answered", "1,234", "56", COST]
    assert ["scripted", "2", "2,468", "112", "$0.0091"] in rows
    assert rows[-1] == ["2 calls, 2,468 tokens in, 112 out, $0.0091 (simulated price)"]


def test_the_ledger_of_all_runs_has_their_totals_and_the_sum(told: Any) -> None:
    lines = told("ledger").stdout.splitlines()
    rows = {line.split()[0]: re.split(r"  +", line) for line in lines if line}
    assert rows["talks"][1:7] == [
        *("models.talks", "succeeded", "2", "2,468", "112", "$0.0091 (simulated)")
    ]
    assert rows["plain"][-1] == "no model calls"
    assert re.match(r"5 calls, 4,9\d\d tokens in, .* \+ 2 unpriced \(simulated price\)", lines[-1])
    (newest,) = json.loads(told("ledger", "-n", "1", "--json").stdout)["runs"]
    assert (newest["id"], newest["calls"], newest["uncertain"]) == ("breaks", 0, 1)


def test_a_model_without_a_price_is_unpriced_and_never_free(told: Any) -> None:
    for shown in (told("ledger", "repairs"), told("show", "repairs"), told("list")):
        assert "unpriced" in shown.stdout
    assert "$" not in told("ledger", "repairs").stdout
    (run,) = [r for r in json.loads(told("list", "--json").stdout) if r["id"] == "repairs"]
    assert (run["calls"], run["usd"], run["unpriced"]) == (2, None, 2)


def test_what_may_have_been_billed_is_told_apart_with_its_most(told: Any) -> None:
    shown = told("ledger", "breaks").stdout
    assert re.search(r"uncertain, never sent .*uncertain: at most \$0\.06\d\d; .*too long", shown)
    assert re.search(r"^0 calls; uncertain 1, at most \$0\.06\d\d; not billed 1$", shown, re.M)


def test_a_run_without_model_calls_says_so(told: Any) -> None:
    assert told("ledger", "plain").stdout == "no model calls\n"
    assert json.loads(told("ledger", "plain", "--json").stdout)["calls"] == []
    shown = told("show", "plain").stdout
    assert "call" not in shown
    assert "$" not in shown


def test_the_ledger_is_json_for_programs(told: Any) -> None:
    found = json.loads(told("ledger", "talks", "--json").stdout)
    assert [each["path"] for each in found["calls"]] == ["greet", "more"]
    assert found["totals"]["usd"] == pytest.approx(0.009084)
    assert found["prices"] == ["simulated"]


# show and list


def test_show_has_tokens_and_dollars_of_each_call_and_their_total(told: Any) -> None:
    shown = told("show", "talks").stdout
    assert len(re.findall(rf"1,234 → 56 tokens, {re.escape(COST)}", shown)) == 2
    assert "2 calls, 2,468 tokens in, 112 out, $0.0091 (simulated price)" in shown
    assert shown.splitlines()[-1] == '"done"'


def test_show_says_what_a_failed_call_said(told: Any) -> None:
    shown = told("show", "breaks").stdout
    assert re.search(r"✗ try .*after 2 attempts, .*InvalidRequest: too long; uncertain: ", shown)
    assert "langchain" not in shown


def test_show_as_json_has_the_ledger_and_each_call(told: Any) -> None:
    shown = json.loads(told("show", "talks", "--json").stdout)
    assert shown["ledger"]["totals"]["calls"] == 2
    greet, _, after = shown["operations"]
    assert greet["call"]["model"] == "scripted"
    assert greet["call"]["usage"]["input"] == 1234
    assert [each["outcome"] for each in greet["call"]["attempts"]] == ["answered"]
    assert "call" not in after


def test_one_call_is_shown_with_its_prompt_and_answer_and_steers_nothing(told: Any) -> None:
    shown = told("show", "talks", "--call", "greet").stdout
    assert re.search(r"tokens +1,234 in, 56 out\n", shown)
    assert re.search(rf"cost +{re.escape(COST)} \(simulated\)\n", shown)
    assert re.search(r"request +scripted-1\n", shown)
    parts = shown.split("\n\n")[1:]
    assert parts == [
        "system\n  Be kind",
        "user\n  Say [red]hello",
        "answer\n  Hello \\x1b[2J there.\n",
    ]


def test_one_call_is_shown_with_its_tools_and_errors(told: Any) -> None:
    shown = told("show", "repairs", "--call", "count/repair").stdout
    assert 'assistant\n  calls Count {"number": "x"}' in shown
    assert re.search(r"tool Count \(error\)\n  .*does not fit Count", shown)
    assert shown.endswith('answer\n  calls Count {"number": 3}\n')
    failed = told("show", "breaks", "--call", "try").stdout
    assert re.search(r"attempts +uncertain, never sent\n", failed)
    assert failed.splitlines()[-1].endswith("InvalidRequest: too long")


def test_a_prompt_that_is_not_kept_is_said_to_be_so(told: Any) -> None:
    shown = told("show", "talks", "--call", "more").stdout
    assert re.search(r"the prompt is not kept, only its digest [0-9a-f]{12}\n", shown)
    assert "Secret" not in told("show", "talks", "--call", "more", "--json").stdout


def test_one_call_as_json_has_its_messages_and_answer(told: Any) -> None:
    shown = json.loads(told("show", "talks", "--call", "greet", "--json").stdout)
    assert [each["data"]["content"] for each in shown["messages"]] == ["Be kind", "Say [red]hello"]
    assert shown["answer"]["data"]["content"] == "Hello \x1b[2J there."
    assert shown["stop_reason"] == "end_turn"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["talks", "--call", "none"], "has no model call 'none'; it has greet, more"),
        (["talks", "--call", "after"], "'after' of the run 'talks' is no model call; it has greet"),
        (["plain", "--call", "none"], "has no model call 'none'; it made none"),
    ],
)
def test_a_call_that_is_not_there_is_one_line_with_those_that_are(
    told: Any, words: list[str], said: str
) -> None:
    done = told("show", *words, code=2)
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_list_has_a_cost_for_runs_with_model_calls_only(told: Any) -> None:
    lines = told("list").stdout.splitlines()
    column = slice(lines[0].index("COST"), lines[0].index("WAITS FOR"))
    costs = {line.split()[0]: line[column].strip() for line in lines[1:]}
    assert costs["talks"] == "$0.0091 (simulated)"
    assert costs["repairs"] == "unpriced"
    assert costs["plain"] == ""
    assert costs["breaks"].startswith("at most $0.06")


LIGHT = """
import contextlib, io, sys
from perdure.console import calls, cli, ledgers, looking
from perdure.console.place import DEFAULT, Place

def loaded(*names):
    return sorted(set(names) & set(sys.modules))

def quietly(show):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        show()
    assert "$0.00" in out.getvalue()

place = Place(DEFAULT)
quietly(lambda: ledgers.runs(place, 50, False))
quietly(lambda: ledgers.one(place, "talks", False))
quietly(lambda: looking.show(place, "talks", False))
quietly(lambda: looking.list_runs(place, None, 50, False))
quietly(lambda: calls.show_call(place, "talks", "greet", False))
print(loaded("boto3", "botocore", "jinja2", "langchain_core", "pydantic", "yaml"))
for words in (["ledger"], ["show", "talks"], ["list"]):
    sys.argv = ["perdure", *words]
    quietly(cli.main)
print(loaded("boto3", "botocore", "jinja2", "langchain_core", "yaml"))
"""
"""Ours loads no pydantic; a version of typer does, to read the command line."""


def test_looking_at_a_run_with_model_calls_loads_no_model_library(told: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", LIGHT],
        cwd=told.folder,
        env=told.environment({}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[]\n[]\n", "")


# run and resume


def test_a_run_ends_with_what_its_calls_cost(told: Any, outputs: dict[str, str]) -> None:
    shown = outputs["talks"]
    assert re.search(r"greet +done +\d+ ms  1,234 → 56 tokens, \$0\.0045\n", shown)
    assert "\n2 calls, 2,468 tokens in, 112 out, $0.0091 (simulated price)\n" in shown
    again = told("run", "models.py:talks", "--id", "talks", "--json").stdout
    assert json.loads(again)["ledger"]["totals"]["calls"] == 2


def test_the_offline_stand_in_is_said_to_be_one(told: Any, outputs: dict[str, str]) -> None:
    said = "offline stand-in: extracts sentences, does not reason; prices are simulated\n"
    assert said in outputs["offline"]
    assert said in told("ledger", "offline").stdout
    assert "stand-in" not in outputs["talks"]


def test_what_replay_saved_is_told(modelled: Any) -> None:
    modelled("run", "models.py:asks", "--id", "r1")
    modelled("send", "r1", "approval")
    shown = modelled("resume", "r1").stdout
    assert re.search(rf"greet +replayed .*{re.escape(COST)}", shown)
    assert f"; saved by replay {COST}\n" in shown


def test_a_budget_that_is_used_up_shows_how_to_raise_it(modelled: Any) -> None:
    shown = modelled("run", "models.py:runs_dry", "-i", '"ask"', "--id", "r1").stdout
    assert "perdure send r1 budget '{\"usd\": 5}'  sets new limits" in shown
    assert "perdure send r1 budget '{\"usd\": 5}'" in modelled("show", "r1").stdout
    modelled("send", "r1", "budget", '{"usd": 5}')
    assert "1 call, 1,234 tokens in" in modelled("resume", "r1").stdout


def test_a_refused_call_shows_the_budgets_words_and_the_users_line(modelled: Any) -> None:
    shown = modelled("run", "models.py:runs_dry", "-i", '"raise"', "--id", "r1", code=1).stdout
    assert re.search(r"failed at greet: \S*BudgetExceeded: the budget 'budget' allows", shown)
    assert "in runs_dry" in shown
    assert "agents/" not in shown
    assert "over budget" in modelled("ledger", "r1").stdout


def test_a_call_whose_process_died_is_in_doubt_and_can_be_answered(modelled: Any) -> None:
    modelled("run", "models.py:dies", "-i", '"ask"', "--id", "r1", code=9)
    shown = modelled("show", "r1").stdout
    assert re.search(r"! greet +interrupted +in doubt: at most \$0\.06", shown)
    assert re.search(
        r"greet +scripted +in doubt +in doubt: at most", modelled("ledger", "r1").stdout
    )
    asked = modelled("resume", "r1").stdout
    assert "perdure send r1 greet/in-doubt '\"retry\"'" in asked
    assert "perdure send r1 greet/in-doubt '\"fail\"'" in asked
    modelled.write("lives", "")
    modelled("send", "r1", "greet/in-doubt", '"retry"')
    shown = modelled("resume", "r1").stdout
    assert re.search(rf"{re.escape(COST)}, attempt 2; in doubt: at most", shown)
    assert re.search(r"1 call, .* \(simulated price\); in doubt 1, at most \$0\.06", shown)


def test_an_event_of_the_handlers_own_is_no_question_of_a_budget(modelled: Any) -> None:
    modelled.write(
        "own.py",
        "from perdure.durable import Duration, durable_execution\n\n\n"
        "@durable_execution\ndef handler(event, context):\n"
        "    return context.wait(Duration.from_days(1), name='budget')\n",
    )
    assert "perdure send r1 budget [JSON]" in modelled("run", "own.py", "--id", "r1").stdout


def test_a_terminal_shows_what_a_model_says_while_it_says_it(modelled: Any) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        modelled.command("run", "models.py:streams", "--id", "r1"),
        cwd=modelled.folder,
        env=modelled.environment({"TERM": "xterm-256color", "COLUMNS": "60", "LINES": "24"}),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = ""
    while "its last" not in shown:
        shown += os.read(ours, 65536).decode(errors="replace")
    modelled.open_gate("stream")
    while chunk := _read(ours):
        shown += chunk.decode(errors="replace")
    os.close(ours)
    assert process.wait(60) == 0
    assert re.search("running.*…[^\n]*its last", shown)
    assert "\x1b[2J" not in shown
    assert "1,234 → 56 tokens" in shown


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # the other end is closed
        return b""


# prompts check


def test_prompts_are_checked(modelled: Any) -> None:
    assert "error: " in modelled("prompts", "check", "nowhere", code=2).stderr
    good = '---\ninput:\n  schema:\n    name: string\n---\n{{role "user"}}\nHello {{ name }}\n'
    modelled.write("bad/odd.prompt", good)
    found = modelled("prompts", "check", "bad", "--json", code=1)
    assert json.loads(found.stdout)["problems"]
    help = modelled("prompts", "check", "--help", FORCE_COLOR="").stdout
    assert "Example: perdure prompts check" in help
    assert "check" in modelled("prompts").stdout


# Words


def test_the_subtype_of_a_call_is_the_one_that_is_recorded() -> None:
    assert CALL == KIND


def test_dollars_have_the_digits_that_say_something() -> None:
    told = ["0", "0.000036", "0.00123456", "0.5", "1234.567"]
    assert [dollars(Decimal(each)) for each in told] == [
        *("$0", "$0.000036", "$0.0012", "$0.5000", "$1,234.57")
    ]
    assert dollars(Decimal("0.06161"), up=True) == "$0.0617"


def test_the_end_of_a_stream_fits_its_line_and_steers_nothing() -> None:
    assert ending("one\n two  three", 40) == "one two three"
    assert ending("one two three", 6) == "…three"
    assert ending("a\x1b[2J", 40) == "a\\x1b[2J"
