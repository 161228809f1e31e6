"""What chat models without a provider share: their names, their tools, and streams word by word."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from langchain_core.language_models import BaseChatModel, LangSmithParams, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ConfigDict

from perdure.durable.errors import UsageError

_WORDS = re.compile(r"\s*\S+\s*?(?=\s|$)|\s+$")


class StandIn(BaseChatModel):
    """A chat model that asks nobody; each kind has a `provider` and a `model_name`."""

    model_config = ConfigDict(extra="forbid")
    provider: ClassVar[str]

    @property
    def _llm_type(self) -> str:
        return self.provider

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        name = getattr(self, "model_name", self.provider)
        return LangSmithParams(ls_provider=self.provider, ls_model_name=name, ls_model_type="chat")

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return the model with these tools; `tool_choice` is `auto`, `any`, `none` or a name."""
        described = [convert_to_openai_tool(tool) for tool in tools]
        choice_among(tool_choice, [tool["function"]["name"] for tool in described])
        return self.bind(tools=described, tool_choice=tool_choice, **kwargs)


def chunks_of(message: AIMessage) -> Iterator[ChatGenerationChunk]:
    """Yield a message word by word; calls come whole, usage and metadata on the last chunk."""
    for word in _WORDS.findall(str(message.content)):
        yield ChatGenerationChunk(message=AIMessageChunk(content=word))
    calls = [
        tool_call_chunk(
            name=call["name"],
            args=json.dumps(call["args"], ensure_ascii=False),
            id=call["id"],
            index=at,
        )
        for at, call in enumerate(message.tool_calls)
    ]
    calls += [
        tool_call_chunk(name=call["name"], args=call["args"], id=call["id"], index=len(calls))
        for call in message.invalid_tool_calls
    ]
    yield ChatGenerationChunk(
        message=AIMessageChunk(
            content="",
            tool_call_chunks=calls,
            usage_metadata=message.usage_metadata,
            response_metadata=message.response_metadata,
            chunk_position="last",
        )
    )


def choice_among(choice: Any, names: Sequence[str]) -> str:
    """Return a tool choice as `auto`, `any`, `none` or a name, in whichever way it was written.

    Raises:
        UsageError: no tool is called so.
    """
    if isinstance(choice, Mapping):
        choice = choice.get("name") or choice.get("function", {}).get("name") or choice.get("type")
    if choice is None or choice in ("auto", False):
        return "auto"
    if choice in ("any", "required", True):
        return "any"
    if choice == "none" or choice in names:
        return str(choice)
    listed = ", ".join(names) or "none"
    raise UsageError(
        f"tool_choice is 'auto', 'any', 'none' or the name of a tool ({listed}), not {choice!r}"
    )
