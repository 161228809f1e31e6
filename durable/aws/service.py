"""The calls of the Lambda durable API that an invocation makes, and the client they go through.

One client serves the whole process. A thread makes it while the first handler already runs: out of
botocore's signer where a Lambda sandbox's environment says all there is to know, else through
boto3. Each error is classed once: transient (the invocation is to fail, so that Lambda makes it
again), or final.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..errors import JournalError, UsageError
from ..operations import ErrorObject, Operation
from .refusals import code_of, is_transient, words_of
from .wire import Update, operation_of, wire_error

CHOICE = "PERDURE_AWS_CLIENT"
"""The variable that has an invocation call through boto3's full client, if it is `boto3`."""
_PAGE = 1000
_CLOSED = frozenset({"CallbackTimeoutException", "ResourceNotFoundException", "404"})
"""Codes for a callback that is closed or unknown; "404" is an answer that names no code."""


class ServiceError(JournalError):
    """The Lambda service did not take a checkpoint, or did not give the state.

    Attributes:
        transient: another invocation may fare better; if not, the execution has failed.
    """

    def __init__(self, message: str, *, transient: bool) -> None:
        super().__init__(message)
        self.transient = transient


@dataclass(frozen=True, slots=True)
class Answer:
    """What a checkpoint is answered with; without a token, nothing more may be written."""

    token: str | None
    operations: list[Operation]


class LambdaService:
    """The durable API of AWS Lambda."""

    def __init__(self, client: Any) -> None:
        self._made = client if isinstance(client, Making) else Making(client)

    @classmethod
    def of_process(cls) -> LambdaService:
        """Return the service over this process's client, which is made meanwhile."""
        making = _of_process()
        making.begin()
        return cls(making)

    def checkpoint(self, arn: str, token: str, updates: Sequence[Update]) -> Answer:
        """Write updates, all or none; none is how to ask what changed.

        Raises:
            ServiceError: they were not written, or it is not known whether they were.
        """
        try:
            answer = self._made.get().checkpoint_durable_execution(
                DurableExecutionArn=arn, CheckpointToken=token, Updates=list(updates)
            )
            state = answer.get("NewExecutionState") or {}
            operations = [operation_of(wire) for wire in state.get("Operations") or ()]
        except Exception as error:
            raise _classed("the checkpoint was not taken", error) from error
        next_token: str | None = answer.get("CheckpointToken") or None
        if next_token is not None:
            operations += self.pages(arn, next_token, state.get("NextMarker"))
        return Answer(next_token, operations)

    def pages(self, arn: str, token: str, marker: str | None) -> list[Operation]:
        """Return the operations that follow a page's marker; none if it is empty.

        Raises:
            ServiceError: they could not be read.
        """
        operations: list[Operation] = []
        while marker:
            try:
                page = self._made.get().get_durable_execution_state(
                    DurableExecutionArn=arn, CheckpointToken=token, Marker=marker, MaxItems=_PAGE
                )
                operations += [operation_of(wire) for wire in page.get("Operations") or ()]
            except Exception as error:
                raise _classed("the state could not be read", error) from error
            marker = page.get("NextMarker")
        return operations

    def fail_callback(self, callback_id: str, error: ErrorObject) -> bool:
        """Fail a callback; return False if it was closed before, or is none.

        Raises:
            ServiceError: the service did not take it, or it is not known whether it did.
        """
        try:
            self._made.get().send_durable_execution_callback_failure(
                CallbackId=callback_id, Error=wire_error(error)
            )
        except Exception as refusal:
            if code_of(refusal) in _CLOSED:
                return False
            # The service's own words may hold the id, by which anybody could complete it.
            told = f"the callback was not failed: {code_of(refusal) or type(refusal).__name__}"
            raise ServiceError(told, transient=is_transient(refusal)) from None
        return True


class Making:
    """A client that is made once, by whoever needs it first: a thread of its own, or a call."""

    def __init__(self, client: Any = None) -> None:
        self._client = client
        self._begun = client is not None
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Have a thread make it."""
        if not self._begun:
            self._begun = True
            threading.Thread(target=self._try, name="perdure-client", daemon=True).start()

    def get(self) -> Any:
        """Return the client, made by now."""
        with self._lock:
            if self._client is None:
                self._client = _make()
            return self._client

    def _try(self) -> None:
        # The call that needs the client fails by itself, where it can be told of.
        with suppress(Exception):
            self.get()


_lock = threading.Lock()
_cached: Making | None = None


def client() -> Any:
    """Return this process's client."""
    return _of_process().get()


def use_client(client: Any) -> None:
    """Have this process call through a client of the caller's: boto3's, or one that is like it."""
    global _cached  # noqa: PLW0603
    with _lock:
        _cached = Making(client)


def forget_client() -> None:
    """Have the next invocation make its client anew, from the environment as it is then."""
    global _cached  # noqa: PLW0603
    with _lock:
        _cached = None


def _of_process() -> Making:
    global _cached  # noqa: PLW0603
    with _lock:
        if _cached is None:
            _cached = Making()
        return _cached


def _make() -> Any:
    chosen = os.environ.get(CHOICE) or "signed"
    if chosen not in ("signed", "boto3"):
        raise UsageError(f"{CHOICE} is {chosen!r}; it may be 'signed' (the default) or 'boto3'")
    from .target import target_of

    target = target_of(os.environ) if chosen == "signed" else None
    if target is None:
        return _boto3_client()
    from .client import SignedClient

    return SignedClient(target, _user_agent())


def _boto3_client() -> Any:
    import boto3  # type: ignore[import-untyped]
    from botocore.config import Config  # type: ignore[import-untyped]

    # A checkpoint carries a client token, so botocore may safely send it again.
    config = Config(
        connect_timeout=5,
        read_timeout=50,
        retries={"mode": "standard", "total_max_attempts": 3},
        user_agent_extra=_user_agent(),
    )
    made = boto3.Session().client("lambda", config=config)
    if not hasattr(made, "checkpoint_durable_execution"):
        raise UsageError(
            f"boto3 {boto3.__version__} does not know durable functions; perdure needs boto3 "
            "1.43.114 or later in the function's package or layer"
        )
    return made


def _user_agent() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"perdure/{version('perdure')}"
    except PackageNotFoundError:
        return "perdure/unknown"


def _classed(what: str, error: Exception) -> ServiceError:
    return ServiceError(f"{what}: {words_of(error)}", transient=is_transient(error))
