"""The state machine: it is valid, fits its functions, and is told once how its task ended."""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import moto
import pytest
from moto.awslambda_simple.models import LambdaSimpleBackend

from perdure.approvals.callbacks import Standing
from perdure.approvals.journal import LocalCallbacks
from perdure.approvals.office import Office
from perdure.approvals.people import Principal
from perdure.approvals.voting import cast, claims_of
from perdure.console.deploying import Writing, deploy
from perdure.console.stack import Options
from perdure.durable import ExecutionFailedError, LocalEngine
from perdure.durable.clock import SystemClock
from perdure.durable.testing import Runner, check_replay

from ..console.stacks import found_by_cfn_lint, read
from ..waiting import until

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "step_functions"
MACHINE = json.loads((FOLDER / "state_machine.json").read_text())
CLAIM = {"id": "c1", "amount": 900.0, "approvers": ["user:alice"], "via": ["web"]}
TOKEN = {"task_token": "the-token"}
ROLE = "arn:aws:iam::123456789012:role/claims"
MOTO = {"lambda": {"use_docker": False}, "stepfunctions": {"execute_state_machine": True}}


@pytest.fixture(scope="module")
def flow() -> ModuleType:
    spec = importlib.util.spec_from_file_location("step_functions_flow", FOLDER / "flow.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class StepFunctions:
    """Step Functions' address: keeps what it is told, and answers as it was told to."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.answers: list[tuple[int, dict[str, Any]]] = []

    def take(self, action: str, said: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.told.append((action.rpartition(".")[2], said))
        return self.answers.pop(0) if self.answers else (200, {})

    @contextmanager
    def served(self) -> Iterator[str]:
        told = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, answer = told.take(self.headers["X-Amz-Target"], body)
                text = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


@pytest.fixture
def step_functions(monkeypatch: pytest.MonkeyPatch) -> Iterator[StepFunctions]:
    service = StepFunctions()
    with service.served() as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SFN", url)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield service


def settled(flow: ModuleType, tmp_path: Path, *, approve: bool, claim: dict[str, Any]) -> Any:
    """Settle a claim, with alice's decision, and return the run's result."""
    with Runner(tmp_path / "journal.db", handlers=[flow.settle]) as runner:
        run = runner.start(flow.settle, claim)
        runner.settle()
        decide(runner.engine, runner.clock, approve)
        runner.run_until_idle()
        result = run.result()
        check_replay(run)
        return result


def decide(engine: LocalEngine, clock: Any, approve: bool) -> None:
    """Decide, as alice, the one thing that is asked."""
    callbacks = LocalCallbacks(engine)
    (standing,) = callbacks.inbox().entries
    assert isinstance(standing, Standing)
    claims = claims_of(standing, ["user:alice"])
    assert claims is not None
    outcome = cast(
        Office.at(engine.home, clock),
        callbacks,
        claims,
        action="approve" if approve else "reject",
        by=Principal(identity="user:alice", assurance="cli"),
        approver="user:alice",
        channel="web",
    )
    assert outcome.kind == "recorded"


def test_the_state_machine_and_its_stack_pass_cfn_lint(tmp_path: Path) -> None:
    plain = {
        "Resources": {
            "Claims": {
                "Type": "AWS::StepFunctions::StateMachine",
                "Properties": {
                    "RoleArn": ROLE,
                    "DefinitionString": json.dumps(MACHINE),
                },
            }
        }
    }
    file = tmp_path / "machine.json"
    file.write_text(json.dumps(plain))
    assert found_by_cfn_lint([file, FOLDER / "stack.yaml"]).strip() == ""


def test_the_state_machine_calls_the_functions_that_deploy_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "template.yaml"
    monkeypatch.delitem(sys.modules, "flow", raising=False)
    monkeypatch.syspath_prepend(str(FOLDER))
    deploy(str(FOLDER / "flow.py"), Options(), Writing(str(file), False, None), template_only=True)
    monkeypatch.delitem(sys.modules, "flow", raising=False)
    made = read(file.read_text())
    resources = made["Resources"].values()
    functions = {
        made["Parameters"][each["Properties"]["FunctionName"]["Ref"]]["Default"]: each["Properties"]
        for each in resources
        if "DurableConfig" in each.get("Properties", {})
    }
    for state in ("Triage", "Settle"):
        name, alias = MACHINE["States"][state]["Parameters"]["FunctionName"].split(":")
        assert functions[name]["AutoPublishAlias"] == alias
        seconds = functions[name]["DurableConfig"]["ExecutionTimeout"]
        if (
            "InvocationType" not in MACHINE["States"][state]["Parameters"]
        ):  # a call that is waited for lasts 15 minutes at most
            assert seconds <= 900
        else:
            assert MACHINE["States"][state]["Parameters"]["InvocationType"] == "Event"
            assert seconds < MACHINE["States"][state]["TimeoutSeconds"] < MACHINE["TimeoutSeconds"]


def test_a_small_claim_needs_nobody(flow: ModuleType, tmp_path: Path) -> None:
    with Runner(tmp_path / "journal.db", handlers=[flow.triage]) as runner:
        run = runner.start(flow.triage, {"id": "c1", "amount": "80"})
        runner.run_until_idle()
        assert run.result() == {"amount": 80.0, "needs_approval": False}


@pytest.mark.parametrize("approve", [True, False])
def test_the_task_is_told_once_what_came_of_it(
    flow: ModuleType, tmp_path: Path, step_functions: StepFunctions, approve: bool
) -> None:
    result = settled(flow, tmp_path, approve=approve, claim=CLAIM | TOKEN)
    assert result["paid"] is approve
    ((action, said),) = step_functions.told
    assert (action, said["taskToken"]) == ("SendTaskSuccess", "the-token")
    assert json.loads(said["output"]) == result


def test_without_a_token_nobody_is_told(
    flow: ModuleType, tmp_path: Path, step_functions: StepFunctions
) -> None:
    assert settled(flow, tmp_path, approve=True, claim=CLAIM)["paid"]
    assert step_functions.told == []


def test_a_report_that_failed_is_sent_again_and_one_that_arrived_is_not_an_error(
    flow: ModuleType, tmp_path: Path, step_functions: StepFunctions
) -> None:
    step_functions.answers = [
        (500, {"__type": "InternalFailure"}),
        (400, {"__type": "TaskTimedOut", "message": "closed"}),
    ]
    assert settled(flow, tmp_path, approve=True, claim=CLAIM | TOKEN)["paid"]
    assert [action for action, _ in step_functions.told] == ["SendTaskSuccess"] * 2


def test_a_run_that_fails_fails_its_task(
    flow: ModuleType, tmp_path: Path, step_functions: StepFunctions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Any) -> None:
        raise ConnectionError("the bank is closed")

    monkeypatch.setattr(flow, "pay", broken)
    with pytest.raises(ExecutionFailedError):
        settled(flow, tmp_path, approve=True, claim=CLAIM | TOKEN)
    ((action, said),) = step_functions.told
    assert action == "SendTaskFailure"
    assert said["error"] == "ConnectionError"
    assert "the bank is closed" in said["cause"]


@pytest.mark.parametrize("approve", [True, False])
def test_a_state_machine_waits_for_the_durable_function(
    flow: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, approve: bool
) -> None:
    """Moto interprets the state machine; what it invokes runs on an engine."""
    invoked: list[str] = []
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with (
        moto.mock_aws(config=MOTO),  # type: ignore[arg-type]
        LocalEngine(tmp_path / "journal.db", [flow.triage, flow.settle]) as engine,
    ):

        def invoke(self: Any, function: str, qualifier: Any, body: str, *_: Any) -> bytes:
            invoked.append(function)
            handler = flow.triage if "triage" in function else flow.settle
            run = engine.start(handler, json.loads(body))
            return b"" if "settle" in function else json.dumps(run.result(timeout=30)).encode()

        monkeypatch.setattr(LambdaSimpleBackend, "invoke", invoke)
        client = boto3.client("stepfunctions")
        machine = client.create_state_machine(
            name="claims", definition=json.dumps(MACHINE), roleArn=ROLE
        )["stateMachineArn"]
        arn = client.start_execution(stateMachineArn=machine, input=json.dumps(CLAIM))[
            "executionArn"
        ]
        until(lambda: LocalCallbacks(engine).inbox().count)
        assert client.describe_execution(executionArn=arn)["status"] == "RUNNING"
        decide(engine, SystemClock(), approve)
        until(lambda: client.describe_execution(executionArn=arn)["status"] != "RUNNING")
        ended = client.describe_execution(executionArn=arn)
    assert ended["status"] == "SUCCEEDED"
    assert json.loads(ended["output"])["settled"]["paid"] is approve
    assert [name.split(":")[0] for name in invoked] == ["flow-triage", "flow-settle"]
