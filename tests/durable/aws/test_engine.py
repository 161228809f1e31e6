"""The runs of a function, from outside: real boto3 over HTTP, AWS's local runner behind it."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from perdure.agents import llm
from perdure.agents.testing import ScriptedModel
from perdure.durable import (
    CallbackClosedError,
    CallbackNotFoundError,
    Context,
    Duration,
    ExecutionCancelledError,
    ExecutionConflictError,
    ExecutionFailedError,
    ExecutionNotFoundError,
    JournalError,
    LambdaEngine,
    PayloadTooLargeError,
    UsageError,
    durable_execution,
)
from perdure.durable.aws import offload
from perdure.durable.aws.api import split_function
from perdure.durable.offloaded import is_offloaded
from perdure.durable.testing import Runner

from ...waiting import until
from .bucket import Bucket
from .front import Front
from .test_offload import bucket, moto  # noqa: F401
from .worlds import AwsWorld

_numbers = itertools.count(1)


@pytest.fixture
def front(aws: AwsWorld) -> Iterator[Front]:
    front = Front(aws.runner, aws.function.url)
    yield front
    front.close()


class Functions:
    """Handlers as functions of the local runner, each under a name of its own."""

    def __init__(self, aws: AwsWorld, front: Front) -> None:
        self._aws, self._front = aws, front

    def __call__(self, handler: Any, **options: Any) -> LambdaEngine:
        name = f"function-{os.getpid()}-{next(_numbers)}"
        self._aws.handlers[name] = handler
        return LambdaEngine(f"{name}:live", endpoint_url=self._front.url, **options)


@pytest.fixture
def deployed(aws: AwsWorld, front: Front) -> Functions:
    return Functions(aws, front)


@durable_execution(name="adds")
def adds(event: Any, context: Context) -> Any:
    first = context.step("first", lambda: event + 1)
    return context.step("second", lambda: first + 1)


@durable_execution(name="asks")
def asks(event: Any, context: Context) -> Any:
    context.step("prepare", lambda: "ready")
    return context.wait(Duration.from_minutes(5), name="answer")


@durable_execution(name="asks-two")
def asks_two(event: Any, context: Context) -> Any:
    branches = [lambda c: c.wait(300, name="answer"), lambda c: c.wait(300, name="answer")]
    return list(context.parallel("both", branches))


@durable_execution(name="fails")
def fails(event: Any, context: Context) -> Any:
    return context.step("breaks", lambda: {}["nothing"])


def waiting(run: Any, path: str = "answer") -> Any:
    """Wait until a run waits for this; return the wait."""
    return until(
        lambda: next((each for each in run.waiting_for() if each.path == path), None),
        f"{path} to be waited for",
    )


# -- starting ---------------------------------------------------------------------------------


def test_a_run_is_started_followed_and_its_result_returned(deployed: Functions) -> None:
    run = deployed(adds).start(adds, 1, id="run-1")

    assert run.result(timeout=30) == 3
    assert (run.id, run.status, run.info().id) == ("run-1", "SUCCEEDED", "run-1")


def test_input_and_result_keep_their_types(deployed: Functions) -> None:
    from datetime import date

    @durable_execution(name="dates")
    def dates(event: Any, context: Context) -> Any:
        return event["on"].replace(year=event["on"].year + 1), context.step("s", lambda: (1, 2))

    run = deployed(dates).start(dates, {"on": date(2026, 1, 2)})

    assert run.result(timeout=30) == (date(2027, 1, 2), (1, 2))


def test_a_run_without_an_id_is_given_one(deployed: Functions) -> None:
    engine = deployed(adds)

    run = engine.start(None, 1)

    assert run.result(timeout=30) == 3
    assert [each.id for each in engine.list()] == [run.id]


def test_the_same_id_and_input_are_the_same_run(deployed: Functions, front: Front) -> None:
    engine = deployed(asks)
    first = engine.start(None, {"a": 1}, id="one")

    assert engine.start(None, {"a": 1}, id="one").arn == first.arn
    assert len(engine.list()) == 1


def test_the_same_id_with_another_input_is_a_conflict(deployed: Functions) -> None:
    engine = deployed(asks)
    engine.start(None, 1, id="one")

    with pytest.raises(ExecutionConflictError, match="exists with another input"):
        engine.start(None, 2, id="one")


def test_a_conflict_over_spelling_alone_is_none(deployed: Functions, front: Front) -> None:
    engine = deployed(asks)
    first = engine.start(None, {"a": 1}, id="one")
    front.refuse = lambda call: (
        (409, "DurableExecutionAlreadyStartedException") if "invocations" in call else None
    )

    assert engine.start(None, {"a": 1}, id="one").arn == first.arn


@pytest.mark.parametrize("id", ["", "a b", "a/b", "x" * 65, "é"])
def test_an_id_follows_the_rule_of_aws(deployed: Functions, id: str) -> None:
    with pytest.raises(UsageError, match="1 to 64 letters"):
        deployed(adds).start(None, 1, id=id)


def test_without_a_version_or_alias_a_start_is_warned_of(aws: AwsWorld, front: Front) -> None:
    aws.handlers["unqualified"] = adds
    engine = LambdaEngine("unqualified", endpoint_url=front.url)

    with pytest.warns(UserWarning, match=r"started on \$LATEST"):
        engine.start(None, 1)
    assert any("Qualifier=%24LATEST" in call for call in front.calls)


def test_a_function_that_is_not_there_is_named(front: Front) -> None:
    with pytest.raises(UsageError, match="no Lambda function 'missing'"):
        LambdaEngine("missing:live", endpoint_url=front.url).start(None, 1)


@pytest.mark.parametrize(
    ("given", "name", "qualifier"),
    [
        ("name", "name", None),
        ("name:live", "name", "live"),
        ("name:$LATEST", "name", "$LATEST"),
        ("123456789012:function:name", "123456789012:function:name", None),
        ("123456789012:function:name:7", "123456789012:function:name", "7"),
        ("arn:aws:lambda:r:1:function:name", "arn:aws:lambda:r:1:function:name", None),
        ("arn:aws:lambda:r:1:function:name:live", "arn:aws:lambda:r:1:function:name", "live"),
    ],
)
def test_a_version_or_alias_may_follow_the_function(
    given: str, name: str, qualifier: str | None
) -> None:
    assert split_function(given) == (name, qualifier)


def test_two_aliases_are_refused() -> None:
    with pytest.raises(UsageError, match="two versions or aliases"):
        LambdaEngine("name:live", qualifier="beta")


# -- looking ----------------------------------------------------------------------------------


def test_a_run_is_found_by_its_name_and_by_its_arn(deployed: Functions) -> None:
    engine = deployed(asks)
    run = engine.start(None, 1, id="one")

    assert engine.get("one").arn == run.arn == engine.get(run.arn).arn
    assert engine.get(run.arn).id == "one"


@pytest.mark.parametrize("id", ["nobody", "no-such-run/at-all"])
def test_a_run_that_is_not_there_is_told(deployed: Functions, id: str) -> None:
    with pytest.raises(ExecutionNotFoundError, match=id):
        deployed(adds).get(id)


def test_operations_are_folded_from_the_history_as_the_embedded_engine_tells_them(
    deployed: Functions, tmp_path: Any
) -> None:
    @durable_execution(name="many")
    def many(event: Any, context: Context) -> Any:
        attempts: list[int] = []

        def inner(c: Context, item: int) -> Any:
            return c.step("square", lambda: item * item)

        def breaks() -> None:
            raise ValueError("broken")

        try:
            context.step("caught", breaks)
        except Exception:
            attempts.append(1)
        context.map("squares", [1, 2], inner)
        context.map("flat", [1, 2], inner, nesting="flat")
        context.child("child", lambda c: c.step("in", lambda: {"k": "v"}))
        context.sleep(1, name="nap")
        return context.step("last", lambda: attempts)

    run = deployed(many).start(many, None)
    run.result(timeout=30)
    with Runner(tmp_path / "journal.db") as runner:
        local = runner.start(many, None)
        runner.run_until_idle()
        expected = local.operations()

    def shape(operations: Any) -> Any:
        return {
            path: (each.type, each.subtype, each.status, each.payload, each.id, each.parent)
            for path, each in operations.items()
        }

    found = run.operations()
    assert shape(found) == shape(expected)
    assert list(found) == list(expected)
    assert found["caught"].error is not None
    assert (found["caught"].error.type, found["caught"].error.message) == ("ValueError", "broken")
    assert {path: each.attempt for path, each in found.items()} == {
        path: each.attempt for path, each in expected.items()
    }


def test_attempts_and_the_retry_to_come_are_told(deployed: Functions) -> None:
    @durable_execution(name="flaky")
    def flaky(event: Any, context: Context) -> Any:
        def breaks() -> None:
            raise ValueError("broken")

        policy = {"max_attempts": 3, "initial_delay": 60, "jitter": "none"}
        return context.step("flaky", breaks, retry=policy)

    run = deployed(flaky).start(flaky, None)
    wait = waiting(run, "flaky")

    assert wait.kind == "retry"
    assert 50 < (wait.due - run.info().created).total_seconds() < 75
    assert run.operations()["flaky"].attempt == 1
    assert run.info().active is False
    run.cancel()


def test_what_a_run_waits_for_is_told(deployed: Functions) -> None:
    run = deployed(asks).start(asks, None, id="w")
    wait = waiting(run)

    assert (wait.path, wait.kind) == ("answer", "event")
    assert wait.callback_id
    until(lambda: not run.info().active, "the invocation to end")
    assert run.status == "RUNNING"
    assert list(run.operations()) == ["prepare", "answer"]


def test_the_history_is_the_services_own(deployed: Functions) -> None:
    run = deployed(adds).start(adds, 1)
    run.result(timeout=30)

    kinds = [event["EventType"] for event in run.history()]
    assert kinds[0] == "ExecutionStarted"
    assert kinds.count("StepSucceeded") == 2
    assert kinds[-1] == "ExecutionSucceeded"


def test_a_long_history_is_read_to_its_end(deployed: Functions, front: Front) -> None:
    @durable_execution(name="long")
    def long(event: Any, context: Context) -> Any:
        for number in range(600):
            context.step(f"s{number}", lambda: None)

    run = deployed(long).start(long, None)
    run.result(timeout=60)

    assert len(run.operations()) == 600
    assert sum("/history" in call for call in front.calls) == 2


def test_runs_are_listed_newest_first_and_by_status(deployed: Functions) -> None:
    engine = deployed(asks)
    for number in range(3):
        waiting(engine.start(None, None, id=f"run-{number}"))
    engine.send("run-0", "answer", "yes")
    engine.get("run-0").result(timeout=30)
    engine.cancel("run-1")

    assert [each.id for each in engine.list()] == ["run-2", "run-1", "run-0"]
    assert [each.id for each in engine.list(limit=2)] == ["run-2", "run-1"]
    statuses = {each.id: each.status for each in engine.list()}
    assert statuses == {"run-0": "SUCCEEDED", "run-1": "CANCELLED", "run-2": "RUNNING"}
    for status, id in (("SUCCEEDED", "run-0"), ("CANCELLED", "run-1")):
        assert [each.id for each in engine.list(status=status)] == [id]
    with pytest.raises(UsageError, match="status is one of RUNNING"):
        engine.list(status="STOPPED")


def test_large_values_and_prompts_are_read_from_where_they_are_kept(
    bucket: Bucket,  # noqa: F811
    deployed: Functions,
) -> None:
    @durable_execution(name="large")
    def large(event: Any, context: Context) -> Any:
        context.step("large", lambda: "x" * 300_000)
        llm(context, "summary", "Say hello", model=ScriptedModel(["hello there"]))
        return "y" * 1_200_000

    engine = deployed(large)
    run = engine.start(None, None)

    assert run.result(timeout=30) == "y" * 1_200_000
    operations = run.operations()
    assert operations["large"].payload == json.dumps("x" * 300_000)
    note = json.loads(engine.note(run.id, operations["summary"].id) or "{}")
    assert any("Say hello" in text for text in run.texts(note["prompt"]))


def test_a_large_value_that_is_gone_stays_a_reference(
    bucket: Bucket,  # noqa: F811
    deployed: Functions,
) -> None:
    @durable_execution(name="large")
    def large(event: Any, context: Context) -> Any:
        context.step("large", lambda: "x" * 300_000)

    run = deployed(large).start(None, None)
    run.result(timeout=30)
    bucket.empty()
    offload.forget_client()

    assert is_offloaded(run.operations()["large"].payload or "")


# -- answering --------------------------------------------------------------------------------


def test_a_wait_is_sent_its_answer(deployed: Functions) -> None:
    run = deployed(asks).start(asks, None, id="w")
    waiting(run)

    run._engine.send("w", "answer", {"approved": True})

    assert run.result(timeout=30) == {"approved": True}


def test_nothing_sent_is_true(deployed: Functions) -> None:
    engine = deployed(asks)
    run = engine.start(None, None, id="w")
    waiting(run)

    engine.send("w", "answer")

    assert run.result(timeout=30) is True


def test_null_is_not_sent_to_a_wait(deployed: Functions) -> None:
    engine = deployed(asks)
    waiting(engine.start(None, None, id="w"))

    with pytest.raises(UsageError, match="would read as a time-out"):
        engine.send("w", "answer", None)


def test_of_two_waits_of_one_name_the_path_says_which(deployed: Functions) -> None:
    engine = deployed(asks_two)
    run = engine.start(None, None, id="w")
    waiting(run, "both[1]/answer")

    with pytest.raises(CallbackNotFoundError, match=r"both\[0\]/answer, both\[1\]/answer"):
        engine.send("w", "answer", 1)
    engine.send("w", "both[1]/answer", "second")
    engine.send("w", "both[0]/answer", "first")

    assert run.result(timeout=30) == ["first", "second"]


def test_a_wait_of_another_name_is_not_found_and_the_open_ones_are_listed(
    deployed: Functions,
) -> None:
    engine = deployed(asks)
    waiting(engine.start(None, None, id="w"))

    with pytest.raises(CallbackNotFoundError, match="no open wait named 'other'; open: answer"):
        engine.send("w", "other", 1)


def test_what_is_closed_is_not_sent_again(deployed: Functions) -> None:
    engine = deployed(asks)
    run = engine.start(None, None, id="w")
    callback = waiting(run).callback_id
    engine.send("w", "answer", 1)

    with pytest.raises((CallbackClosedError, CallbackNotFoundError)):
        engine.complete_callback(callback, 2)
    assert run.result(timeout=30) == 1
    with pytest.raises(CallbackClosedError, match=r"has ended \(SUCCEEDED\)"):
        engine.send("w", "answer", 2)


def test_a_callback_is_completed_failed_and_kept_alive_by_its_id(deployed: Functions) -> None:
    @durable_execution(name="callbacks")
    def callbacks(event: Any, context: Context) -> Any:
        first = context.callback("first", timeout=300, heartbeat=200)
        second = context.callback("second", timeout=300)
        result = first.result()
        try:
            second.result()
        except Exception as error:
            return [result, str(error)]

    engine = deployed(callbacks)
    run = engine.start(None, None)
    first, second = waiting(run, "first").callback_id, waiting(run, "second").callback_id
    engine.heartbeat_callback(first)
    engine.complete_callback(first, {"a": 1})
    engine.fail_callback(second, "no", "Refused")

    assert run.result(timeout=30) == [{"a": 1}, "'second': Refused: no"]


def test_the_id_of_a_callback_is_in_no_errors_text(deployed: Functions, front: Front) -> None:
    engine = deployed(asks)
    callback = waiting(engine.start(None, None, id="w")).callback_id
    engine.send("w", "answer", 1)

    with pytest.raises((CallbackClosedError, CallbackNotFoundError)) as closed:
        engine.complete_callback(callback, 2)
    front.refuse = lambda call: (500, "ServiceException")
    with pytest.raises(JournalError) as refused:
        engine.complete_callback(callback, 2)
    front.close()
    with pytest.raises(JournalError) as lost:
        engine.complete_callback(callback, 2)

    for caught in (closed, refused, lost):
        assert callback[:20] not in str(caught.value)


def test_a_completion_is_sent_once_a_read_until_it_is_answered(
    deployed: Functions, front: Front
) -> None:
    engine = deployed(asks)
    run = engine.start(None, None, id="w")
    callback = waiting(run).callback_id
    front.lose = lambda call: "/succeed" in call
    refused = itertools.count()
    front.refuse = lambda call: (
        (429, "TooManyRequestsException") if "/history" in call and next(refused) < 2 else None
    )

    with pytest.raises(JournalError):
        engine.complete_callback(callback, "yes")

    assert sum("/succeed" in call for call in front.calls) == 1
    assert run.operations()["answer"].payload == '"yes"'


def test_a_payload_over_the_limit_is_refused_before_it_is_sent(deployed: Functions) -> None:
    engine = deployed(asks)
    waiting(engine.start(None, None, id="w"))

    with pytest.raises(PayloadTooLargeError, match="takes at most"):
        engine.send("w", "answer", "x" * 300_000)


# -- ending -----------------------------------------------------------------------------------


def test_a_failed_run_raises_what_failed_it(deployed: Functions) -> None:
    run = deployed(fails).start(fails, None, id="f")

    with pytest.raises(ExecutionFailedError, match="the run 'f' failed") as caught:
        run.result(timeout=30)

    assert caught.value.error_type == "KeyError"
    assert run.operations()["breaks"].status == "FAILED"


def test_a_run_that_goes_on_is_waited_for_no_longer_than_asked(deployed: Functions) -> None:
    run = deployed(asks).start(asks, None, id="w")

    with pytest.raises(TimeoutError, match=r"has not ended after 0\.2 s"):
        run.result(timeout=0.2)


def test_a_cancelled_run_is_over_and_the_service_is_told_why(
    deployed: Functions, front: Front
) -> None:
    engine = deployed(asks)
    run = engine.start(None, None, id="w")
    waiting(run)

    run.cancel("wrong document")

    assert run.status == "CANCELLED"
    assert run.waiting_for() == []
    with pytest.raises(ExecutionCancelledError, match="the run 'w' cancelled"):
        run.result(timeout=5)
    # The local runner does not keep it.
    [told] = [body for call, body in front.bodies.items() if call.endswith("/stop")]
    assert json.loads(told) == {"ErrorMessage": "wrong document", "ErrorType": "Cancelled"}
    with pytest.raises(ExecutionConflictError, match=r"has ended \(CANCELLED\)"):
        engine.stop("w")


def test_a_failed_run_is_final_and_the_error_says_how_the_next_one_is_not(
    deployed: Functions,
) -> None:
    engine = deployed(fails)
    run = engine.start(None, None, id="f")
    until(lambda: run.status == "FAILED", "the run to fail")

    with pytest.raises(ExecutionConflictError, match="hold_on_failure=True"):
        engine.resume("f")


def test_a_run_that_holds_its_failure_is_resumed(deployed: Functions) -> None:
    mended = []

    @durable_execution(name="held", hold_on_failure=True)
    def held(event: Any, context: Context) -> Any:
        def breaks() -> str:
            if not mended:
                raise ValueError("broken")
            return "mended"

        return [context.step("first", lambda: 1), context.step("second", breaks)]

    engine = deployed(held)
    run = engine.start(None, None, id="h")
    waiting(run, "perdure:failed")
    held_operation = run.operations()["perdure:failed"]
    assert held_operation.error is not None
    assert run.operations()["second"].status == "FAILED"
    mended.append(True)

    engine.resume("h")

    assert run.result(timeout=30) == [1, "mended"]
    operations = run.operations()
    assert operations["second"].payload == '"mended"'
    assert [path for path in operations if not path.startswith("perdure:")] == ["first", "second"]


def test_further_operations_are_reopened_by_name(deployed: Functions) -> None:
    mended = []

    @durable_execution(name="held-two", hold_on_failure=True)
    def held(event: Any, context: Context) -> Any:
        def breaks() -> str:
            if not mended:
                raise ValueError("broken")
            return "mended"

        try:
            first = context.step("first", breaks)
        except Exception:
            first = "caught"
        return [first, context.step("second", breaks)]

    engine = deployed(held)
    run = engine.start(None, None, id="h")
    waiting(run, "perdure:failed")
    mended.append(True)

    engine.resume("h", reopen=["first"])

    assert run.result(timeout=30) == ["mended", "mended"]


def test_a_running_run_has_nothing_to_be_reopened(deployed: Functions) -> None:
    engine = deployed(asks)
    run = engine.start(None, None, id="w")
    waiting(run)

    assert engine.resume("w").arn == run.arn
    with pytest.raises(ExecutionConflictError, match="nothing is reopened"):
        engine.resume("w", reopen=["prepare"])


def test_a_run_is_deleted_where_boto3_knows_how(deployed: Functions, front: Front) -> None:
    engine = deployed(asks)
    run = engine.start(None, None, id="w")
    front.refuse = lambda call: (
        (409, "ResourceConflictException") if call.startswith("DELETE") else None
    )

    with pytest.raises(ExecutionConflictError, match="cancel it before"):
        engine.delete("w")

    class Older:
        def __getattr__(self, name: str) -> Any:
            raise AttributeError(name)

    older = LambdaEngine("name", client=Older())
    with pytest.raises(UsageError, match="this boto3 cannot delete durable execution"):
        older.delete(run.arn)


# -- who calls --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "status"), [("AccessDeniedException", 403), ("ExpiredTokenException", 403)]
)
def test_who_may_not_call_is_told_what_was_refused(
    deployed: Functions, front: Front, code: str, status: int
) -> None:
    front.refuse = lambda call: (status, code)

    with pytest.raises(UsageError, match=f"AWS does not allow .*{code}"):
        deployed(adds).list()


def test_a_missing_region_and_missing_credentials_are_told_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    import boto3

    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    with pytest.raises(UsageError, match="no AWS region is set"):
        LambdaEngine("name").list()
    with pytest.raises(UsageError, match="NoCredentialsError"):
        LambdaEngine("name", region="us-west-2").list()
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    monkeypatch.setenv("AWS_PROFILE", "nobodys")
    with pytest.raises(UsageError, match="ProfileNotFound"):
        LambdaEngine("name", region="us-west-2").list()


def test_what_was_read_is_told_again_while_it_is_fresh(deployed: Functions, front: Front) -> None:
    engine = deployed(asks, fresh=60)
    run = engine.start(None, None, id="w")
    until(lambda: engine.close() or run.waiting_for(), "the wait")
    until(lambda: engine.close() or not run.info().active, "the invocation to end")
    front.calls.clear()

    run.info(), run.operations(), run.history(), run.waiting_for()
    assert front.calls == []
    engine.send("w", "answer", json.loads("1"))
    assert not run.waiting_for()


def test_importing_it_loads_no_boto3() -> None:
    import subprocess
    import sys

    code = (
        "import sys\nfrom perdure.durable import LambdaEngine\nLambdaEngine('f')\n"
        "print({'boto3', 'langchain_core', 'rich'} & set(sys.modules) or 'none')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "none"


def test_a_handler_side_import_does_not_load_the_operators_side() -> None:
    import subprocess
    import sys

    code = (
        "import sys, perdure.durable.aws\n"
        "print(any(name in sys.modules for name in "
        "('perdure.durable.aws.engine', 'perdure.durable.local')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
