"""The research report: its tools over a folder, its input, and the whole of it on the engine."""

import importlib.util
import re
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from perdure.agents.citations import cited
from perdure.agents.testing import ScriptedModel
from perdure.approvals.callbacks import Standing
from perdure.approvals.journal import LocalCallbacks
from perdure.approvals.office import Office
from perdure.approvals.people import Principal, account
from perdure.approvals.receiver import Receiver
from perdure.approvals.requests import Action
from perdure.approvals.voting import cast, claims_of
from perdure.durable import ExecutionFailedError
from perdure.durable.testing import Runner, check_replay

from ..approvals.mail import smtp_server
from ..approvals.ways import ALICE, get, post

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "research_report.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    """The example, loaded by its path as the command line does."""
    spec = importlib.util.spec_from_file_location("research_report", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PERDURE_EXAMPLE_FIXED", raising=False)


def decided(runner: Runner, action: Action = "approve", **more: Any) -> Any:
    """Run until a person is asked, decide as the account on the machine, and go on."""
    callbacks = LocalCallbacks(runner.engine)
    while True:
        runner.settle()
        due = runner.engine.next_timer()
        if callbacks.inbox().count or due is None:
            break
        runner.clock.set(due)
    for standing in callbacks.inbox().entries:
        assert isinstance(standing, Standing)
        claims = claims_of(standing, [account()])
        assert claims is not None
        outcome = cast(
            Office.at(runner.engine.home, runner.clock),
            callbacks,
            claims,
            action=action,
            by=Principal(identity=account(), assurance="cli"),
            approver=account(),
            channel="terminal",
            **more,
        )
        assert outcome.kind == "recorded", outcome
    runner.settle()
    return runner.engine.get("first")


def finished(runner: Runner, example: ModuleType, event: Any) -> Any:
    runner.start(example.handler, event, id="first")
    return decided(runner)


def outcome(runner: Runner, example: ModuleType, event: Any) -> dict[str, Any]:
    run = finished(runner, example, event)
    result: dict[str, Any] = run.result(timeout=0)
    check_replay(run)
    return result


def names_of(run: Any) -> Counter[str]:
    """How often an operation of each name was started."""
    return Counter(
        each.get("Name", "")
        for each in run.history()
        if each["EventType"] in ("StepStarted", "ContextStarted")
    )


def test_the_library_is_searched_and_read(example: ModuleType) -> None:
    library = example.Library(EXAMPLE.parent / "library")
    hits = library.search("grant for a heat pump")
    assert hits[0]["name"] == "grant-rules.md"
    assert "35 %" in hits[0]["excerpt"] or "grant" in hits[0]["excerpt"].lower()
    page = library.read("grant-rules.md")
    assert page["n"] == hits[0]["n"]
    assert page["title"] == "Grant for heating in public buildings: rules"
    assert hits[0]["excerpt"] in page["text"]
    assert library.search("xylophone") == []
    with pytest.raises(FileNotFoundError, match=r"no document 'gas\.md'; there are board-minutes"):
        library.read("gas.md")


def test_a_report_is_written_from_the_folder_and_cites_it(
    example: ModuleType, tmp_path: Path
) -> None:
    with Runner(tmp_path / "journal.db") as runner:
        result = outcome(runner, example, {"out": str(tmp_path / "out")})
    assert (result["verdict"], result["failures"]) == ("accepted", [])
    report = Path(result["report"]).read_text()
    assert report.startswith("# Which heating should Millbrook School choose?\n")
    listed = [int(each) for each in re.findall(r"^- \[(\d+)\]", report, re.MULTILINE)]
    assert listed == list(range(1, len(listed) + 1))
    assert set(cited(report)) <= set(listed)
    assert "The grant pays 35 %" in report
    assert list((tmp_path / "out").iterdir()) == [Path(result["report"])]


def test_a_task_that_fails_is_told_in_the_report(example: ModuleType, tmp_path: Path) -> None:
    with Runner(tmp_path / "journal.db") as runner:
        result = outcome(runner, example, {"out": str(tmp_path), "fail_task": 2})
    [failure] = result["failures"]
    assert failure.startswith("2-what-do-the-offers-cost")
    report = Path(result["report"]).read_text()
    assert "## Not answered\n\n- What do the offers cost to build and to run?: asked to" in report


def test_a_resume_runs_the_failed_task_alone(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = {"out": str(tmp_path), "fail_task": 2, "need_all": True}
    with Runner(tmp_path / "journal.db") as runner:
        run = finished(runner, example, event)
        with pytest.raises(ExecutionFailedError, match="1 of 4 research tasks failed"):
            run.result(timeout=0)
        before = names_of(run)
        monkeypatch.setenv("PERDURE_EXAMPLE_FIXED", "1")
        runner.engine.resume("first")
        decided(runner)
        assert run.result(timeout=0)["failures"] == []
        after = names_of(run)
        check_replay(run)
    assert before["agent"] == 3
    assert after["agent"] == 4
    assert after["plan"] == before["plan"] == 1
    assert after["search"] == before["search"] + 1


def test_a_killed_run_goes_on_and_pays_nothing_twice(example: ModuleType, tmp_path: Path) -> None:
    event = {"out": str(tmp_path / "out")}
    with Runner(tmp_path / "whole.db") as runner:
        whole = names_of(finished(runner, example, event))
    with Runner(tmp_path / "journal.db", [example.handler]) as runner:
        run = runner.start(example.handler, event, id="first")
        runner.crash_after(25)
        runner.run_until_idle()
        runner.restart()
        run = decided(runner)
        assert run.result(timeout=5)["verdict"] == "accepted"
        # A turn in flight when the process died is asked again, at most one for each branch.
        assert whole["turn"] <= names_of(run)["turn"] <= whole["turn"] + 4
        assert names_of(run)["plan"] == 1


def test_a_report_that_is_not_fit_is_revised_once(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = {"tool": "Verdict", "args": {"ok": False, "remarks": ["Name the grant"]}}
    model = ScriptedModel(
        [
            {"tool": "Plan", "args": {"tasks": [{"question": "What does the grant pay?"}]}},
            {"tool": "read", "args": {"name": "grant-rules.md"}},
            "It pays 35 % [6].",
            "There is a grant [1].",
            refused,
            "The grant pays 35 % [1].",
            {"tool": "Verdict", "args": {"ok": True}},
        ]
    )
    monkeypatch.setattr(example, "model_of", lambda request: model)
    with Runner(tmp_path / "journal.db") as runner:
        result = outcome(runner, example, {"out": str(tmp_path)})
    assert result["verdict"] == "accepted after a revision"
    assert "Name the grant" in str(model.requests[5].messages[-1]["content"])
    assert "The grant pays 35 % [1]." in Path(result["report"]).read_text()


def test_a_report_that_stays_unfit_says_so(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = {"tool": "Verdict", "args": {"ok": False, "remarks": ["Name the grant"]}}
    model = ScriptedModel(
        [
            {"tool": "Plan", "args": {"tasks": [{"question": "What does the grant pay?"}]}},
            "Nothing is known.",
            "Nothing.",
            refused,
            "Nothing.",
            refused,
        ]
    )
    monkeypatch.setattr(example, "model_of", lambda request: model)
    with Runner(tmp_path / "journal.db") as runner:
        result = outcome(runner, example, {"out": str(tmp_path)})
    assert result["verdict"] == "not accepted: Name the grant"


def test_a_budget_that_is_too_small_asks_and_goes_on_when_it_is_raised(
    example: ModuleType, tmp_path: Path
) -> None:
    with Runner(tmp_path / "journal.db") as runner:
        event = {"out": str(tmp_path), "budget_usd": 0.0001}
        run = runner.start(example.handler, event, id="first")
        runner.run_until_idle()
        assert [wait.path for wait in run.waiting_for()] == ["budget"]
        assert not list(tmp_path.glob("*.md"))
        runner.engine.send(run.id, "budget", {"usd": 5})
        decided(runner)
        assert run.result(timeout=0)["failures"] == []
    assert list(tmp_path.glob("*.md"))


def test_a_report_that_is_rejected_is_not_saved(example: ModuleType, tmp_path: Path) -> None:
    with Runner(tmp_path / "journal.db") as runner:
        runner.start(example.handler, {"out": str(tmp_path / "out")}, id="first")
        result = decided(runner, "reject", comment="the figures are old").result(timeout=0)
    assert result["report"] is None
    assert result["approval"] == f"rejected by {account()}: the figures are old"
    assert not (tmp_path / "out").exists()


def test_what_a_person_wrote_into_the_report_is_saved(example: ModuleType, tmp_path: Path) -> None:
    with Runner(tmp_path / "journal.db") as runner:
        runner.start(example.handler, {"out": str(tmp_path / "out")}, id="first")
        run = decided(runner, "edit", value="# Choose the heat pump\n")
        result = run.result(timeout=0)
        check_replay(run)
    assert result["approval"] == f"edited by {account()}"
    assert Path(result["report"]).read_text() == "# Choose the heat pump\n"


def test_configuration_alone_has_it_decided_by_mail(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = "https://approvals.example.org"
    with smtp_server.serving(tmp_path, tls="none", auth=False) as server:
        monkeypatch.setenv("PERDURE_EMAIL_FROM", "reports@example.org")
        monkeypatch.setenv("PERDURE_SMTP_URL", f"smtp://127.0.0.1:{server.port}?tls=none")
        monkeypatch.setenv("PERDURE_BASE_URL", base)
        with Runner(tmp_path / "journal.db") as runner:
            event = {"out": str(tmp_path / "out"), "approvers": [ALICE], "via": ["email"]}
            run = runner.start(example.handler, event, id="first")
            runner.settle()
            [mail] = server.desk.messages
            assert mail["To"] == ALICE
            link = re.search(rf"{base}(/a/\S+/review)", smtp_server.body(mail, "plain"))
            assert link is not None
            office = Office.at(runner.engine.home, runner.clock)
            receiver = Receiver(office, LocalCallbacks(runner.engine))
            assert "Millbrook" in get(receiver, link[1]).body.decode()
            assert post(receiver, link[1], decision="approve").status == 200
            runner.settle()
            assert run.result(timeout=5)["approval"] == f"approved by {ALICE}"
        assert len(server.desk.messages) == 2  # the second says what became of it
    assert list((tmp_path / "out").glob("report-*.md"))


def test_a_report_that_nobody_looks_at_is_not_saved(example: ModuleType, tmp_path: Path) -> None:
    with Runner(tmp_path / "journal.db") as runner:
        event = {"out": str(tmp_path / "out"), "timeout_days": 2}
        run = runner.start(example.handler, event, id="first")
        began = runner.clock.now()
        runner.run_until_idle()
        assert run.result(timeout=0)["approval"] == "expired by nobody in time"
        assert runner.clock.now() >= began + 2 * 86_400_000
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ([], r"input: .*valid dictionary"),
        ({"question": " "}, r"question: .*it is empty"),
        ({"folder": "/no/such"}, r"folder: .*there is no folder /no/such"),
        ({"max_tasks": 0}, r"max_tasks: .*greater than or equal to 1"),
        ({"budget_usd": 0}, r"budget_usd: .*greater than 0"),
        ({"fail-task": 1}, r"fail-task: Extra inputs.*fields: question, model, folder"),
        ({"slow": -1}, "slow"),
        ({"approvers": []}, "approvers is empty"),
        ({"approvers": ["alice"]}, r"an approver is alice@example\.org, .* not 'alice'"),
        ({"approvers": ["alice@example.org"]}, r"via \(web\) has no channel .* add 'email'"),
        ({"via": ["fax"]}, "'fax', which is no channel"),
    ],
)
def test_a_wrong_input_is_told_what_is_wrong(example: ModuleType, event: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        example.read_request(event)


def test_a_folder_without_documents_is_refused(example: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"holds no document \(\.md, \.txt\)"):
        example.read_request({"folder": str(tmp_path)})


def test_no_input_asks_the_question_of_the_example(example: ModuleType) -> None:
    assert example.read_request(None).question == example.QUESTION
