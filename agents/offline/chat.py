"""The offline stand-in as a LangChain chat model: tools, structured output and streams as usual.

No key, no network, no cost; usage is estimated from the length of the text, and the price is
simulated. Each answer says so in its `response_metadata`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.tool import invalid_tool_call, tool_call
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from pydantic import Field

from ..errors import InvalidRequest
from ..standin import StandIn, choice_among, chunks_of
from .answering import MODEL_NAME, NOTICE, SIMULATED_PRICE, Answer, Tool, answer, tokens
from .material import Call, Turn


class OfflineChat(StandIn):
    """A stand-in for a chat model: extracts sentences of what it was given, does not reason.

    Args:
        seconds: how long an answer is made to take, to see a pipeline at work.
        max_tokens: the longest answer; what is longer is cut, with stop reason `max_tokens`.

    Invoked with `output_schema=` (a JSON schema or a pydantic class) it answers with JSON text that
    fits it.
    """

    provider: ClassVar[str] = "offline"

    model_name: str = MODEL_NAME
    seconds: float = Field(default=0.0, ge=0)
    max_tokens: int = Field(default=4096, ge=1)
    simulated_price: dict[str, float] = Field(default_factory=lambda: dict(SIMULATED_PRICE))

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self.model_name, "max_tokens": self.max_tokens}

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        time.sleep(self.seconds)
        return ChatResult(
            generations=[ChatGeneration(message=self._answer(messages, stop, kwargs))]
        )

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        await asyncio.sleep(self.seconds)
        return ChatResult(
            generations=[ChatGeneration(message=self._answer(messages, stop, kwargs))]
        )

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        time.sleep(self.seconds)
        yield from chunks_of(self._answer(messages, stop, kwargs))

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        await asyncio.sleep(self.seconds)
        for chunk in chunks_of(self._answer(messages, stop, kwargs)):
            yield chunk

    def _answer(
        self, messages: Sequence[BaseMessage], stop: list[str] | None, options: Mapping[str, Any]
    ) -> AIMessage:
        described = options.get("tools") or ()
        tools = [_tool(each) for each in described]
        choice = choice_among(options.get("tool_choice"), [tool.name for tool in tools])
        schema = options.get("output_schema")
        if schema is not None and not isinstance(schema, Mapping):
            schema = convert_to_json_schema(schema)
        turns = [turn_of(message) for message in messages]
        given = sum(_length(turn) for turn in turns)
        given += len(json.dumps(described, default=str)) if described else 0
        made = answer(turns, tools, choice, schema)
        longest = options.get("max_tokens") or self.max_tokens
        return self._message(made, tokens(given), longest, stop or [])

    def _message(self, made: Answer, given: int, longest: int, stop: list[str]) -> AIMessage:
        """Return the answer as a message, cut where it must stop."""
        text, reason = _stopped(made.text, stop)
        arguments = [json.dumps(call.arguments, ensure_ascii=False) for call in made.calls]
        size = tokens(len(text) + sum(map(len, arguments)))
        content: dict[str, Any] = {"content": text}
        if size > longest:
            size, reason = longest, "max_tokens"
            content = _cut(text, made.calls, arguments, longest * 4)
        elif made.calls:
            reason = "tool_use"
            content["tool_calls"] = [
                tool_call(name=call.name, args=call.arguments, id=call.id) for call in made.calls
            ]
        return AIMessage(
            **content,
            usage_metadata={
                "input_tokens": given,
                "output_tokens": size,
                "total_tokens": given + size,
            },
            response_metadata={
                "model_name": self.model_name,
                "model_provider": self.provider,
                "stop_reason": reason,
                "usage_estimated": True,
                "simulated_price": dict(self.simulated_price),
                "notice": NOTICE,
            },
        )


def turn_of(message: BaseMessage) -> Turn:
    """Return a LangChain message as the stand-in reads it."""
    calls = getattr(message, "tool_calls", None) or ()
    roles = {"human": "user", "ai": "assistant", "AIMessageChunk": "assistant"}
    texts, documents = _texts(message.content)
    return Turn(
        role=roles.get(message.type, message.type),
        text="\n".join(texts),
        calls=tuple(Call(call["name"], dict(call["args"]), call["id"] or "") for call in calls),
        ok=getattr(message, "status", "success") != "error",
        answers=getattr(message, "tool_call_id", ""),
        documents=tuple(documents),
    )


def _texts(content: str | list[Any]) -> tuple[list[str], list[str]]:
    """Return the texts of a message and of the plain-text documents attached to it."""
    if isinstance(content, str):
        return [content], []
    texts, documents = [], []
    for block in content:
        if isinstance(block, str):
            texts.append(block)
        elif block.get("type") == "text":
            texts.append(str(block.get("text", "")))
        elif block.get("type") == "text-plain" and isinstance(block.get("text"), str):
            documents.append(block["text"])
        elif str(block.get("mime_type", "")).startswith("text/") and block.get("base64"):
            documents.append(_decoded(block["base64"]))
    return texts, documents


def _decoded(written: Any) -> str:
    try:
        return base64.b64decode(written, validate=True).decode("utf-8", "replace")
    except (ValueError, TypeError) as error:
        raise InvalidRequest(f"an attached text is not valid base64: {error}") from None


def _tool(described: Any) -> Tool:
    function = convert_to_openai_tool(described)["function"]
    return Tool(function["name"], function.get("description", ""), function.get("parameters") or {})


def _length(turn: Turn) -> int:
    calls = sum(
        len(call.name) + len(json.dumps(call.arguments, default=str)) for call in turn.calls
    )
    return len(turn.text) + calls + sum(map(len, turn.documents))


def _stopped(text: str, stop: Sequence[str]) -> tuple[str, str]:
    at = min((at for mark in stop if mark and (at := text.find(mark)) >= 0), default=-1)
    return (text, "end_turn") if at < 0 else (text[:at], "stop_sequence")


def _cut(
    text: str, calls: Sequence[Call], arguments: Sequence[str], longest: int
) -> dict[str, Any]:
    """Return what of an answer fits into so many characters: a call cut short is no call."""
    if not calls:
        cut = text[:longest]
        return {"content": cut.rsplit(None, 1)[0] if text[longest : longest + 1].strip() else cut}
    whole, broken = [], []
    for call, written in zip(calls, arguments, strict=True):
        if len(written) <= longest:
            whole.append(tool_call(name=call.name, args=call.arguments, id=call.id))
        else:
            problem = "cut off: max_tokens"
            part = invalid_tool_call(
                name=call.name, args=written[: max(0, longest)], id=call.id, error=problem
            )
            broken.append(part)
        longest -= len(written)
    return {"content": "", "tool_calls": whole, "invalid_tool_calls": broken}
