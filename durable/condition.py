"""Polling for a condition: a STEP whose attempts carry its state, suspended between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .duration import DurationLike, optional_seconds
from .errors import UsageError
from .operations import Operation
from .retry import ONCE, RetryPolicy, policy_of
from .run import Move, Run, StepSpec

if TYPE_CHECKING:
    from .calls import Retry
    from .journal import Scope
    from .sync_run import SyncRun, Unit

_SPEC = StepSpec(ONCE)


@dataclass(frozen=True, slots=True)
class ConditionSpec:
    """A condition as it was asked for; times in seconds."""

    name: str
    check: Callable[[Any], Any]
    initial: Any
    until: Callable[[Any], bool]
    pace: RetryPolicy
    bounded: bool
    timeout: float | None

    @classmethod
    def of(
        cls,
        name: str,
        check: Callable[[Any], Any],
        initial: Any,
        until: Callable[[Any], bool],
        every: DurationLike | None,
        backoff: Retry,
        timeout: DurationLike | None,
    ) -> ConditionSpec:
        """Return the condition, its arguments checked.

        Raises:
            UsageError: naming the argument that cannot be meant.
        """
        where = f"wait_for_condition {name!r}"
        if not callable(check) or not callable(until):
            raise UsageError(f"{where}: check and until are functions of the state")
        if (every is None) == (backoff is None):
            raise UsageError(f"{where}: give either every= or backoff=")
        seconds = optional_seconds(every, where)
        if seconds is not None:
            pace = RetryPolicy(
                initial_delay=seconds, max_delay=seconds, backoff_rate=1, jitter="none"
            )
        else:
            pace = policy_of(backoff)
        limit = optional_seconds(timeout, where)
        return cls(name, check, initial, until, pace, every is None, limit)

    def state(self, run: Run, operation: Operation) -> Any:
        """Return the state that the next poll starts from."""
        if operation.payload is None:
            return self.initial
        return run.value_of(operation)

    def settle(self, run: Run, operation: Operation, state: Any) -> Any:
        """Record what a poll came to."""
        if self.until(state):
            return run.step_returned(operation, _SPEC, state)
        polls = operation.attempt + 1
        if self.bounded and polls >= self.pace.max_attempts:
            run.condition_expired(operation, f"not met after {polls} polls")
            return None
        delay = self.pace.delay(polls)
        waited = (run.clock.now() - operation.started) / 1000
        if self.timeout is not None and waited + delay > self.timeout:
            run.condition_expired(operation, f"not met within {self.timeout:g} s")
            return None
        run.poll_again(operation, state, delay)
        return None

    def sync_poll(self, run: SyncRun, scope: Scope, unit: Unit, operation: Operation) -> Any:
        """Poll until the condition is met, on the calling thread."""
        while True:
            match run.step_move(operation, at_most_once=False):
                case Move.RETURN:
                    return run.value_of(operation)
                case Move.RAISE:
                    raise run.error_of(operation)
                case Move.PAUSE:
                    raise unit.suspend([operation])
                case move:
                    state = self.state(run, operation)
                    if move is Move.START:
                        run.admit(scope, operation)
                        run.start_step(operation)
                    run.settle_poll(self, scope, operation, state)
