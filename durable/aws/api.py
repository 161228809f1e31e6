"""The calls of an operator: start a run, look at runs, answer what they wait for, end them.

What fails is one of perdure's errors. Reads are asked again while the service refuses for reasons
that may pass (its history may be asked for 15 times a second); a completion is sent once, since a
second one would be told that the callback is closed, by the first. The id of a callback, by which
anybody could complete it, is in no error's text.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from ..errors import (
    CallbackClosedError,
    CallbackNotFoundError,
    ExecutionConflictError,
    ExecutionNotFoundError,
    PerdureError,
    UsageError,
)
from .refusals import code_of, is_transient, words_of
from .service import ServiceError

Wire = dict[str, Any]
Refusals = dict[str, Callable[[], PerdureError]]
PAGE = 1000
_NOT_FOUND = frozenset({"ResourceNotFoundException", "404"})
_STARTED_BEFORE = "DurableExecutionAlreadyStartedException"
_NOT_ALLOWED = frozenset(
    {
        "AccessDeniedException",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationTokenException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_NO_CREDENTIALS = ("Credential", "Token", "SSO", "Profile", "Config", "Login")
"""Words in the names of botocore's errors about who calls."""


class StartedBefore(ExecutionConflictError):
    """A run of this name exists; whether it is the same is for the caller."""


class LambdaApi:
    """The durable API of one function, as an operator uses it.

    Args:
        function: its name or ARN, with or without a version or alias after a colon; None where
            runs are only ever named by their ARNs.
        qualifier: the version or alias, if it is not in `function`.
        client: boto3's client `lambda`, used as it is; made when first needed, if not given.
    """

    def __init__(
        self,
        function: str | None = None,
        *,
        qualifier: str | None = None,
        client: Any = None,
        region: str | None = None,
        endpoint_url: str | None = None,
    ) -> None:
        self.function, named = split_function(function or "")
        if qualifier is not None and named not in (None, qualifier):
            raise UsageError(f"two versions or aliases are named: {named!r} and {qualifier!r}")
        self.qualifier = qualifier or named
        self._reader, self._writer = client, client
        self._place = {"region_name": region, "endpoint_url": endpoint_url}
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The function's name alone."""
        return self._function().rpartition(":")[2]

    def start(self, name: str, payload: str) -> str | None:
        """Start a run of this name, and return its ARN if it is told.

        Raises:
            StartedBefore: there is one of this name, with another input.
        """
        request = {
            "FunctionName": self._function(),
            "Qualifier": self.qualifier or "$LATEST",
            "InvocationType": "Event",
            "DurableExecutionName": name,
            "Payload": payload.encode(),
        }
        refusals: Refusals = dict.fromkeys(_NOT_FOUND, self._no_function)
        refusals[_STARTED_BEFORE] = lambda: StartedBefore(f"a run {name!r} was started before")
        answer = self._ask("invoke", request, refusals)
        arn: str | None = answer.get("DurableExecutionArn")
        return arn

    def executions(
        self,
        *,
        name: str | None = None,
        statuses: Sequence[str] = (),
        page: int = PAGE,
    ) -> Iterator[Wire]:
        """Yield the function's runs, the newest first."""
        wanted = {"DurableExecutionName": name, "Statuses": list(statuses)}
        query: Wire = {key: value for key, value in wanted.items() if value}
        query |= {"FunctionName": self._function(), "MaxItems": page}
        missing: Refusals = dict.fromkeys(_NOT_FOUND, self._no_function)
        while True:
            found = self._ask("list_durable_executions_by_function", query, missing)
            # AWS gives the newest first; its local runner, asked the same, gives them last.
            runs = found.get("DurableExecutions") or []
            yield from sorted(runs, key=lambda run: run["StartTimestamp"], reverse=True)
            if not found.get("NextMarker"):
                return
            query["Marker"] = found["NextMarker"]

    def execution(self, arn: str, *, data: bool = True) -> Wire:
        """Return what is known of a run; `data` for its input, result and error, too.

        Raises:
            ExecutionNotFoundError: there is none of this ARN.
        """
        request = {"DurableExecutionArn": arn, "IncludeExecutionData": data}
        return self._ask("get_durable_execution", request, _no_run(arn))

    def events(self, arn: str, *, newest_first: bool = False, page: int = PAGE) -> Iterator[Wire]:
        """Yield the events of a run's history, payloads included.

        Raises:
            ExecutionNotFoundError: there is none of this ARN.
        """
        query: Wire = {"DurableExecutionArn": arn, "IncludeExecutionData": True, "MaxItems": page}
        query["ReverseOrder"] = newest_first
        while True:
            found = self._ask("get_durable_execution_history", query, _no_run(arn))
            yield from found.get("Events") or ()
            if not found.get("NextMarker"):
                return
            query["Marker"] = found["NextMarker"]

    def stop(self, arn: str, error: Wire) -> None:
        """End a run."""
        request = {"DurableExecutionArn": arn, "Error": error}
        self._ask("stop_durable_execution", request, _no_run(arn))

    def unpause(self, arn: str) -> None:
        """Have a paused run go on."""
        self._ask("resume_durable_execution", {"DurableExecutionArn": arn}, _no_run(arn))

    def delete(self, arn: str) -> None:
        """Have an ended run deleted.

        Raises:
            ExecutionConflictError: it has not ended.
        """
        running = f"the run {arn!r} is running; cancel it before it is deleted"
        refusals = _no_run(arn) | {
            "ResourceConflictException": lambda: ExecutionConflictError(running)
        }
        self._ask("delete_durable_execution", {"DurableExecutionArn": arn}, refusals)

    def complete(self, callback: str, text: str | None) -> None:
        """Complete a callback, once.

        Raises:
            CallbackClosedError: it was closed before, or there is none of this id.
            ServiceError: it was not completed, or it is not known whether it was.
        """
        result = {} if text is None else {"Result": text.encode()}
        self._answer("success", {"CallbackId": callback} | result)

    def fail(self, callback: str, error: Wire) -> None:
        """Complete a callback as failed, once."""
        self._answer("failure", {"CallbackId": callback, "Error": error})

    def beat(self, callback: str) -> None:
        """Keep a callback alive for another of its heartbeat intervals."""
        self._answer("heartbeat", {"CallbackId": callback})

    def _answer(self, verb: str, request: Wire) -> None:
        closed = "the callback is closed: it was completed, its time is up, or its run has ended"
        none = "the service knows no such callback: it is closed, or its run is"
        refusals: Refusals = dict.fromkeys(_NOT_FOUND, lambda: CallbackNotFoundError(none))
        refusals["CallbackTimeoutException"] = lambda: CallbackClosedError(closed)
        self._ask(f"send_durable_execution_callback_{verb}", request, refusals, once=True)

    def _ask(self, name: str, request: Wire, refusals: Refusals, *, once: bool = False) -> Wire:
        """Make one call; `refusals` are the errors that its codes stand for."""
        try:
            call = getattr(self._client(once=once), name, None)
            if call is None:
                raise UsageError(
                    f"this boto3 cannot {name.replace('_', ' ')}: pip install --upgrade boto3"
                )
            answer: Wire = call(**request)
        except PerdureError:
            raise
        except Exception as error:
            meant = refusals.get(code_of(error))
            if meant is not None:
                raise meant() from None
            _refuse(name, error, private=once)
        return answer

    def _client(self, *, once: bool) -> Any:
        with self._lock:
            if once:
                self._writer = self._writer or _made(1, self._place)
                return self._writer
            self._reader = self._reader or _made(8, self._place)
            return self._reader

    def _function(self) -> str:
        if not self.function:
            raise UsageError("name the Lambda function whose runs are meant")
        return self.function

    def _no_function(self) -> PerdureError:
        return UsageError(
            f"there is no Lambda function {self.function!r} in this account and region"
        )


