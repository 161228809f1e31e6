"""What a step's body can ask about itself."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from dataclasses import dataclass
from hashlib import blake2b

from .errors import UsageError


@dataclass(frozen=True, slots=True)
class CurrentStep:
    """The step whose body is running.

    Attributes:
        name: the step's name.
        attempt: the number of this attempt, from 1.
        execution_id: the id of the run.

    Hand `idempotency_key` to an outside API that can refuse to do a thing twice.
    """

    name: str
    attempt: int
    execution_id: str
    _seed: str
    _operation: str

    @property
    def idempotency_key(self) -> str:
        """A key that is this step's alone, the same over all attempts and invocations."""
        key = f"{self._seed}\0{self._operation}".encode()
        return blake2b(key, digest_size=16).hexdigest()

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """The logger of running steps; its records have `execution_id` and `step`."""
        known = {"execution_id": self.execution_id, "step": self.name}
        return logging.LoggerAdapter(logging.getLogger("perdure.step"), known)


current: ContextVar[CurrentStep | None] = ContextVar("perdure_current_step", default=None)


def current_step() -> CurrentStep:
    """Return the step whose body is running.

    Raises:
        UsageError: called outside the body of a step.
    """
    step = current.get()
    if step is None:
        raise UsageError("current_step() is for the body of a step; none is running here")
    return step
