"""Lengths of time: positive, at most a year and a day, whole milliseconds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta

from .errors import UsageError

MAX_SECONDS = 366 * 24 * 60 * 60


@dataclass(frozen=True, slots=True, order=True)
class Duration:
    """A length of time, in seconds; wherever one is taken, a `timedelta` or a number will do.

    Raises:
        UsageError: the length is zero, negative, not finite, or over 366 days.
    """

    seconds: float

    def __post_init__(self) -> None:
        """Refuse what is not a usable length, keep whole seconds as integers."""
        value = self.seconds
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise UsageError(f"a duration is a number of seconds, not {type(value).__name__}")
        if not math.isfinite(value) or round(value * 1000) <= 0:
            raise UsageError(f"a duration must be longer than zero, not {value!r} s")
        if value > MAX_SECONDS:
            raise UsageError(f"a duration is at most 366 days, not {value / 86_400:g} days")
        if isinstance(value, float):
            milliseconds = round(value * 1000)
            whole = milliseconds % 1000 == 0
            object.__setattr__(
                self, "seconds", milliseconds // 1000 if whole else milliseconds / 1000
            )

    @classmethod
    def from_seconds(cls, seconds: float) -> Duration:
        """Return a duration of so many seconds."""
        return cls(seconds)

    @classmethod
    def from_minutes(cls, minutes: float) -> Duration:
        """Return a duration of so many minutes."""
        return cls(minutes * 60)

    @classmethod
    def from_hours(cls, hours: float) -> Duration:
        """Return a duration of so many hours."""
        return cls(hours * 3600)

    @classmethod
    def from_days(cls, days: float) -> Duration:
        """Return a duration of so many days of 24 hours."""
        return cls(days * 86_400)

    def to_timedelta(self) -> timedelta:
        """Return the same length as a `timedelta`."""
        return timedelta(seconds=self.seconds)


DurationLike = Duration | timedelta | int | float


def seconds_of(value: DurationLike, where: str) -> float:
    """Return the seconds of anything that is taken as a duration; `where` names the call."""
    if isinstance(value, Duration):
        return value.seconds
    if isinstance(value, timedelta):
        value = value.total_seconds()
    try:
        return Duration(value).seconds
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def optional_seconds(value: DurationLike | None, where: str) -> float | None:
    """Return the seconds of a duration, or None for none."""
    return None if value is None else seconds_of(value, where)
