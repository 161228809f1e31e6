"""What became of a request that raised, and what a model's client would do about it unseen.

`fate_of` classes the errors of boto3, LangChain, OpenAI, Anthropic, httpx and Python by their class
names, HTTP status and AWS code; nothing is imported to tell them. What cannot be told is UNCERTAIN,
the careful side: it may have run, and may be billed. That what was refused is free, and that what
may have run is billed at most once, is how providers describe it; nobody can check it from here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from perdure.durable.errors import UsageError

from .errors import Fate, InvalidRequest, RequestError

_NAMES: dict[Fate, str] = {
    Fate.NEVER_SENT: """
        ConnectTimeoutError EndpointConnectionError ProxyConnectionError botocore.ConnectionError
        botocore.SSLError CredentialRetrievalError MetadataRetrievalError
        APIConnectionError ConnectError ConnectTimeout PoolTimeout ProxyError NewConnectionError
        NameResolutionError ClientConnectorError
        ConnectionRefusedError gaierror SSLCertVerificationError
    """,
    Fate.REFUSED: "ModelRateLimitError RateLimitError",
    Fate.UNCERTAIN: """
        APITimeoutError ModelTimeoutError ModelConnectionError ModelAPIError
        HTTPClientError ReadTimeoutError ConnectionClosedError ResponseStreamingError
        IncompleteReadError TimeoutError ConnectionError
    """,
    Fate.FINAL: """
        ModelAuthenticationError ModelPermissionDeniedError ModelInvalidRequestError
        ModelNotFoundError ContextOverflowError ModelRefusalError
        NoCredentialsError PartialCredentialsError ParamValidationError NoAuthTokenError
        TokenRetrievalError SSOError LoginError RefreshWithMFAUnsupportedError ProfileNotFound
        BaseEndpointResolverError EndpointProviderError InvalidEndpointConfigurationError
        InvalidRegionError DataNotFoundError ConfigParseError ConfigNotFound InvalidConfigError
        InvalidRetryConfigurationError InvalidProxiesConfigError MissingDependencyException
        UnknownSignatureVersionError UnsupportedSignatureVersionError botocore.ValidationError
        UnsupportedProtocol InvalidURL
        pydantic_core.ValidationError pydantic.ValidationError
        ImportError TypeError NameError AttributeError NotImplementedError SyntaxError
    """,
}
_BY_NAME = {name: fate for fate, names in _NAMES.items() for name in names.split()}
_WRAPPERS = frozenset({"APIConnectionError", "ModelConnectionError", "ModelTimeoutError"})
"""Errors that say no more than their cause: connected or not, sent or not."""

_CODES: dict[Fate, str] = {
    Fate.REFUSED: """
        Throttling Throttled ThrottledRequest RequestThrottled TooManyRequests RequestLimitExceeded
        ProvisionedThroughputExceeded ModelNotReady ServiceUnavailable SlowDown
    """,
    Fate.UNCERTAIN: """
        InternalServer InternalFailure ModelError ModelTimeout ModelStreamError RequestTimeout
    """,
    Fate.FINAL: "Validation AccessDenied ResourceNotFound ServiceQuotaExceeded Conflict",
}
_BY_CODE = {code: fate for fate, codes in _CODES.items() for code in codes.split()}
_REFUSED_STATUS = frozenset({429, 503, 529})
_UNCERTAIN_STATUS = frozenset({408, 409, 424, 425})

_TOO_LONG = re.compile(
    r"(input|prompt|request|conversation) (is|was) too (long|large)|too many (input|prompt) tokens"
    r"|context (length|window|limit)|maximum (number of )?(input|prompt|context) tokens"
    r"|exceeds? the (model'?s )?(maximum|context|token)",
    re.IGNORECASE,
)


def fate_of(error: BaseException) -> Fate:
    """Return what became of the request that ended in this error."""
    if isinstance(error, RequestError):
        bare = type(error) is RequestError and error.__cause__ is not None
        return fate_of(error.__cause__) if bare and error.__cause__ else error.fate
    if isinstance(error, UsageError):
        return Fate.FINAL
    names = _names(error)
    if "EventStreamError" in names:
        return Fate.UNCERTAIN
    if "ContextOverflowError" in names or _text_code(error) == "insufficient_quota":
        return Fate.FINAL
    if (told := _aws(error)) is not None:
        code, status = told
        return _BY_CODE.get(code) or _of_status(status)
    if (status := _status(error)) is not None:
        return _of_status(status)
    if error.__cause__ is not None and not _WRAPPERS.isdisjoint(names):
        return fate_of(error.__cause__)
    return next((_BY_NAME[name] for name in names if name in _BY_NAME), Fate.UNCERTAIN)


def was_stopped_here(error: BaseException) -> bool:
    """Return whether a request was found wrong on this machine, and so was never sent."""
    if isinstance(error, InvalidRequest | UsageError):
        return True
    return "BotoCoreError" in _names(error) and fate_of(error) is Fate.FINAL


def is_context_overflow(error: BaseException) -> bool:
    """Return whether the request was refused because its input is longer than the model takes."""
    if "ContextOverflowError" in _names(error) or _text_code(error) == "context_length_exceeded":
        return True
    told = _aws(error)
    code, status = told if told is not None else (None, _status(error))
    invalid = code == "Validation" if code else status in {400, 413}
    return invalid and _TOO_LONG.search(str(error)) is not None


def hidden_retries(model: Any) -> int | None:
    """Return how many further requests a model may send unseen for one call: 0 is none.

    It reads the settings of a boto3 client, `max_retries` as the OpenAI and Anthropic models have
    it, and what `with_retry` and `with_fallbacks` add. None: it cannot be told.
    """
    names = _names_of(type(model))
    if "RunnableWithFallbacks" in names:
        return _less_one(_attempts([model.runnable, *model.fallbacks]))
    if "RunnableRetry" in names:
        within = _attempts([model.bound])
        return None if within is None else within * int(model.max_attempt_number) - 1
    if "RunnableBindingBase" in names:
        return hidden_retries(model.bound)
    for holder in ("client", "root_client", "_client"):
        client = getattr(model, holder, None)
        retries = _botocore_retries(client)
        if retries is None:
            retries = _count(getattr(client, "max_retries", None))
        if retries is not None:
            return retries
    return _count(getattr(model, "max_retries", None))


def retries_told(error: BaseException) -> int:
    """Return how many further requests boto3 says it sent before it raised this error."""
    response = getattr(error, "response", None)
    metadata = response.get("ResponseMetadata") if isinstance(response, Mapping) else None
    return _count(metadata.get("RetryAttempts")) or 0 if isinstance(metadata, Mapping) else 0


def _names(error: BaseException) -> list[str]:
    return _names_of(type(error))


def _names_of(kind: type) -> list[str]:
    """Return the names of a class and its bases, each behind itself with its library's name."""
    names = []
    for each in kind.__mro__:
        names += [f"{each.__module__.partition('.')[0]}.{each.__name__}", each.__name__]
    return names


