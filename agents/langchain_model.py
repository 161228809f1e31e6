"""`durable_model`: any LangChain chain, agent or graph pays once, without being rewritten.

A request is known by its content: the messages (their ids aside), the tools, the parameters. Equal
requests are told apart by their number among themselves; order plays no part, so nodes that run
side by side replay whichever comes first.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import Any

from langchain_core.callbacks import (
    AsyncCallbackManagerForLLMRun,
    CallbackManagerForLLMRun,
)
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import PrivateAttr

from perdure.durable.calls import Retry
from perdure.durable.errors import InvocationSuspended, UsageError
from perdure.durable.gated import (
    AnyContext,
    Claim,
    apart,
    has_more,
    is_async,
    on_this_thread,
    run_of,
    wait_here,
)
from perdure.durable.names import check_name

from .budgets import Budget, budgets_of
from .lines import KIND
from .messages import plain_message, text_of
from .model_calls import interrupted_of, paid, policy_for
from .models import Model, resolve
from .paying import IfInterrupted, Paying, Terms
from .reply import Reply
from .sending import Sending

_log = logging.getLogger("perdure")


def durable_model(
    context: AnyContext,
    model: Any = None,
    *,
    name: str = "model",
    budget: Budget | Sequence[Budget] | None = None,
    retry: Retry = None,
    if_interrupted: IfInterrupted = "retry",
    strict: bool = False,
    record_prompts: bool = True,
) -> DurableModel:
    """Return a LangChain chat model each of whose requests is paid once in this run.

    Give it to chains, agents and graphs in place of `model`; the options are those of `llm`. In an
    async handler it is awaited (`ainvoke`). From threads of other code (a graph's nodes) a retry
    waits in its thread; elsewhere it suspends. A request that is not in the journal is a new, paid
    call; one that comes while recorded ones were not asked for is logged and counted as unmatched.

    Raises:
        UsageError: an option cannot be meant.
    """
    check_name(name, "durable_model")
    run_of(context)
    terms = Terms(
        budgets_of(budget),
        policy_for(retry),
        interrupted_of(if_interrupted),
        record_prompts,
    )
    return DurableModel.over(apart(context, name), model, name, terms, strict)


class DurableModel(BaseChatModel):
    """A chat model whose answers stand in a journal; made by `durable_model`."""

    _context: Any = PrivateAttr()
    _inner: Callable[[], Model] = PrivateAttr()
    _name: str = PrivateAttr()
    _terms: Terms = PrivateAttr()
    _guard: Any = PrivateAttr(default_factory=threading.Lock)

    @classmethod
    def over(
        cls, context: AnyContext, model: Any, name: str, terms: Terms, strict: bool
    ) -> DurableModel:
        """Return the durable form of a model."""
        made = cls()
        made._context, made._name, made._terms = context, name, terms
        made._inner = partial(resolve, model, strict=strict)
        return made

    @property
    def _llm_type(self) -> str:
        return "perdure-durable"

    def bind_tools(self, tools: Sequence[Any], **options: Any) -> Any:
        """Bind tools as the inner model does."""
        ours = {key: options.pop(key) for key in list(options) if key.startswith("ls_")}
        bound = self._inner().chat.bind_tools(tools, **options)
        return self.bind(**bound.kwargs, **ours)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **options: Any,
    ) -> ChatResult:
        if is_async(self._context):
            raise UsageError(
                f"durable_model {self._name!r} belongs to an async handler: await ainvoke, not "
                "invoke"
            )
        context = on_this_thread(self._context)
        claim, gate, sending = self._claim(context, messages, stop, options)
        while True:
            paying = paid(claim, gate, partial(sending.send, claim.operation))
            try:
                paying.send(None)
            except StopIteration as done:
                return _result(claim, done.value)
            except InvocationSuspended as waiting:
                if context is self._context:
                    raise
                wait_here(context, waiting.operations)
                context = on_this_thread(self._context)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **options: Any,
    ) -> ChatResult:
        if not is_async(self._context):
            raise UsageError(
                f"durable_model {self._name!r} belongs to a sync handler: call invoke, not ainvoke"
            )
        claim, gate, sending = self._claim(self._context, messages, stop, options)
        record = await paid(claim, gate, partial(sending.asend, claim.operation))
        return _result(claim, record)

    def _claim(
        self,
        context: Any,
        messages: Sequence[BaseMessage],
        stop: list[str] | None,
        options: dict[str, Any],
    ) -> tuple[Claim, Paying, Sending]:
        options = options if stop is None else {**options, "stop": stop}
        plain = [plain_message(each) for each in messages]
        name = f"{self._name}:{self._digest(text_of(plain), options)}"
        with self._guard:
            more = has_more(context)
            claim = Claim(context, KIND, name, shared=True)
        terms = self._terms
        if more and claim.operation.status == "UNRECORDED":
            terms = terms.as_unmatched()
            _log.warning(
                "durable_model %r: a request that is not in the journal comes while recorded ones "
                "were not asked for; it is a new call, and paid",
                self._name,
            )
        run = run_of(context)
        extra = {"budgets": [each.name for each in terms.budgets]} if terms.budgets else {}
        sending = Sending(
            self._inner, lambda: plain, lambda: [], None, lambda: options, None, run.codec, extra
        )
        tools = options.get("tools") or ()
        gate = Paying(run, terms, self._inner, lambda: plain, lambda: tools, lambda: options)
        return claim, gate, sending

    def _digest(self, texts: Sequence[str], options: Mapping[str, Any]) -> str:
        try:
            request = json.dumps([texts, options], sort_keys=True)
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"durable_model {self._name!r}: a request is known by its content, and an option "
                f"of it is not plain JSON: {error}"
            ) from None
        return sha256(request.encode()).hexdigest()[:24]


def _result(claim: Claim, record: Mapping[str, Any]) -> ChatResult:
    message = Reply(str(claim.operation.name), record).message
    return ChatResult(generations=[ChatGeneration(message=message)])
