"""The real command over the runs of a Lambda function, as AWS's local runner keeps them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure.agents import llm
from perdure.agents.testing import ScriptedModel
from perdure.approvals import await_approval
from perdure.approvals.people import account as me
from perdure.durable import Duration, LambdaEngine, durable_execution

from ..durable.aws.stand import Stand, account
from ..waiting import until
from .conftest import Shell


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with account(tmp_path_factory.mktemp("aws") / "runner.log") as stand:
        yield stand


class Cloud:
    """The command, typed where there is an account, and no journal."""

    def __init__(self, shell: Shell, stand: Stand, function: str) -> None:
        self._shell, self._stand, self.function = shell, stand, function
        self._on = ["--engine", "aws", "--function", f"{function}:live"]
        self.engine = LambdaEngine(f"{function}:live", endpoint_url=stand.front.url)

    def __call__(self, command: str, *words: str, code: int = 0, **env: str) -> str:
        done = self._shell(command, *words, *self._on, code=code, **(self._stand.environment | env))
        return done.stdout if code in (0, 1) else done.stderr

    def json(self, command: str, *words: str, code: int = 0) -> Any:
        return json.loads(self(command, *words, "--json", code=code))

    def waiting(self, id: str, path: str = "approval") -> None:
        run = self.engine.get(id)
        until(
            lambda: any(each.path == path for each in run.waiting_for()) and not run.info().active,
            f"{id} to wait for {path}",
        )

    def started(self, id: str, event: Any = None, path: str = "approval") -> None:
        self.engine.start(None, event, id=id)
        self.waiting(id, path)


@pytest.fixture
def cloud(perdure: Shell, stand: Stand) -> Any:
    def deployed(handler: Any) -> Cloud:
        return Cloud(perdure, stand, stand.deploy(handler))

    return deployed


@durable_execution(name="asks")
def asks(event: Any, context: Any) -> Any:
    context.step("prepare", lambda: "ready")
    return {"answer": context.wait(Duration.from_minutes(2), name="approval")}


@durable_execution(name="adds")
def adds(event: Any, context: Any) -> Any:
    first = context.step("first", lambda: event["n"] + 1)
    context.sleep(1, name="nap")
    return context.step("second", lambda: first + 1)


def breaks() -> None:
    raise ValueError("broken")


@durable_execution(name="fails")
def fails(event: Any, context: Any) -> Any:
    context.step("first", lambda: 1)
    return context.step("second", breaks)


@durable_execution(name="held", hold_on_failure=True)
def held(event: Any, context: Any) -> Any:
    def works() -> str:
        if not Path(event).exists():
            raise ValueError("broken")
        return "mended"

    return [context.step("first", lambda: 1), context.step("second", works)]


@durable_execution(name="decided")
def decided(event: Any, context: Any) -> Any:
    decision = await_approval(
        context, {"text": "the text"}, "release", approvers=[f"{me()}"], timeout=120
    )
    return [decision.kind, decision.comment]


@durable_execution(name="calls")
def calls(event: Any, context: Any) -> Any:
    return str(llm(context, "summary", "Say hello", model=ScriptedModel(["hello there"])).text)


# -- run --------------------------------------------------------------------------------------


def test_run_starts_a_run_shows_it_and_prints_its_result(cloud: Any) -> None:
    it = cloud(adds)

    said = it("run", "--input", '{"n": 1}', "--id", "r1")

    assert "run r1" in said
    assert "first" in said
    assert "done in" in said
    assert said.rstrip().endswith("3")


def test_run_again_with_the_same_id_is_the_same_run(cloud: Any) -> None:
    it = cloud(adds)
    it("run", "--input", '{"n": 1}', "--id", "r1")

    again = it.json("run", "--input", '{"n": 1}', "--id", "r1")

    assert (again["status"], again["result"]) == ("SUCCEEDED", 3)
    assert "exists with another input" in it("run", "--input", "2", "--id", "r1", code=2)


def test_run_leaves_a_run_that_waits_and_says_how_to_answer(cloud: Any) -> None:
    it = cloud(asks)

    said = it("run", "--id", "w1")

    assert "suspended; it waits for" in said
    assert f"perdure send w1 approval --engine aws --function {it.function}:live" in said
    assert "resume" not in said
    assert "serve" not in said
    it.engine.cancel("w1")


def test_a_failed_run_says_what_broke_and_offers_no_resume(cloud: Any) -> None:
    it = cloud(fails)

    said = it("run", "--id", "f1", code=1)

    assert "failed at second: ValueError: broken" in said
    assert "resume" not in said
    assert "is FAILED, which is final on AWS" in it("resume", "f1", code=2)


def test_ctrl_c_leaves_the_run_to_aws(cloud: Any, perdure: Shell, stand: Stand) -> None:
    @durable_execution(name="naps")
    def naps(event: Any, context: Any) -> Any:
        context.sleep(20, name="nap")

    it = cloud(naps)
    words = perdure.command("run", "--id", "n1", "--engine", "aws", "--function", it.function)
    process = subprocess.Popen(
        words,
        cwd=perdure.folder,
        env=perdure.environment(stand.environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    until(lambda: [each for each in it.engine.list() if not each.active], "the run", 60)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "started on $LATEST" in said
    assert "AWS goes on with it" in said
    assert it.engine.status("n1") == "RUNNING"
    it.engine.cancel("n1")


def test_a_file_is_refused_since_the_function_has_its_code(cloud: Any) -> None:
    assert "leave out 'flow.py'" in cloud(adds)("run", "flow.py", code=2)


def test_a_held_run_is_resumed(cloud: Any, tmp_path: Path) -> None:
    it = cloud(held)
    fixed = tmp_path / "fixed"
    said = it("run", "--id", "h1", "--input", json.dumps(str(fixed)), code=1)
    assert "failed at second: ValueError: broken" in said
    assert "perdure resume h1" in said
    fixed.touch()

    done = it("resume", "h1")

    assert "mended" in done


# -- looking ----------------------------------------------------------------------------------


def test_list_tells_the_newest_runs_and_what_they_wait_for(cloud: Any) -> None:
    it = cloud(asks)
    it.started("w1")
    it.started("w2")
    it.engine.cancel("w1")

    lines = it("list").splitlines()

    assert [line.split()[0] for line in lines] == ["ID", "w2", "w1", "what"]
    assert "waiting" in lines[1]
    assert "event 'approval'" in lines[1]
    assert it.function in lines[1]
    assert "cancelled" in lines[2]
    assert lines[3].startswith("what ended runs cost: perdure ledger")
    assert [("usd" in each) for each in it.json("list")] == [True, False]
    assert [each["id"] for each in it.json("list", "--status", "waiting")] == ["w2"]
    assert it.json("list", "--status", "cancelled")[0]["status"] == "CANCELLED"
    assert f"no runs in the function {cloud(asks).function}"[:24] in cloud(asks)("list")
    it.engine.cancel("w2")


def test_show_tells_the_operations_and_how_to_go_on(cloud: Any) -> None:
    it = cloud(asks)
    it.started("w1", {"document_id": "d1"})

    said = it("show", "w1")

    assert "prepare" in said
    assert "d1" in said
    assert "perdure send w1 approval" in said
    shown = it.json("show", "w1")
    assert shown["input"] == {"document_id": "d1"}
    assert [each["path"] for each in shown["operations"]] == ["prepare", "approval"]
    it.engine.cancel("w1")


def test_show_of_what_has_ended_tells_its_result_or_error(cloud: Any) -> None:
    it, bad = cloud(adds), cloud(fails)
    it("run", "--input", '{"n": 1}', "--id", "r1")
    bad("run", "--id", "f1", code=1)

    assert it("show", "r1").rstrip().endswith("3")
    assert "ValueError: broken" in bad("show", "f1")
    assert bad.json("show", "f1")["error"]["operation"] == "second"


def test_history_lists_the_services_events(cloud: Any) -> None:
    it = cloud(adds)
    it("run", "--input", '{"n": 1}', "--id", "r1")

    said = it("history", "r1")

    assert "ExecutionStarted" in said
    assert "StepSucceeded" in said
    assert it.json("history", "r1")[0]["EventType"] == "ExecutionStarted"


def test_the_ledger_has_the_calls_of_a_run_on_aws(cloud: Any) -> None:
    it = cloud(calls)
    it("run", "--id", "c1")

    ledger = it.json("ledger", "c1")

    assert ledger["totals"]["calls"] == 1
    assert ledger["calls"][0]["path"] == "summary"
    assert "1 call" in it("ledger", "c1")
    assert it.json("ledger")["totals"]["calls"] == 1


# -- answering --------------------------------------------------------------------------------


def test_send_answers_a_wait_and_says_who_goes_on(cloud: Any) -> None:
    it = cloud(asks)
    it.started("w1")

    said = it("send", "w1", "approval", '{"ok": true}')

    assert "AWS goes on with it" in said
    assert it.engine.get("w1").result(timeout=30) == {"answer": {"ok": True}}
    assert "has ended" in it("send", "w1", "approval", "1", code=2)


def test_a_wait_that_is_not_there_is_told_with_the_open_ones(cloud: Any) -> None:
    it = cloud(asks)
    it.started("w1")

    assert "open: approval" in it("send", "w1", "other", code=2)
    it.engine.cancel("w1")


def test_the_inbox_lists_approvals_and_waits(cloud: Any) -> None:
    it, other = cloud(decided), cloud(asks)
    it.started("d1", path="release/decision")
    other.started("w1")

    [approval], [wait] = it.json("inbox"), other.json("inbox")

    assert (approval["kind"], approval["path"]) == ("approval", "release")
    assert (wait["kind"], wait["run"], wait["path"]) == ("wait", wait["run"], "approval")
    assert "perdure approve" in it("inbox")
    assert it.json("list", "--pending") == [approval]
    it.engine.cancel("d1")
    other.engine.cancel("w1")
    assert "nothing waits for a person" in other("inbox")


@pytest.mark.parametrize(("command", "kind"), [("approve", "approved"), ("reject", "rejected")])
def test_a_person_decides_from_the_terminal(cloud: Any, command: str, kind: str) -> None:
    it = cloud(decided)
    it.started("d1", path="release/decision")

    said = it(command, "d1", "--comment", "as discussed")

    assert "fingerprint" in said
    assert it.engine.get("d1").result(timeout=30) == [kind, "as discussed"]
    assert "nothing is left to decide" in it("approve", "d1", code=2)


def test_a_named_wait_is_approved_rejected_and_responded_to(cloud: Any) -> None:
    it = cloud(asks)
    answers = {("approve",): True, ("reject",): False, ("respond",): {"limit": 100}}
    for number, ((command,), answer) in enumerate(answers.items()):
        id = f"w{number}"
        it.started(id)
        value = ['{"limit": 100}'] if command == "respond" else []
        it(command, id, *value)
        assert it.engine.get(id).result(timeout=30) == {"answer": answer}


def test_the_audit_tells_who_decided(cloud: Any) -> None:
    it = cloud(decided)
    it.started("d1", path="release/decision")
    it("approve", "d1")
    it.engine.get("d1").result(timeout=30)

    [line] = it("audit").splitlines()

    record = json.loads(line)
    assert (record["state"], record["decision"]["by"]) == ("decided", me())
    assert record["run"] == it.engine.get("d1").arn


def test_cancel_ends_a_run_and_names_what_was_withdrawn(cloud: Any) -> None:
    it = cloud(decided)
    it.started("d1", path="release/decision")

    said = it("cancel", "d1", "--reason", "no longer")

    assert "cancelled d1: no longer" in said
    assert "withdrawn: approval" in said
    assert it.engine.status("d1") == "CANCELLED"
    assert "there is nothing to cancel" in it("cancel", "d1", code=2)


# -- where ------------------------------------------------------------------------------------


def test_the_environment_may_name_engine_and_function(
    cloud: Any, perdure: Shell, stand: Stand
) -> None:
    it = cloud(asks)
    it.started("w1")
    named = {"PERDURE_ENGINE": "aws", "PERDURE_FUNCTION": f"{it.function}:live"}

    said = perdure("show", "w1", **stand.environment, **named).stdout

    assert "perdure send w1 approval [JSON]" in said
    it.engine.cancel("w1")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["list", "--engine", "aws"], "needs --function NAME"),
        (["list", "--engine", "gcp"], "--engine is local or aws, not 'gcp'"),
        (["show", "nobody", "--engine", "aws", "--function", "f"], "no execution 'nobody'"),
    ],
)
def test_a_mistake_is_one_line(perdure: Shell, stand: Stand, words: list[str], said: str) -> None:
    done = perdure(*words, code=2, **stand.environment)

    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_missing_credentials_are_one_line_without_a_traceback(perdure: Shell) -> None:
    without = dict.fromkeys((name for name in os.environ if name.startswith("AWS_")), "")
    nowhere = {"AWS_CONFIG_FILE": "/none", "AWS_SHARED_CREDENTIALS_FILE": "/none"}
    settings = without | nowhere | {"AWS_EC2_METADATA_DISABLED": "true"}
    settings["AWS_DEFAULT_REGION"] = "us-west-2"

    done = perdure("list", "--engine", "aws", "--function", "f", code=2, **settings)

    assert "AWS cannot be called" in done.stderr
    assert len(done.stderr.splitlines()) == 1
