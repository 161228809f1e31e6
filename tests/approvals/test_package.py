"""What importing the package and replaying an approval load, and that all its names are there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import perdure.approvals as approvals

SENDING = ("jinja2", "slack_sdk", "boto3", "botocore", "itsdangerous", "smtplib", "jsonschema")
HEAVY = (*SENDING, "starlette", "langchain_core")
USES = (
    "perdure.approvals",
    "perdure.approvals; perdure.approvals.await_approval; perdure.approvals.require_approval",
    "perdure.approvals; perdure.approvals.Escalation; perdure.approvals.Web()",
)
REPLAY = """
import json, sys
from perdure.approvals import Escalation, await_approval, require_approval
from perdure.approvals.decisions import vote
from perdure.approvals.people import Principal
from perdure.approvals.requests import ApprovalRequest
from perdure.durable import LocalEngine, durable_execution
from perdure.durable.testing import check_replay

class Quiet:
    name, personal = "quiet", True
    def reaches(self, approver): return True
    def send(self, notice):
        from perdure.approvals import Receipt
        notice.link()
        return Receipt(channel="quiet", to=(notice.to[0].name,), ref={}, at=notice.request.asked)
    def update(self, receipt, notice): pass
    def find(self, notice, since): return None
    def spec(self): return None

@require_approval(approvers="alice@example.org", via=Quiet())
def publish(text): return text

@durable_execution(name="light")
def handler(event, context):
    found = await_approval(context, 1, approvers=["alice@example.org"], via=[Quiet()],
                           remind=[60], escalate=Escalation(120, "bob@example.org"))
    context.wait(86_400, name="go")
    return [found.kind, publish(context, "all")]

def yes(request):
    return vote(request, "approve", digest=request.digest, approver="alice@example.org",
                by=Principal(identity="alice@example.org", assurance="link"),
                at=request.asked, channel="email", seed="s").kept()

with LocalEngine(sys.argv[1], handlers=[handler]) as engine:
    run = engine.start(handler, id="run")
    engine.wait_idle()
    if sys.argv[2] == "replay":
        print(run.result(timeout=60))
        check_replay(run)
        print(*sys.modules)
    while run.status == "RUNNING":
        for wait in run.waiting_for():
            if wait.kind == "event":
                engine.send("run", "go")
            elif wait.kind == "callback":
                asked = ApprovalRequest.read(json.loads(run.steps("ApprovalRequest")[-1].payload))
                engine.complete_callback(wait.callback_id, payload=json.dumps(yes(asked)))
        engine.wait_idle()
"""


def run(code: str, *arguments: str) -> list[str]:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("use", USES)
def test_importing_the_package_loads_nothing_heavy(use: str) -> None:
    (modules,) = run(f"import sys; import {use}; print(*sys.modules)")
    assert not set(HEAVY) & set(modules.split())


def test_importing_the_package_alone_does_not_even_load_pydantic() -> None:
    (modules,) = run("import sys; import perdure.approvals; print(*sys.modules)")
    assert "pydantic" not in modules.split()


def test_replaying_an_approval_loads_nothing_that_sends_or_shows(tmp_path: Path) -> None:
    run(REPLAY, str(tmp_path / "journal.db"), "first")
    result, modules = run(REPLAY, str(tmp_path / "journal.db"), "replay")
    assert result == "['approved', 'all']"
    assert not set(HEAVY) & set(modules.split())


def test_each_name_of_the_package_is_there() -> None:
    for name in approvals.__all__:
        assert getattr(approvals, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = approvals.nothing


def test_no_name_of_the_package_is_a_module_of_it() -> None:
    folder = Path(approvals.__file__).parent
    modules = {path.stem for path in folder.glob("*.py")} | {
        path.parent.name for path in folder.glob("*/__init__.py")
    }
    assert not modules & set(approvals.__all__)
    homes = approvals._HOMES
    assert set(approvals.__all__) == {name for names in homes.values() for name in names.split()}
