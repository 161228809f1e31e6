"""The body of a model call: one request, sent now, and the answer as a record."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from perdure.durable.codec import Codec
from perdure.durable.current import current_step
from perdure.durable.operations import Operation

from .errors import UnreadableAnswer
from .guards import check_allowed
from .lines import carried_lines
from .messages import Plain, content_text, langchain
from .models import Model
from .records import record_of
from .streams import OnText, Stream


@dataclass(frozen=True, slots=True)
class Sending:
    """What is sent, each part made when it is needed first.

    Attributes:
        options: passed to the model as they are.
        extra: what the record says beside the answer.
    """

    model: Callable[[], Model]
    messages: Callable[[], Sequence[Plain]]
    tools: Callable[[], Sequence[dict[str, Any]]]
    tool_choice: str | None
    options: Callable[[], Mapping[str, Any]]
    stream: OnText | bool | None
    codec: Codec
    extra: Mapping[str, Any]

    def send(self, operation: Operation) -> dict[str, Any]:
        """Ask the model; return the record of its answer."""
        model, chat, messages = self._prepare()
        began = time.monotonic()
        if self.stream:
            stream = self._stream(operation)
            try:
                answer = _sum(
                    _said(each, stream) for each in chat.stream(messages, **self.options())
                )
            finally:
                stream.close()
        else:
            answer = chat.invoke(messages, **self.options())
        return self._record(operation, model, answer, time.monotonic() - began)

    async def asend(self, operation: Operation) -> dict[str, Any]:
        """Ask the model, on the loop; return the record of its answer."""
        model, chat, messages = self._prepare()
        began = time.monotonic()
        if self.stream:
            stream = self._stream(operation)
            try:
                chunks = chat.astream(messages, **self.options())
                answer = _sum([_said(each, stream) async for each in chunks])
            finally:
                stream.close()
        else:
            answer = await chat.ainvoke(messages, **self.options())
        return self._record(operation, model, answer, time.monotonic() - began)

    def _prepare(self) -> tuple[Model, Any, list[Any]]:
        model, tools = self.model(), self.tools()
        check_allowed(model.label, model.provider)
        chat = model.chat
        if tools:
            chosen = {} if self.tool_choice is None else {"tool_choice": self.tool_choice}
            chat = chat.bind_tools(list(tools), **chosen)
        return model, chat, langchain(self.messages())

    def _stream(self, operation: Operation) -> Stream:
        return Stream(self.stream or True, current_step().execution_id, operation.id)

    def _record(
        self, operation: Operation, model: Model, answer: Any, seconds: float
    ) -> dict[str, Any]:
        try:
            record = record_of(
                answer,
                model=model.label,
                provider=model.provider,
                price_as=model.price_as,
                own_price=model.own_price,
                seconds=seconds,
                codec=self.codec,
            )
        except Exception as error:
            # It answered, so it is billed, whatever is wrong with what it said.
            told = f"the answer is not that of a chat model: {type(error).__name__}: {error}"
            raise UnreadableAnswer(told) from error
        lines = [each.kept() for each in carried_lines(operation)]
        return {**record, **self.extra, **({"attempts": lines} if lines else {})}


def _said(chunk: Any, stream: Stream) -> Any:
    stream.say(content_text(chunk.content))
    return chunk


def _sum(chunks: Iterable[Any]) -> Any:
    whole = None
    for chunk in chunks:
        whole = chunk if whole is None else whole + chunk
    if whole is None:
        raise UnreadableAnswer("the model's stream ended without a word")
    return whole
