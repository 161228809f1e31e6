"""When a failed attempt is made again, and after how long."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from .errors import SerializationError, UsageError

RetryOn = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, and how far apart, the attempts of a step are made.

    The delay after attempt n is `initial_delay * backoff_rate ** (n - 1)` seconds, at most
    `max_delay`. With `jitter="full"` it is drawn evenly between zero and that (never under one
    second where the delay itself is at least one, the least that AWS schedules); "none" keeps it.
    `retry_on` is an exception class, a tuple of them, or a function of the exception.

    Raises:
        UsageError: a field has the wrong type or a value that cannot be meant.
    """

    max_attempts: int = 6
    initial_delay: float = 5
    backoff_rate: float = 2
    max_delay: float = 60
    jitter: Literal["full", "none"] = "full"
    retry_on: RetryOn | None = None

    def __post_init__(self) -> None:
        """Check each field."""
        if isinstance(self.max_attempts, bool) or not isinstance(self.max_attempts, int):
            raise UsageError(f"retry: max_attempts is a whole number, not {self.max_attempts!r}")
        if self.max_attempts < 1:
            raise UsageError(f"retry: max_attempts is at least 1, not {self.max_attempts}")
        for name in ("initial_delay", "backoff_rate", "max_delay"):
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not math.isfinite(value):
                raise UsageError(f"retry: {name} is a number, not {value!r}")
            if value < 0:
                raise UsageError(f"retry: {name} is not negative, but {value!r} was given")
        if self.jitter not in ("full", "none"):
            raise UsageError(f"retry: jitter is 'full' or 'none', not {self.jitter!r}")
        if self.retry_on is not None and not _is_retry_on(self.retry_on):
            raise UsageError(
                "retry: retry_on is an exception class, a tuple of them or a function, "
                f"not {self.retry_on!r}"
            )

    def delay(self, attempt: int) -> float:
        """Return the seconds to wait after this many attempts (1 for the first)."""
        try:
            full = min(self.max_delay, self.initial_delay * self.backoff_rate ** (attempt - 1))
        except OverflowError:
            full = self.max_delay
        drawn = full * random.random() if self.jitter == "full" else full
        if full >= 1:
            return max(1, round(drawn))
        return round(drawn, 3)

    def retries(self, error: BaseException, attempt: int) -> bool:
        """Return whether another attempt follows this failure of attempt number `attempt`."""
        if attempt >= self.max_attempts or isinstance(error, SerializationError | UsageError):
            return False
        if self.retry_on is None:
            return True
        if isinstance(self.retry_on, (type, tuple)):
            return isinstance(error, self.retry_on)
        return bool(self.retry_on(error))


ONCE = RetryPolicy(max_attempts=1)
_FIELDS = frozenset(field.name for field in fields(RetryPolicy))


def policy_of(retry: RetryPolicy | Mapping[str, Any] | None) -> RetryPolicy:
    """Return the policy a `retry=` argument means; None is one attempt.

    Raises:
        UsageError: naming the unknown key or the wrong value.
    """
    if retry is None:
        return ONCE
    if isinstance(retry, RetryPolicy):
        return retry
    if not isinstance(retry, Mapping):
        raise UsageError(f"retry is a dict or a RetryPolicy, not {type(retry).__name__}")
    unknown = [key for key in retry if key not in _FIELDS]
    if unknown:
        raise UsageError(f"retry has no {unknown[0]!r}; it takes {', '.join(sorted(_FIELDS))}")
    return RetryPolicy(**retry)


def _is_retry_on(value: Any) -> bool:
    if isinstance(value, tuple):
        return bool(value) and all(_is_error_class(each) for each in value)
    return _is_error_class(value) or (callable(value) and not isinstance(value, type))


def _is_error_class(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)
