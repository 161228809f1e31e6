"""Each request that a server saw is one attempt of the journal, whatever became of it.

Real models' classes and boto3 speak to a local Bedrock that fails in every way it can. Attempts
that were never sent, and calls that were refused before they were sent, are no requests.
"""

from __future__ import annotations

import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import BaseModel

from perdure.agents import ModelCallError, ledger, llm
from perdure.agents.lines import Line, Outcome
from perdure.durable import UsageError
from perdure.durable.gated import drive, value_of
from perdure.durable.testing import Runner, check_replay

from ..waiting import until
from .converse import (
    ERRORS,
    MODEL,
    Answer,
    Broken,
    ConverseServer,
    Cut,
    Drop,
    Reply,
    Request,
    bedrock,
    session,
)

ANSWERED, FINAL, NEVER_SENT, REFUSED, UNCERTAIN = (
    Outcome.ANSWERED,
    Outcome.FINAL,
    Outcome.NEVER_SENT,
    Outcome.REFUSED,
    Outcome.UNCERTAIN,
)
OTHER = "amazon.nova-lite-v1:0"
IMPATIENT = 0.2
"""Seconds a client waits for an answer that does not come."""
LONG = Answer("An answer long enough to be cut off in its middle.")
PASSING: dict[str, tuple[Reply, Outcome]] = {
    "429": (ERRORS["ThrottlingException"], REFUSED),
    "429 not ready": (ERRORS["ModelNotReadyException"], REFUSED),
    "503": (ERRORS["ServiceUnavailableException"], REFUSED),
    "500": (ERRORS["InternalServerException"], UNCERTAIN),
    "408": (ERRORS["ModelTimeoutException"], UNCERTAIN),
    "424": (ERRORS["ModelErrorException"], UNCERTAIN),
    "dropped": (Drop(), UNCERTAIN),
    "dropped unread": (Drop(unread=True), UNCERTAIN),
    "cut JSON": (Cut(LONG), UNCERTAIN),
    "cut body": (Cut(LONG, honest=False), UNCERTAIN),
    "no usage": (Answer("for free?", without=("usage",)), UNCERTAIN),
}
"""Failures after which a call is sent again."""
IN_STREAM: dict[str, Reply] = {
    "cut in a frame": Broken(LONG),
    "ends early": Broken(LONG, clean=True),
    "error event": Broken(LONG, code="modelStreamErrorException"),
}
FOR_GOOD = {
    "400": "ValidationException",
    "400 quota": "ServiceQuotaExceededException",
    "403": "AccessDeniedException",
    "404": "ResourceNotFoundException",
}
Serve = Callable[..., ConverseServer]
Make = Callable[..., Any]


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


@pytest.fixture
def nowhere() -> Iterator[str]:
    """A URL where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{probe.getsockname()[1]}"


def asking(model: Any, **options: Any) -> Callable[..., Any]:
    """Return a handler's body that makes one call, and returns its text or its error's type."""

    async def body(event: Any, context: Any) -> Any:
        try:
            return (await value_of(llm(context, "ask", "How many?", model=model, **options))).text
        except ModelCallError as error:
            return {"failed": error.error_type}

    return body


def ended(runner: Runner, handler: Any) -> Any:
    """Run a handler to its end, retries' waits and all, and replay it."""
    run = runner.start(handler)
    runner.run_until_idle()
    run.result(timeout=0)
    check_replay(run)
    return run


def lines_of(run: Any) -> list[Line]:
    return [line for entry in ledger(run).entries for line in entry.lines]


def outcomes(run: Any) -> list[Outcome]:
    return [line.outcome for line in lines_of(run)]


def attempts(run: Any) -> list[dict[str, str]]:
    """Return the attempts that were sent, as their requests name them."""
    return [
        {
            "perdure_run": run.id,
            "perdure_step": entry.path.rpartition("/")[2],
            "perdure_attempt": str(attempt),
        }
        for entry in ledger(run).entries
        for attempt, line in enumerate(entry.lines, 1)
        if line.outcome is not NEVER_SENT
    ]


