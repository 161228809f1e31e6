"""The gate of a model call: what is reserved, and what a failure or a doubt leads to."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from perdure.durable.errors import UsageError
from perdure.durable.failures import type_name
from perdure.durable.gates import Hold, Link, Pass, Refuse, Verdict, chain
from perdure.durable.operations import ErrorObject, Operation
from perdure.durable.retry import RetryPolicy
from perdure.durable.run import Run

from .budgets import Budget, Purse, broken_by, parsed_answer, raised
from .errors import Fate
from .lines import Line, Outcome, carried_lines, open_line, with_outcome
from .messages import Plain, estimated_tokens, text_of
from .models import Model
from .prices import cost
from .reply import Usage

IfInterrupted = Literal["retry", "fail", "ask"]
RETRY = RetryPolicy(max_attempts=6, initial_delay=2, backoff_rate=2, max_delay=60)
UNCERTAIN_RETRIES = 1
IN_DOUBT_RETRIES = 2

OVER_BUDGET = "perdure.BudgetExceeded"
IN_DOUBT = "perdure.CallInDoubt"
_OUTCOMES = {
    Fate.NEVER_SENT: Outcome.NEVER_SENT,
    Fate.REFUSED: Outcome.REFUSED,
    Fate.UNCERTAIN: Outcome.UNCERTAIN,
    Fate.FINAL: Outcome.FINAL,
}


class _OverBudget(Exception):
    """A budget refuses a call."""


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a call is paid; `template` is the prompt file's name and version."""

    budgets: tuple[Budget, ...]
    policy: RetryPolicy
    if_interrupted: IfInterrupted
    keep_prompt: bool
    template: dict[str, str] | None = None
    unmatched: bool = False

    def as_unmatched(self) -> Terms:
        """Return the terms of a call that the journal was not expecting."""
        return replace(self, unmatched=True)


