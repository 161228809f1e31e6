"""Large values on AWS: kept in S3, read when asked for, never lost and never another's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from perdure.agents import llm
from perdure.agents.testing import ScriptedModel
from perdure.durable import Context, durable_execution
from perdure.durable.aws import offload
from perdure.durable.aws.history import make_whole
from perdure.durable.aws.offload import BUCKET, PREFIX, Store
from perdure.durable.gated import value_of
from perdure.durable.offloaded import MARK, text_of
from perdure.durable.operations import Operation, OperationStatus, OperationType

from ..both import inner
from .bucket import NAME, Bucket
from .stage import HttpServer
from .worlds import AwsExecution, AwsWorld, Outcome

Make = Callable[..., Any]
LARGE = 300_000


@pytest.fixture(scope="session")
def moto() -> Iterator[Bucket]:
    server = Bucket()
    yield server
    server.stop()


@pytest.fixture
def bucket(moto: Bucket, aws: AwsWorld, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """The bucket that this process, as a function, keeps large values in."""
    moto.empty()
    monkeypatch.setenv(BUCKET, NAME)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto.url)
    monkeypatch.delenv(PREFIX, raising=False)
    offload.forget_client()
    yield moto
    offload.forget_client()


def recorded(run: AwsExecution, name: str) -> str:
    """Return the payload that the service has of a step or scope."""
    for event in run.history():
        details = event.get("StepSucceededDetails") or event.get("ContextSucceededDetails")
        if details is not None and event.get("Name") == name:
            return str(details["Result"]["Payload"])
    raise AssertionError(name)


def forgetful(make: Make, body: Any, **options: Any) -> Any:
    """Return a handler whose process remembers nothing of what it read before."""

    async def forgets(event: Any, context: Any) -> Any:
        offload.forget_client()
        return await body(event, context)

    return make(forgets, name=f"{body.__name__}-forgets", **options)


def test_a_large_result_is_an_object_and_its_record_a_reference(
    bucket: Bucket, aws: AwsWorld, make: Make
) -> None:
    ran: list[int] = []

    async def large(event: Any, context: Any) -> Any:
        text = await context.step("large", lambda: ran.append(1) or "ä" * LARGE)
        await context.step("small", lambda: "s")
        await context.sleep(1)
        return [len(text), text[0]]

    run = aws.start(forgetful(make, large))

    assert run.outcome() == Outcome([LARGE, "ä"])
    assert ran == [1]
    kept = json.loads(recorded(run, "large"))
    assert kept["size"] == 2 * LARGE + 2
    assert bucket.objects() == [kept["key"]]
    assert kept["key"].startswith("perdure/")
    assert kept["key"].endswith("/" + kept["sha256"])
    assert recorded(run, "small") == '"s"'


def test_each_kind_of_result_is_kept_and_comes_back(
    bucket: Bucket, aws: AwsWorld, make: Make
) -> None:
    ran: list[str] = []

    def big(name: str) -> str:
        ran.append(name)
        return name * LARGE

    async def child(context: Any) -> Any:
        return str(await context.step("small", lambda: "c")) * LARGE

    async def nested(context: Any, item: str) -> Any:
        return await context.step("in", big, item)

    async def kinds(event: Any, context: Any) -> Any:
        found = [await context.child("child", child)]
        found += await context.map("nested", ["x", "y"], nested)
        found += await context.map("flat", ["v", "w"], nested, nesting="flat")
        found.append(await context.wait_for_condition("polled", lambda n: big("p"), every=1))
        await context.sleep(1)
        return [each[0] for each in found], [len(each) for each in found]

    run = aws.start(forgetful(make, kinds))
    letters, lengths = run.outcome().value["value"]

    assert letters == ["c", "x", "y", "v", "w", "p"]
    assert lengths == [LARGE] * 6
    assert sorted(ran) == ["p", "v", "w", "x", "y"]


def test_the_prefix_is_the_functions(
    bucket: Bucket, aws: AwsWorld, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def prefixed(event: Any, context: Any) -> Any:
        return len(await context.step("large", lambda: "x" * LARGE))

    monkeypatch.setenv(PREFIX, "team/runs/")
    run = aws.start(forgetful(make, prefixed))

    assert run.outcome() == Outcome(LARGE)
    (key,) = bucket.objects()
    assert key.startswith("team/runs/")


def test_a_result_of_a_run_is_kept_where_an_asynchronous_one_would_not_fit(
    bucket: Bucket, aws: AwsWorld, make: Make
) -> None:
    async def results(event: Any, context: Any) -> Any:
        return "x" * event

    handler = forgetful(make, results)
    assert aws.start(handler, 900_000).outcome() == Outcome("x" * 900_000)

    found = aws.start(handler, 8_000_000).outcome().value
    assert found["$perdure"] == "s3"
    assert json.loads(text_of(json.dumps(found))) == "x" * 8_000_000


def test_a_large_result_of_another_function_is_read_by_its_caller(
    bucket: Bucket, aws: AwsWorld, make: Make
) -> None:
    @durable_execution(name="callee")
    def callee(event: Any, context: Context) -> Any:
        return "x" * 2_000_000

    async def caller(event: Any, context: Any) -> Any:
        text = await context.invoke("ask", "callee", 1)
        await context.sleep(1)
        return len(text)

    aws.register(callee)

    assert aws.start(forgetful(make, caller)).outcome() == Outcome(2_000_000)


def test_a_large_answer_of_a_model_is_paid_once_and_in_the_ledger(
    bucket: Bucket, aws: AwsWorld, make: Make
) -> None:
    model = ScriptedModel(["a" * LARGE, "b"])

    async def answers(event: Any, context: Any) -> Any:
        first = await value_of(llm(inner(context), "first", "?", model=model))
        await context.sleep(1)
        second = await value_of(llm(inner(context), "second", "?", model=model))
        return [len(first.text), second.text]

    assert aws.start(forgetful(make, answers)).outcome() == Outcome([LARGE, "b"])
    assert model.calls == 2


def test_what_models_were_asked_is_kept_each_message_once(
    bucket: Bucket, aws: AwsWorld, make: Make
) -> None:
    model = ScriptedModel(["one", "two", "three"])

    async def asks(event: Any, context: Any) -> Any:
        for name, prompt in (("first", "Why?"), ("again", "Why?"), ("other", "How?")):
            await value_of(llm(inner(context), name, prompt, model=model))
            await context.sleep(1) if name == "first" else None
        return "asked"

    run = aws.start(forgetful(make, asks))

    assert run.outcome() == Outcome("asked")
    stored = bucket.objects()
    assert len([key for key in stored if "/prompts/" in key]) == 2
    calls = [key.rpartition("/")[2] for key in stored if "/notes/" in key]
    execution, store = run.arn.rpartition("/")[2], Store(NAME)
    digests = [json.loads(store.note(execution, call) or "")["prompt"] for call in calls]
    told = sorted("".join(store.texts(execution, digest)) for digest in digests)
    assert ["How?" in told[0], "Why?" in told[1], told[1] == told[2]] == [True] * 3
    assert store.texts(execution, "00") == []
    assert store.note(execution, "none") is None


def test_prompts_that_cannot_be_kept_stop_nothing(
    bucket: Bucket, aws: AwsWorld, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    model = ScriptedModel(["one"])

    async def unkept(event: Any, context: Any) -> Any:
        return (await value_of(llm(inner(context), "first", "Why?", model=model))).text

    bucket.remove()

    assert aws.start(forgetful(make, unkept)).outcome() == Outcome("one")
    assert "what a model was asked is not kept" in caplog.text


def test_a_dict_that_looks_like_a_reference_is_only_a_dict(
    bucket: Bucket, aws: AwsWorld, make: Make
) -> None:
    trap = {"$perdure": "s3", "bucket": NAME, "key": "k", "size": 1, "sha256": "0"}

    async def looks(event: Any, context: Any) -> Any:
        kept = await context.step("kept", lambda: dict(trap))
        sent = await context.wait(60, "sent")
        await context.sleep(1)
        return kept == trap and sent == trap

    run = aws.start(forgetful(make, looks))
    run.send("sent", trap)

    assert run.outcome() == Outcome(True)


def test_looking_at_a_run_fetches_nothing_that_an_outsider_named(bucket: Bucket) -> None:
    [reference] = Store(NAME).put("another-run", ['"not yours"'])
    ended = (OperationStatus.SUCCEEDED, None, "it", None, 0, 0)
    step = Operation("a", OperationType.STEP, *ended, payload=reference)
    callback = Operation("b", OperationType.CALLBACK, *ended, payload=reference)

    make_whole([step, callback])

    assert step.payload == '"not yours"'
    assert callback.payload == reference


@pytest.mark.parametrize("caught", [False, True])
@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda bucket, key: bucket.delete(key), "could not be read"),
        (lambda bucket, key: bucket.put(key, b'"else"'), "is not what was kept there"),
    ],
)
def test_a_value_that_is_gone_or_another_fails_the_run_whatever_it_catches(
    bucket: Bucket, aws: AwsWorld, make: Make, caught: bool, harm: Any, words: str
) -> None:
    ran: list[int] = []

    async def loses(event: Any, context: Any) -> Any:
        try:
            text = await context.step("large", lambda: ran.append(1) or "x" * LARGE)
        except Exception:
            if not caught:
                raise
            text = await context.step("instead", lambda: "instead")
        await context.wait(60, "harmed")
        return text

    run = aws.start(forgetful(make, loses))
    run.wait_for("harmed", 1)
    (key,) = bucket.objects()
    harm(bucket, key)
    run.send("harmed")
    error = run.outcome().error

    assert error is not None
    assert error[0] == "perdure.PayloadUnavailableError"
    assert words in error[1]
    assert f"s3://{NAME}/{key}" in error[1]
    assert ran == [1]


def test_a_held_run_goes_on_when_its_value_is_restored(
    bucket: Bucket, aws: AwsWorld, make: Make
) -> None:
    ran: list[int] = []

    async def restored(event: Any, context: Any) -> Any:
        text = await context.step("large", lambda: ran.append(1) or "x" * LARGE)
        await context.wait(60, "harmed")
        return len(text)

    run = aws.start(forgetful(make, restored, hold_on_failure=True))
    run.wait_for("harmed", 1)
    (key,) = bucket.objects()
    content = bucket.client().get_object(Bucket=NAME, Key=key)["Body"].read()
    bucket.delete(key)
    run.send("harmed")
    assert "restore the object" in run.held()
    bucket.put(key, content)
    run.resume()

    assert run.outcome() == Outcome(LARGE)
    assert ran == [1]


@pytest.mark.parametrize("nesting", ["nested", "flat"])
def test_a_failed_batch_of_large_results_is_resumed_from_what_is_kept(
    bucket: Bucket, aws: AwsWorld, make: Make, nesting: str
) -> None:
    ran: list[int] = []

    async def branch(context: Any, item: int) -> Any:
        def work() -> str:
            ran.append(item)
            if item == 2 and ran.count(2) == 1:
                raise ConnectionError("down")
            return str(item) * LARGE

        return await context.step("work", work)

    async def resumes(event: Any, context: Any) -> Any:
        found = await context.map("all", range(3), branch, nesting=nesting, max_concurrency=1)
        await context.sleep(1)
        return [each[0] for each in found]

    run = aws.start(forgetful(make, resumes, hold_on_failure=True))
    run.held()
    run.resume()

    assert run.outcome() == Outcome(["0", "1", "2"])
    assert ran == [0, 1, 2, 2]


def test_a_bucket_that_is_not_there_fails_the_run_in_words_that_help(
    bucket: Bucket, aws: AwsWorld, make: Make
) -> None:
    ran: list[int] = []

    async def nowhere(event: Any, context: Any) -> Any:
        return len(await context.step("large", lambda: ran.append(1) or "x" * LARGE))

    bucket.remove()
    error = aws.start(forgetful(make, nowhere)).outcome().error

    assert error is not None
    assert f"s3://{NAME}/perdure/" in error[1]
    assert "s3:PutObject" in error[1]
    assert ran == [1]


def test_a_held_run_goes_on_when_there_is_a_bucket(
    bucket: Bucket, aws: AwsWorld, make: Make
) -> None:
    ran: list[int] = []

    async def waits_for_bucket(event: Any, context: Any) -> Any:
        return len(await context.step("large", lambda: ran.append(1) or "x" * LARGE))

    bucket.remove()
    run = aws.start(forgetful(make, waits_for_bucket, hold_on_failure=True))
    assert "s3:PutObject" in run.held()
    bucket.empty()
    run.resume()

    assert run.outcome() == Outcome(LARGE)
    assert ran == [1, 1]


@pytest.mark.parametrize("status", [500, 503])
def test_what_s3_refuses_for_the_moment_is_put_again(
    bucket: Bucket, aws: AwsWorld, make: Make, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    tries: list[str] = []

    def refuses(path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        tries.append(path)
        return (status if len(tries) < 3 else 200), {}, b""

    async def stumbles(event: Any, context: Any) -> Any:
        return len(await context.step("large", lambda: "x" * LARGE))

    server = HttpServer(refuses)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
    run = aws.start(forgetful(make, stumbles))

    assert run.outcome() == Outcome(LARGE)
    assert len(tries) == 3
    server.close()


def test_without_large_values_no_client_of_s3_is_made(
    bucket: Bucket, aws: AwsWorld, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def small(event: Any, context: Any) -> Any:
        return await context.step("small", lambda: 1)

    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "no address at all")
    assert aws.start(make(small, name="small")).outcome() == Outcome(1)
    code = "import sys, perdure.durable.aws.offload; print('boto3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.strip() == b"False"


def test_a_reference_is_told_from_any_value_by_its_beginning() -> None:
    assert text_of('{"a": 1}') == '{"a": 1}'
    assert MARK.startswith('{"$perdure": ')
