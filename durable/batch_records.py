"""The outcome of a map or parallel: recorded once decided, read back and raised from at replay."""

from __future__ import annotations

from typing import Any

from .codec import Serdes
from .completion import BatchResult, Outcome, Plan, Reason, read_summary, summarize
from .errors import BatchError, SerializationError
from .events import EventKind
from .operations import ErrorObject, Operation, OperationStatus
from .records import Records, words

_S = OperationStatus
_BATCH = "perdure.BatchError"


class BatchRecords(Records):
    """What a run records and reads of its batches."""

    def batch_decided(
        self,
        operation: Operation,
        plan: Plan,
        names: list[str],
        serdes: Serdes | None,
        item_serdes: Serdes | None,
    ) -> Any:
        """Record the outcome of a batch; return its result as the handler gets it.

        Raises:
            BatchError: the completion rule was not met.
        """
        result = self._batch_result(operation, plan.reason, _items_of(plan, names), item_serdes)
        if operation.status is not _S.SUCCEEDED:
            summary = summarize(f"{operation.subtype}Result", plan, names, items=True)
            if serdes is not None and plan.reason is not Reason.FAILURE_TOLERANCE_EXCEEDED:
                summary, result = self.keep(operation, result, None, serdes, limited=False)
            stripped = self.too_large_inline(summary)
            if stripped:
                summary = summarize(f"{operation.subtype}Result", plan, names, items=False)
            self.record(
                operation,
                EventKind.CONTEXT_SUCCEEDED,
                payload=summary,
                replay_children=stripped,
            )
        return self._checked(operation, plan.reason, result)

    def batch_recorded(
        self, operation: Operation, serdes: Serdes | None, item_serdes: Serdes | None
    ) -> Any:
        """Return the result of a batch that is on record whole.

        Raises:
            BatchError: the completion rule was not met.
        """
        payload = self.text_of(operation.payload or "")
        if serdes is not None and not payload.startswith('{"type": "'):
            return self.codec.decode(payload, where=words(operation), serdes=serdes)
        try:
            summary = read_summary(payload)
        except ValueError as error:
            raise SerializationError(f"{words(operation)}: {error}") from error
        result = self._batch_result(operation, summary.reason, summary.items, item_serdes)
        return self._checked(operation, summary.reason, result)

    def _batch_result(
        self,
        operation: Operation,
        reason: Reason | None,
        items: list[tuple[int, str, str, str | ErrorObject | None]],
        item_serdes: Serdes | None,
    ) -> BatchResult[Any]:
        assert reason is not None
        outcomes: list[Outcome[Any]] = []
        for index, name, status, kept in items:
            if isinstance(kept, str):
                value = self.codec.decode(
                    self.text_of(kept), where=f"{words(operation)}, {name!r}", serdes=item_serdes
                )
                outcomes.append(Outcome(index, name, status, value))
            else:
                outcomes.append(Outcome(index, name, status, None, kept))
        return BatchResult(reason, outcomes)

    def _checked(self, operation: Operation, reason: Reason | None, result: Any) -> Any:
        if reason is not Reason.FAILURE_TOLERANCE_EXCEEDED:
            return result
        failures = result.failures
        first = failures[0] if failures else None
        cause = f"; the first, {first.name!r}: {first.error.message}" if first else ""
        error = ErrorObject(
            f"{len(failures)} of {result.total_count} started branches failed{cause}",
            (first.error.type if first else None) or _BATCH,
        )
        raise BatchError(operation.name, error, operation.id, result)


def _items_of(plan: Plan, names: list[str]) -> list[tuple[int, str, str, str | ErrorObject | None]]:
    items = []
    for index in sorted(plan.started):
        status, outcome = plan.outcomes.get(index, ("STARTED", None))
        items.append((index, names[index], status, outcome))
    return items