def check_books(server: ConverseServer, run: Any) -> None:
    """Check that the server's requests are the journal's attempts, one for one, and its bill."""
    sent = attempts(run)
    assert server.count == len(sent)
    for request, attempt in zip(server.requests, sent, strict=True):
        assert request.metadata in (attempt, {}), "only a request that was not read has no name"
    check_bill(server, lines_of(run))


def check_bill(server: ConverseServer, lines: list[Line]) -> None:
    """Check that what was billed is on record with its tokens, or as an attempt that may be."""
    answered = {line.request_id: line for line in lines if line.outcome is ANSWERED}
    for id, line in answered.items():
        assert id is not None
        assert line.usage is not None
        counted = server.billed[id]
        tokens = (counted["inputTokens"], counted["outputTokens"])
        assert (line.usage.input, line.usage.output) == tokens
    unsure = [line for line in lines if line.outcome is UNCERTAIN]
    assert len(server.billed.keys() - answered.keys()) <= len(unsure)
    assert all(line.billed is None and line.tokens for line in unsure)


@pytest.mark.parametrize("fault", PASSING)
def test_a_failure_is_one_request_and_so_is_the_answer_after_it(
    serve: Serve, runner: Runner, make: Make, fault: str
) -> None:
    reply, outcome = PASSING[fault]
    server = serve([reply, Answer("Seven.")])

    run = ended(runner, make(asking(bedrock(server.url))))

    assert run.result() == "Seven."
    assert outcomes(run) == [outcome, ANSWERED]
    check_books(server, run)


@pytest.mark.parametrize("fault", IN_STREAM)
def test_a_stream_that_broke_is_one_request_and_so_is_the_answer_after_it(
    serve: Serve, runner: Runner, make: Make, fault: str
) -> None:
    server = serve([IN_STREAM[fault], Answer("Seven.")])

    run = ended(runner, make(asking(bedrock(server.url), stream=True)))

    assert run.result() == "Seven."
    assert outcomes(run) == [UNCERTAIN, ANSWERED]
    check_books(server, run)


@pytest.mark.parametrize("fault", FOR_GOOD)
def test_a_failure_for_good_is_one_request_and_the_last(
    serve: Serve, runner: Runner, make: Make, fault: str
) -> None:
    server = serve(lambda *_: ERRORS[FOR_GOOD[fault]])

    run = ended(runner, make(asking(bedrock(server.url))))

    assert "failed" in run.result()
    assert outcomes(run) == [FINAL]
    assert server.count == 1
    check_books(server, run)


@pytest.mark.parametrize(("fault", "attempts"), [("500", 2), ("cut JSON", 2), ("503", 6)])
def test_a_failure_that_lasts_is_given_up_and_each_request_is_on_record(
    serve: Serve, runner: Runner, make: Make, fault: str, attempts: int
) -> None:
    reply, outcome = PASSING[fault]
    server = serve(lambda *_: reply)

    run = ended(runner, make(asking(bedrock(server.url))))

    assert "failed" in run.result()
    assert outcomes(run) == [outcome] * attempts
    check_books(server, run)


def test_answers_slower_than_the_clients_patience_count_as_maybe_billed(
    serve: Serve, runner: Runner, make: Make, gate: threading.Event
) -> None:
    server = serve(lambda *_: Answer("too late", gate=gate))

    run = ended(runner, make(asking(bedrock(server.url, read_timeout=IMPATIENT))))

    assert run.result() == {"failed": "botocore.exceptions.ReadTimeoutError"}
    assert outcomes(run) == [UNCERTAIN, UNCERTAIN]
    until(lambda: len(server.billed) == 2, "the requests that the client has left")
    check_books(server, run)


