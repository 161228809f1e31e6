"""The calls of the Lambda durable API that an invocation makes, over boto3.

boto3 is loaded when the first of them is made, and one client serves the whole process. Each error
is classed once: transient (the invocation is to fail, so that Lambda makes it again), or final.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..errors import JournalError, UsageError
from ..operations import ErrorObject, Operation
from .wire import Update, operation_of, wire_error

_PAGE = 1000
_CLOSED = frozenset({"CallbackTimeoutException", "ResourceNotFoundException", "404"})
"""Codes for a callback that is closed or unknown; "404" is an answer that names no code."""
_KMS = frozenset(
    {
        "KMSAccessDeniedException",
        "KMSDisabledException",
        "KMSInvalidStateException",
        "KMSNotFoundException",
    }
)


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
        self._client = client

    @classmethod
    def of_process(cls) -> LambdaService:
        """Return the service over this process's client, made once from the environment."""
        return cls(client())

    def checkpoint(self, arn: str, token: str, updates: Sequence[Update]) -> Answer:
        """Write updates, all or none; none is how to ask what changed.

        Raises:
            ServiceError: they were not written, or it is not known whether they were.
        """
        try:
            answer = self._client.checkpoint_durable_execution(
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
                page = self._client.get_durable_execution_state(
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
            self._client.send_durable_execution_callback_failure(
                CallbackId=callback_id, Error=wire_error(error)
            )
        except Exception as refusal:
            if _code(refusal) in _CLOSED:
                return False
            # The service's own words may hold the id, by which anybody could complete it.
            told = f"the callback was not failed: {_code(refusal) or type(refusal).__name__}"
            raise ServiceError(told, transient=is_transient(refusal)) from None
        return True


_lock = threading.Lock()
_cached: Any = None


def forget_client() -> None:
    """Have the next invocation make its client anew, from the environment as it is then."""
    global _cached  # noqa: PLW0603
    with _lock:
        _cached = None


def client() -> Any:
    """Return this process's boto3 client; the first call makes it, in about 0.3 s."""
    global _cached  # noqa: PLW0603
    with _lock:
        if _cached is None:
            import boto3  # type: ignore[import-untyped]
            from botocore.config import Config  # type: ignore[import-untyped]

            # A checkpoint carries a client token, so botocore may safely send it again.
            config = Config(
                connect_timeout=5,
                read_timeout=50,
                retries={"mode": "standard", "total_max_attempts": 3},
                user_agent_extra=f"perdure/{_version()}",
            )
            made = boto3.client("lambda", config=config)
            if not hasattr(made, "checkpoint_durable_execution"):
                raise UsageError(
                    f"boto3 {boto3.__version__} does not know durable functions; perdure needs "
                    "boto3 1.43.114 or later in the function's package or layer"
                )
            _cached = made
        return _cached


def _version() -> str:
    try:
        return version("perdure")
    except PackageNotFoundError:
        return "unknown"


def _classed(what: str, error: Exception) -> ServiceError:
    return ServiceError(f"{what}: {error}", transient=is_transient(error))


def _code(error: Exception) -> str:
    answer: Mapping[str, Any] = getattr(error, "response", None) or {}
    return str((answer.get("Error") or {}).get("Code") or "")


def is_transient(error: Exception) -> bool:
    """Return whether another invocation may fare better than this call did."""
    answer: Mapping[str, Any] = getattr(error, "response", None) or {}
    details = answer.get("Error") or {}
    status = (answer.get("ResponseMetadata") or {}).get("HTTPStatusCode")
    if details.get("Code") in _KMS:
        return False
    if _is_malformed(error):
        return False
    if status is None or status == 429 or not 400 <= status < 500:
        return True
    # Another invocation has written since: this one is over, the next gets a token that holds.
    return str(details.get("Message") or "").lower().startswith("invalid checkpoint token")


def _is_malformed(error: Exception) -> bool:
    """Return whether botocore refused the request itself; it would refuse it the next time, too."""
    from botocore.exceptions import ParamValidationError  # type: ignore[import-untyped]

    return isinstance(error, ParamValidationError)