def _text_code(error: BaseException) -> str | None:
    code = getattr(error, "code", None)
    return code if isinstance(code, str) else None


def _aws(error: BaseException) -> tuple[str, int | None] | None:
    """Return the bare code and HTTP status of a botocore ClientError, or None."""
    response = getattr(error, "response", None)
    told = response.get("Error") if isinstance(response, Mapping) else None
    if not isinstance(response, Mapping) or not isinstance(told, Mapping):
        return None
    code = str(told.get("Code") or "").rpartition("#")[2]
    code = (code[:1].upper() + code[1:]).removesuffix("Exception")
    metadata = response.get("ResponseMetadata") or {}
    return code, _as_status(metadata.get("HTTPStatusCode")) or _as_status(code)


def _status(error: BaseException) -> int | None:
    """Return the HTTP status that an error carries, wherever its library puts it."""
    response = getattr(error, "response", None)
    for holder, name in (
        (error, "status_code"),
        (response, "status_code"),
        (error, "http_status"),
        (error, "code"),
    ):
        if (status := _as_status(getattr(holder, name, None))) is not None:
            return status
    return None


def _as_status(value: Any) -> int | None:
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    whole = isinstance(value, int) and not isinstance(value, bool)
    return int(value) if whole and 100 <= value <= 599 else None


def _of_status(status: int | None) -> Fate:
    if status in _REFUSED_STATUS:
        return Fate.REFUSED
    if status is None or status in _UNCERTAIN_STATUS or not 400 <= status < 500:
        return Fate.UNCERTAIN
    return Fate.FINAL


def _attempts(models: Iterable[Any]) -> int | None:
    """Return how many requests one call of each of these models may send, or None."""
    total = 0
    for model in models:
        hidden = hidden_retries(model)
        if hidden is None:
            return None
        total += hidden + 1
    return total


def _less_one(attempts: int | None) -> int | None:
    return None if attempts is None else attempts - 1


def _botocore_retries(client: Any) -> int | None:
    retries = getattr(getattr(getattr(client, "meta", None), "config", None), "retries", None)
    if not isinstance(retries, Mapping):
        return None
    if (total := _count(retries.get("total_max_attempts"))) is not None:
        return max(0, total - 1)
    return 4 if retries.get("mode") == "legacy" else 2


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