def test_a_storm_of_throttling_costs_nothing_and_ends_in_an_answer(
    serve: Serve, runner: Runner, make: Make
) -> None:
    server = serve([*[ERRORS["ThrottlingException"]] * 8, Answer("Seven.")])

    run = ended(runner, make(asking(bedrock(server.url), retry={"max_attempts": 9})))

    assert run.result() == "Seven."
    assert outcomes(run) == [REFUSED] * 8 + [ANSWERED]
    assert ledger(run).totals.free == 8
    assert len(server.billed) == 1
    check_books(server, run)


def test_throttling_between_failures_does_not_raise_what_may_be_billed(
    serve: Serve, runner: Runner, make: Make
) -> None:
    throttled, broken = ERRORS["ThrottlingException"], ERRORS["InternalServerException"]
    server = serve([broken, throttled, throttled, broken, Answer("never asked for")])

    run = ended(runner, make(asking(bedrock(server.url))))

    assert "failed" in run.result()
    assert outcomes(run) == [UNCERTAIN, REFUSED, REFUSED, UNCERTAIN]
    check_books(server, run)


def test_where_nobody_listens_nothing_was_sent(
    serve: Serve, runner: Runner, make: Make, nowhere: str
) -> None:
    server = serve([Answer("Seven.")])
    model = bedrock(nowhere)

    run = ended(runner, make(asking(model, fallbacks=[bedrock(server.url)])))

    assert run.result() == "Seven."
    assert outcomes(run) == [NEVER_SENT] * 6 + [ANSWERED]
    check_books(server, run)


def test_a_call_that_breaks_a_rule_known_here_is_no_request(
    serve: Serve, runner: Runner, make: Make
) -> None:
    server = serve()
    options = {"extra": {"modelId": OTHER}}

    run = ended(runner, make(asking(bedrock(server.url), options=options)))

    assert run.result() == {"failed": "perdure.InvalidRequest"}
    assert outcomes(run) == [NEVER_SENT]
    assert server.count == 0
    assert ledger(run).totals.attempts == 0


def test_a_second_model_answers_where_the_first_is_not_there(
    serve: Serve, runner: Runner, make: Make
) -> None:
    def behaviour(request: Request, number: int) -> Reply:
        return Answer("Seven.") if request.model == OTHER else ERRORS["ResourceNotFoundException"]

    server = serve(behaviour)
    second = bedrock(server.url, model=OTHER)

    run = ended(runner, make(asking(bedrock(server.url), fallbacks=[second])))

    assert run.result() == "Seven."
    assert [(line.outcome, line.model) for line in lines_of(run)] == [
        (FINAL, MODEL),
        (ANSWERED, OTHER),
    ]
    check_books(server, run)


class Count(BaseModel):
    """How many."""

    number: int


def test_each_request_names_its_run_step_and_attempt(
    serve: Serve, runner: Runner, make: Make
) -> None:
    wrong, right = ((("a", "Count", {"number": each}),) for each in ("some", 7))
    server = serve(
        [
            ERRORS["ThrottlingException"],
            ERRORS["InternalServerException"],
            Answer(tools=wrong),
            ERRORS["ServiceUnavailableException"],
            Answer(tools=right),
        ]
    )

    run = ended(runner, make(asking(bedrock(server.url), output=Count)))

    assert [request.metadata for request in server.requests] == [
        {"perdure_run": run.id, "perdure_step": step, "perdure_attempt": attempt}
        for step, attempt in map(str.split, ["ask 1", "ask 2", "ask 3", "repair 1", "repair 2"])
    ]
    check_books(server, run)


