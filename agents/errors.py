"""What can go wrong with a model call: as a model raises it, and as the handler meets it.

A model raises inside the body of its call: anything its library raises, classed by `fate_of`, or
a `RequestError`, which knows its fate. The handler meets a `ModelCallError`, built from the
journal's record, the same at the first pass and at every replay.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

from perdure.durable.errors import PerdureError, StepError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .reply import Reply


class Fate(StrEnum):
    """What became of a request that brought no answer, and so what it may have cost."""

    NEVER_SENT = "never_sent"
    """It did not leave this machine: free, and tried again."""
    REFUSED = "refused"
    """The provider turned it away unread (throttled, not ready): free, and tried again."""
    UNCERTAIN = "uncertain"
    """It may have run, and may be billed: tried again under a small cap of its own."""
    FINAL = "final"
    """It would be refused again (invalid, not allowed, not found): free, and not tried again."""


class RequestError(PerdureError):
    """A request brought no answer that can be recorded; `fate` says what became of it."""

    fate: ClassVar[Fate] = Fate.UNCERTAIN


class UnreadableAnswer(RequestError):
    """The provider answered, and what it sent is cut off or no answer: billed, most likely."""


class InvalidRequest(RequestError):
    """What is asked for breaks a rule of the provider that is known here; nothing was sent."""

    fate = Fate.FINAL


class ModelCallError(StepError):
    """A model call failed for good, as its journal records it; `error_type` says of what."""


class BudgetExceeded(ModelCallError):
    """A call was not sent, since its worst case would have broken a budget."""


class CallInDoubt(ModelCallError):
    """A call was started, its process died, and it is not to be sent again unasked."""


class OutputInvalid(PerdureError):
    """The model's answers do not fit the output asked for, however often it was asked to mend them.

    Attributes:
        replies: the recorded answers, the first one first; each was paid and is kept.
        problems: what is wrong with the last one.
    """

    def __init__(self, message: str, replies: Sequence[Reply[Any]], problems: str) -> None:
        super().__init__(message)
        self.replies = tuple(replies)
        self.problems = problems


class RequestsForbidden(UsageError):
    """A real model was about to be asked where `forbid_model_requests` is in force."""
