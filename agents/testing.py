"""Doubles for tests of pipelines: a model that says what it is told to, and a ban on real ones.

A `ScriptedModel` is a LangChain chat model in every respect (tools, structured output, streams,
usage, errors), asks nobody, and keeps what it was asked::

    model = ScriptedModel([{"tool": "search", "args": {"q": "fees"}}, "The fee is 3 %."])
    reply = llm(context, "ask", "What is the fee?", model=model, tools=[search])
    assert model.requests[0].messages[-1]["content"] == "What is the fee?"
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.tool import tool_call
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, PrivateAttr

from .guards import forbid_model_requests
from .script import Answering, Broken, Request, Script, ScriptExhausted, check, is_function
from .standin import StandIn, chunks_of

__all__ = [
    "Broken",
    "Request",
    "ScriptExhausted",
    "ScriptedModel",
    "forbid_model_requests",
]


class ScriptedModel(StandIn):
    """A chat model that answers from a script, in order, whoever asks and from wherever.

    Args:
        script: the answers, or one function that gives them all. An answer is a text; an
            `AIMessage`; `{"tool": name, "args": {…}}`, or a list of such, for tool calls; a
            pydantic instance, given as a call of the tool of its class's name if there is one, else
            as JSON text; an exception, which is raised; a `Broken`; or a function
            `(messages, options)`, plain or async, that returns any of these.
        usage: `(input, output)` tokens of each answer; words are counted by default.
        name: the model's name.
        price: US dollars for a million tokens, `{"input": 3.0, "output": 15.0}`; None: unpriced.
        loop: start the script again when it is used up.
        delay: seconds that each answer takes.

    Raises:
        UsageError: an answer is none of these.
        ScriptExhausted: (when asked) the script is used up.
    """

    provider: ClassVar[str] = "scripted"

    usage: tuple[int, int] | None = None
    simulated_price: dict[str, float] | None = None
    loop: bool = False
    delay: float = 0.0

    _script: Script = PrivateAttr()

    def __init__(
        self,
        script: Sequence[Any] | Answering = (),
        *,
        usage: tuple[int, int] | None = None,
        name: str = "scripted",
        price: Mapping[str, float] | None = None,
        loop: bool = False,
        delay: float = 0.0,
        **fields: Any,
    ) -> None:
        fields |= {"usage": usage, "name": name, "loop": loop, "delay": delay}
        fields["simulated_price"] = None if price is None else dict(price)
        super().__init__(**fields)
        self._script = Script(script, name)

    @property
    def model_name(self) -> str:
        """The model's name."""
        return self.name or "scripted"

    @property
    def requests(self) -> list[Request]:
        """Every request so far, in the order they came."""
        return list(self._script.requests)

    @property
    def calls(self) -> int:
        """How often it was asked."""
        return len(self._script.requests)

    @property
    def max_concurrent(self) -> int:
        """How many requests were under way at once, at most."""
        return self._script.most

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        said, number = self._next(messages, stop, kwargs)
        return _result(self._message(said, number, messages, kwargs))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        said, number = await self._anext(messages, stop, kwargs)
        return _result(self._message(said, number, messages, kwargs))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        said, number = self._next(messages, stop, kwargs)
        yield from self._chunks(said, number, messages, kwargs)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        said, number = await self._anext(messages, stop, kwargs)
        for chunk in self._chunks(said, number, messages, kwargs):
            yield chunk

    def _next(
        self, messages: list[BaseMessage], stop: list[str] | None, options: dict[str, Any]
    ) -> tuple[Any, int]:
        """Return what is to be said to this request, and the request's number."""
        script = self._script
        number = script.begin(messages, stop, options)
        try:
            time.sleep(self.delay)
            said = script.item(number, self.loop)
            while is_function(said):
                said = said(messages, options)
                if inspect.isawaitable(said):
                    said = _wait_for(said)
            return _told(said, number), number
        finally:
            script.end()

    async def _anext(
        self, messages: list[BaseMessage], stop: list[str] | None, options: dict[str, Any]
    ) -> tuple[Any, int]:
        script = self._script
        number = script.begin(messages, stop, options)
        try:
            if self.delay:
                await asyncio.sleep(self.delay)
            said = script.item(number, self.loop)
            while is_function(said):
                said = said(messages, options)
                if inspect.isawaitable(said):
                    said = await said
            return _told(said, number), number
        finally:
            script.end()

    def _message(
        self, said: Any, number: int, messages: list[BaseMessage], options: Mapping[str, Any]
    ) -> AIMessage:
        """Return what is said as a message, with usage and metadata."""
        if isinstance(said, Broken):
            raise said.error()
        if isinstance(said, AIMessage):
            message = said.model_copy()
        elif isinstance(said, str):
            message = AIMessage(content=said)
        elif isinstance(said, BaseModel):
            message = _structured(said, number, options)
        else:
            message = _calling([said] if isinstance(said, Mapping) else said, number)
        if message.usage_metadata is None:
            given, made = self.usage or (_words(messages), _words([message]))
            message.usage_metadata = {
                "input_tokens": given,
                "output_tokens": made,
                "total_tokens": given + made,
            }
        metadata: dict[str, Any] = {
            "model_name": self.model_name,
            "model_provider": self.provider,
            "stop_reason": "tool_use" if message.tool_calls else "end_turn",
            "request_id": f"scripted-{number}",
        }
        if self.simulated_price is not None:
            metadata["simulated_price"] = dict(self.simulated_price)
        message.response_metadata = metadata | message.response_metadata
        return message

    def _chunks(
        self, said: Any, number: int, messages: list[BaseMessage], options: Mapping[str, Any]
    ) -> Iterator[ChatGenerationChunk]:
        if isinstance(said, Broken):
            for word in said.words():
                yield ChatGenerationChunk(message=AIMessageChunk(content=word))
        yield from chunks_of(self._message(said, number, messages, options))


def _result(message: AIMessage) -> ChatResult:
    return ChatResult(generations=[ChatGeneration(message=message)])


def _told(said: Any, number: int) -> Any:
    check(said, f"answer {number}")
    if isinstance(said, BaseException):
        raise said
    return said


def _structured(said: BaseModel, number: int, options: Mapping[str, Any]) -> AIMessage:
    name = type(said).__name__
    tools = [
        convert_to_openai_tool(tool)["function"]["name"] for tool in options.get("tools") or ()
    ]
    value = said.model_dump(mode="json", by_alias=True)
    if name in tools:
        return _calling([{"tool": name, "args": value}], number)
    return AIMessage(content=json.dumps(value, ensure_ascii=False))


def _calling(calls: Sequence[Mapping[str, Any]], number: int) -> AIMessage:
    named = [
        tool_call(
            name=call["tool"],
            args=dict(call.get("args", {})),
            id=call.get("id") or f"call-{number}-{at}",
        )
        for at, call in enumerate(calls, 1)
    ]
    return AIMessage(content="", tool_calls=named)


def _words(messages: Sequence[BaseMessage]) -> int:
    """Count the words of messages, and of the arguments of their calls; at least one."""
    count = 0
    for message in messages:
        content = message.content
        text = content if isinstance(content, str) else json.dumps(content, default=str)
        count += len(text.split())
        for call in getattr(message, "tool_calls", None) or ():
            count += 1 + len(json.dumps(call["args"], default=str).split())
    return max(1, count)


def _wait_for(awaited: Any) -> Any:
    """Run an async answer for a caller that does not await, in a loop and thread of its own."""

    async def outcome() -> Any:
        return await awaited

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(contextvars.copy_context().run, asyncio.run, outcome()).result()