def test_calls_side_by_side_are_told_apart_by_their_requests(
    serve: Serve, runner: Runner, make: Make
) -> None:
    failed: set[str] = set()

    def behaviour(request: Request, number: int) -> Reply:
        if request.text in failed:
            return Answer(f"to {request.text}")
        failed.add(request.text)
        return ERRORS["InternalServerException"]

    server = serve(behaviour)
    model = bedrock(server.url)

    async def branch(scope: Any, item: int) -> str:
        return str((await value_of(llm(scope, f"ask-{item}", f"q{item}", model=model))).text)

    async def body(event: Any, context: Any) -> Any:
        items = range(8)
        batch = context.map("all", items, lambda scope, item: drive(scope, branch(scope, item)))
        return list(await value_of(batch))

    run = ended(runner, make(body))

    assert run.result() == [f"to q{item}" for item in range(8)]
    assert outcomes(run) == [UNCERTAIN, ANSWERED] * 8
    named = [str(sorted(request.metadata.items())) for request in server.requests]
    assert sorted(named) == sorted(str(sorted(each.items())) for each in attempts(run))
    check_bill(server, lines_of(run))


class Foreign(BaseChatModel):
    """A model as somebody else may write it: over a client with boto3's own retries."""

    client: Any
    model: str

    @property
    def _llm_type(self) -> str:
        return "foreign"

    def _generate(
        self, messages: list[Any], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        said = [{"role": "user", "content": [{"text": messages[-1].text}]}]
        answer = self.client.converse(modelId=self.model, messages=said)
        usage = answer["usage"]
        message = AIMessage(
            answer["output"]["message"]["content"][0]["text"],
            response_metadata={"ResponseMetadata": answer["ResponseMetadata"]},
            usage_metadata={
                "input_tokens": usage["inputTokens"],
                "output_tokens": usage["outputTokens"],
                "total_tokens": usage["totalTokens"],
            },
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


def foreign(server: ConverseServer, name: str) -> Foreign:
    client = session().client("bedrock-runtime", endpoint_url=server.url)
    return Foreign(client=client, model=name)


def test_hidden_attempts_of_a_foreign_model_are_warned_of_once_and_counted(
    serve: Serve, runner: Runner, make: Make, kind: str
) -> None:
    server = serve([ERRORS["InternalServerException"], Answer("Six."), Answer("Seven.")])
    model = foreign(server, f"foreign.counted-{kind}")

    async def body(event: Any, context: Any) -> Any:
        replies = [await value_of(llm(context, "ask", "How many?", model=model)) for _ in "ab"]
        return [reply.text for reply in replies]

    warned = f"the model {model.model} makes up to 2 further attempts of its own"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = ended(runner, make(body))

    assert len([each for each in caught if str(each.message).startswith(warned)]) == 1
    assert run.result() == ["Six.", "Seven."]
    assert [line.hidden_retries for line in lines_of(run)] == [1, 0]
    totals = ledger(run).totals
    assert server.count == totals.attempts + totals.hidden_retries == 3
    check_bill(server, lines_of(run))


@pytest.mark.filterwarnings("ignore:the model foreign:UserWarning")
def test_hidden_attempts_that_failed_are_counted_too(
    serve: Serve, runner: Runner, make: Make
) -> None:
    server = serve([*[ERRORS["InternalServerException"]] * 4, Answer("Seven.")])
    model = foreign(server, "foreign.failing")

    run = ended(runner, make(asking(model)))

    assert run.result() == "Seven."
    assert [(line.outcome, line.hidden_retries) for line in lines_of(run)] == [
        (UNCERTAIN, 2),
        (ANSWERED, 1),
    ]
    totals = ledger(run).totals
    assert server.count == totals.attempts + totals.hidden_retries == 5


def test_a_model_with_hidden_attempts_is_refused_where_that_is_asked_for(
    serve: Serve, runner: Runner, make: Make
) -> None:
    server = serve()
    model = foreign(server, "foreign.refused")

    async def body(event: Any, context: Any) -> Any:
        with pytest.raises(UsageError, match="further attempts of its own"):
            await value_of(llm(context, "ask", "How many?", model=model, strict=True))

    run = runner.start(make(body))
    runner.run_until_idle()
    run.result(timeout=0)

    assert server.count == 0
    assert outcomes(run) == []