class Paying:
    """The gate of one model call."""

    def __init__(
        self,
        run: Run,
        terms: Terms,
        model: Callable[[], Model],
        messages: Callable[[], Sequence[Plain]],
        tools: Callable[[], Sequence[dict[str, Any]]],
        options: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._run = run
        self._terms = terms
        self._model = model
        self._messages = messages
        self._tools = tools
        self._options = options

    def open(self, operation: Operation) -> Pass | Hold | Refuse:
        """Reserve the worst case, or ask or refuse where that would break a budget."""
        model, texts = self._model(), text_of(self._messages())
        links = chain(texts)
        worst = self._worst(model, estimated_tokens(texts, self._tools()))
        note = json.dumps(self._note(worst, model, links))
        purse = Purse.of(self._run)
        with purse.guard:
            for budget in self._terms.budgets:
                found = self._check(budget, purse, worst)
                if isinstance(found, Operation):
                    return Hold(found)
                if found is not None:
                    return Refuse(_OverBudget(found), note)
            purse.reserve(operation, worst)
        return Pass(note, links if self._terms.keep_prompt else ())

    def failed(self, operation: Operation, error: BaseException) -> Verdict:
        """Class the failure; try again what is free, and once what may have been billed."""
        line = open_line(operation)
        if isinstance(error, _OverBudget):
            line = with_outcome(line, Outcome.OVER_BUDGET, str(error))
            return self._verdict(operation, line, OVER_BUDGET, str(error), (), None)
        from .fates import fate_of, retries_told, was_stopped_here

        fate = fate_of(error)
        line = replace(line, hidden_retries=retries_told(error))
        outcome = Outcome.NEVER_SENT if was_stopped_here(error) else _OUTCOMES[fate]
        line = with_outcome(line, outcome, f"{type(error).__name__}: {error}"[:300])
        trace = traceback.format_exception(type(error), error, error.__traceback__, limit=-20)
        delay = None
        if fate is not Fate.FINAL and self._again(operation, line, error):
            delay = self._terms.policy.delay(operation.attempt + 1)
        lines = tuple(each.rstrip("\n")[:2000] for each in trace)
        message = str(error) or repr(error)
        return self._verdict(operation, line, type_name(error), message, lines, delay)

    def interrupted(self, operation: Operation) -> Verdict | Hold:
        """Try a call in doubt again, at most twice; fail it; or ask."""
        line = with_outcome(open_line(operation), Outcome.IN_DOUBT, "its process ended")
        before = self._recent(operation, line)
        doubts = sum(each.outcome is Outcome.IN_DOUBT for each in before)
        again = self._terms.if_interrupted == "retry" and doubts <= IN_DOUBT_RETRIES
        if self._terms.if_interrupted == "ask":
            answer = self._ask(operation)
            if isinstance(answer, Operation):
                return Hold(answer)
            again = answer
        text = (
            f"the call was sent, or about to be, when its process ended, {doubts} times; it may "
            "have been billed. Resume the run to send it again, or give if_interrupted='ask'"
        )
        return self._verdict(operation, line, IN_DOUBT, text, (), 0 if again else None)

    def returned(self, operation: Operation) -> None:
        """Settle what was reserved."""
        Purse.of(self._run).settle(operation)

    def _ask(self, operation: Operation) -> Operation | bool:
        first = operation.attempt * 1000
        for count in range(first, first + 1000):
            event = self._run.shared_event(operation.id, "in-doubt", count, operation.parent)
            if not event.closed:
                return event
            answer = parsed_answer(event.payload)
            if answer in (True, "retry"):
                return True
            if answer in (False, "fail"):
                return False
        return False

    def _check(self, budget: Budget, purse: Purse, worst: Line) -> Operation | str | None:
        if budget.usd is not None and worst.usd is None:
            raise UsageError(
                f"the model {worst.model!r} has no price, so the budget {budget.name!r} in dollars "
                "cannot hold it; set one with perdure.agents.set_prices, or limit tokens or calls"
            )
        spent = purse.spent(budget.name)
        for count in range(1000):
            broken = broken_by(budget, spent, worst)
            if broken is None or budget.on_exceeded == "raise":
                return broken
            event = self._run.shared_event(f"budget:{budget.name}", budget.name, count, None)
            if not event.closed:
                return event
            answer = raised(budget, parsed_answer(event.payload))
            if answer is True:
                return None
            if answer is False:
                return f"{broken}; it was refused"
            budget = answer or budget
        return f"the budget {budget.name!r} was asked for too often"

    def _worst(self, model: Model, tokens: int) -> Line:
        usage = Usage(tokens, model.max_output(self._options().get("max_tokens")), estimated=True)
        known_as = model.price_as or model.label
        priced = cost(model.provider, known_as, usage, model.own_price)
        names = tuple(each.name for each in self._terms.budgets)
        return Line(Outcome.IN_FLIGHT, model.label, usage, priced.usd, priced.source, budgets=names)

    def _note(self, worst: Line, model: Model, links: Sequence[Link]) -> dict[str, Any]:
        note = worst.kept() | {"v": 1, "provider": model.provider, "prompt": links[-1].hash.hex()}
        del note["outcome"]
        if self._terms.template is not None:
            note["template"] = self._terms.template
        return note | ({"unmatched": True} if self._terms.unmatched else {})

    def _again(self, operation: Operation, line: Line, error: BaseException) -> bool:
        if operation.attempt + 1 >= self._terms.policy.max_attempts:
            return False
        recent = self._recent(operation, line)
        unsure = sum(each.outcome is Outcome.UNCERTAIN for each in recent)
        if line.outcome is Outcome.UNCERTAIN and unsure > UNCERTAIN_RETRIES:
            return False
        return self._terms.policy.retries(error, operation.attempt + 1)

    def _recent(self, operation: Operation, line: Line) -> list[Line]:
        """Return the lines since the last resume: attempts start anew with it."""
        before = carried_lines(operation)
        return [*before[len(before) - operation.attempt :], line]

    def _verdict(
        self,
        operation: Operation,
        line: Line,
        kind: str,
        message: str,
        trace: tuple[str, ...],
        delay: float | None,
    ) -> Verdict:
        lines = [*carried_lines(operation), line]
        Purse.of(self._run).replace(operation, lines)
        data = json.dumps({"attempts": [each.kept() for each in lines]})
        return Verdict(ErrorObject(message, kind, data, trace), delay)