def split_function(function: str) -> tuple[str, str | None]:
    """Return a function's name or ARN without its version or alias, and that."""
    parts = function.split(":")
    named = 7 if parts[0] == "arn" else 3 if len(parts) > 2 else 1
    if len(parts) == named + 1 and all(parts):
        return ":".join(parts[:named]), parts[named]
    return function, None


def _made(attempts: int, place: Mapping[str, str | None]) -> Any:
    import boto3  # type: ignore[import-untyped]
    from botocore.config import Config  # type: ignore[import-untyped]

    config = Config(
        connect_timeout=5,
        read_timeout=30,
        retries={"mode": "standard", "total_max_attempts": attempts},
        user_agent_extra="perdure",
    )
    client = boto3.Session().client("lambda", config=config, **place)
    if not hasattr(client, "get_durable_execution_history"):
        raise UsageError(
            f"boto3 {boto3.__version__} does not know durable functions; pip install "
            "'boto3>=1.43.114'"
        )
    return client


def _no_run(arn: str) -> dict[str, Callable[[], PerdureError]]:
    return dict.fromkeys(_NOT_FOUND, lambda: ExecutionNotFoundError(f"there is no run {arn!r}"))


def _refuse(name: str, error: Exception, *, private: bool) -> NoReturn:
    """Raise what an error of botocore's means; `private` keeps the service's words out of it."""
    kind, code = type(error).__name__, code_of(error)
    call = "".join(part.title() for part in name.split("_"))
    said = f"{call}: {code or kind}" if private else f"{call}: {words_of(error)}"
    if code in _NOT_ALLOWED:
        raise UsageError(f"AWS does not allow {said}") from None
    if kind == "NoRegionError":
        raise UsageError(
            "no AWS region is set: set AWS_DEFAULT_REGION, or a region in the profile"
        ) from None
    if isinstance(error, ValueError) and not private:  # a region or address that cannot be one
        raise UsageError(f"AWS cannot be called: {error}") from None
    if not code and any(word in kind for word in _NO_CREDENTIALS):
        raise UsageError(
            f"AWS cannot be called: {kind}; sign in, or set AWS_PROFILE or AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY"
        ) from None
    if is_transient(error):
        raise ServiceError(f"the service could not be asked: {said}", transient=True) from None
    raise UsageError(f"the service refuses {said}") from None
