"""Models on Amazon Bedrock, spoken to through boto3's Converse API: one call is one request.

`BedrockChat` sends each call once. The client it makes has no hidden retries, waits longer than the
models do and keeps the connection alive; whether to try again is the caller's to decide, on record.
It raises what boto3 raises (`fates.fate_of` classes it), `InvalidRequest` for what breaks a rule
known here, and `UnreadableAnswer` for an answer without its content or its usage. Inside a step it
names the step to Bedrock (`requestMetadata`), whose invocation log can settle what is in doubt.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from operator import itemgetter
from typing import Any, TypeVar

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, PrivateAttr, field_validator

from perdure.durable.current import current

from ..errors import InvalidRequest
from .answer import answer_of
from .content import Wire
from .stream import chunks_of
from .tools import text_format, tool_config, tool_specs
from .wire import Conversation, conversation, dialect_of, request_metadata

T = TypeVar("T")

_MAKING = threading.Lock()
_PER_CALL = (
    "max_tokens",
    "temperature",
    "top_p",
    "tools",
    "tool_choice",
    "output_schema",
    "request_metadata",
    "extra",
)
_OWN_FIELDS = {
    "modelId": "model",
    "messages": "the messages",
    "system": "a system message",
    "inferenceConfig": "max_tokens, temperature, top_p and stop",
    "toolConfig": "bind_tools",
    "requestMetadata": "request_metadata",
}
"""What of a request comes from elsewhere, so that `extra` may not set it."""


class BedrockChat(BaseChatModel):
    """A chat model on Amazon Bedrock.

    Beside the fields below, a call takes `tools`, `tool_choice`, `output_schema` (a class or JSON
    schema: the answer is JSON of that schema) and `request_metadata`, and its own value of
    `max_tokens`, `temperature`, `top_p`, `stop` and `extra`.

    Attributes:
        model: the id of a model, an inference profile or an ARN (`model_id` works too).
        region: the AWS region; else boto3 finds it (environment, profile).
        base_model_id: the model behind an application inference profile, to price it by.
        max_tokens: the longest answer; always sent, since Bedrock reserves quota by it.
        temperature, top_p, stop: as Converse has them; not sent unless given.
        read_timeout: seconds to wait for an answer (for a stream: for its next event).
        connect_timeout: seconds to wait for a connection.
        max_connections: calls that may run at once; async calls beyond it wait.
        endpoint_url: where Bedrock answers, if not at its public address.
        session: a boto3 session to take credentials from.
        client: a ready bedrock-runtime client. It is used as it is, hidden retries included:
            see `fates.hidden_retries`.
        extra: further fields of the request: `guardrailConfig`, `serviceTier`,
            `performanceConfig`, `additionalModelRequestFields`, ….
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", protected_namespaces=())

    model: str = Field(min_length=1, validation_alias=AliasChoices("model", "model_id"))
    region: str | None = None
    base_model_id: str | None = None
    max_tokens: int = Field(default=4096, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=1)
    top_p: float | None = Field(default=None, ge=0, le=1)
    stop: list[str] | None = None
    read_timeout: float = Field(default=900, gt=0)
    connect_timeout: float = Field(default=5, gt=0)
    max_connections: int = Field(default=64, ge=1)
    endpoint_url: str | None = None
    session: Any = Field(default=None, exclude=True, repr=False)
    client: Any = Field(default=None, exclude=True, repr=False)
    extra: dict[str, Any] = Field(default_factory=dict)

    _made: tuple[Any, Any] | None = PrivateAttr(default=None)
    _threads: ThreadPoolExecutor | None = PrivateAttr(default=None)

    @field_validator("extra")
    @classmethod
    def _no_own_fields(cls, extra: dict[str, Any]) -> dict[str, Any]:
        _check_extra(extra)
        return extra

    @property
    def max_retries(self) -> int | None:
        """How often a call is sent again unseen: never, by the client that this model makes."""
        return 0 if self.client is None else None

    @property
    def _llm_type(self) -> str:
        return "perdure-bedrock"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        places = ("model", "base_model_id", "region", "endpoint_url")
        names = (*places, "max_tokens", "temperature", "top_p", "stop", "extra")
        return {name: getattr(self, name) for name in names}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = LangSmithParams(
            ls_provider="amazon_bedrock",
            ls_model_name=self.base_model_id or self.model,
            ls_model_type="chat",
            ls_max_tokens=kwargs.get("max_tokens", self.max_tokens),
        )
        temperature = kwargs.get("temperature", self.temperature)
        if temperature is not None:
            params["ls_temperature"] = temperature
        if stops := stop or self.stop:
            params["ls_stop"] = stops
        return params

    def bind_tools(
        self,
        tools: Sequence[Any],
        *,
        tool_choice: Any = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return this model with tools to call.

        `tool_choice` is "auto", "any", a tool's name, or a dict as Bedrock, Anthropic or OpenAI
        write it; `strict` holds the arguments to the schema where the model can.

        Raises:
            InvalidRequest: something that is no tool, or a choice that is not there.
        """
        specs = tool_specs(tools, strict=strict)
        if tool_choice is not None:
            tool_config(specs, tool_choice)
            kwargs["tool_choice"] = tool_choice
        return self.bind(tools=specs, **kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        include_raw: bool = False,
        method: str = "function_calling",
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Return this model, answering in objects of `schema`.

        `method` is "function_calling" (a tool that must be called) or "json_schema" (constrained
        decoding, where the model has it). With `include_raw` the result is a dict of `raw`,
        `parsed` and `parsing_error`, so that an answer that does not fit is not lost.
        """
        if method == "function_calling":
            return super().with_structured_output(schema, include_raw=include_raw, **kwargs)
        if method != "json_schema":
            raise InvalidRequest(
                f"method {method!r}: Bedrock's are 'function_calling' and 'json_schema'"
            )
        kwargs.pop("strict", None)
        text_format(schema)
        told = {"kwargs": {"method": method}, "schema": schema}
        bound = self.bind(output_schema=schema, ls_structured_output_format=told, **kwargs)
        parser: Any = JsonOutputParser()
        if isinstance(schema, type) and issubclass(schema, BaseModel):
            parser = PydanticOutputParser(pydantic_object=schema)
        structured: Runnable[LanguageModelInput, Any] = bound | parser
        if not include_raw:
            return structured
        parsed = RunnablePassthrough.assign(
            parsed=itemgetter("raw") | parser, parsing_error=lambda _: None
        )
        unparsed = RunnablePassthrough.assign(parsed=lambda _: None)
        whole: Runnable[LanguageModelInput, Any] = RunnableMap(raw=bound) | parsed.with_fallbacks(
            [unparsed], exception_key="parsing_error"
        )
        return whole

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        request, about = self._request(messages, stop, kwargs)
        message = answer_of(self._spoken_to().converse(**request), about)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Generator[ChatGenerationChunk, None, None]:
        request, about = self._request(messages, stop, kwargs)
        response = self._spoken_to().converse_stream(**request)
        events = response["stream"]
        try:
            for chunk in chunks_of(events, response["ResponseMetadata"], about):
                yield ChatGenerationChunk(message=chunk)
        finally:
            events.close()

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        call = partial(self._generate, messages, stop, **kwargs)
        return await asyncio.wrap_future(self._in_thread(partial(copy_context().run, call)))

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        context = copy_context()
        chunks = self._stream(messages, stop, **kwargs)
        turn: Future[ChatGenerationChunk | None] | None = None
        try:
            while True:
                turn = self._in_thread(partial(context.run, next, chunks, None))
                chunk = await asyncio.wrap_future(turn)
                if chunk is None:
                    return
                yield chunk
        finally:
            if turn is not None:
                # A cancelled reader leaves its thread inside the generator: it closes it itself.
                turn.add_done_callback(lambda _: chunks.close())

    def _request(
        self, messages: list[BaseMessage], stop: list[str] | None, options: Mapping[str, Any]
    ) -> tuple[Wire, dict[str, Any]]:
        """Return the request of a call, and what its answer's metadata says of it."""
        unknown = options.keys() - {*_PER_CALL, "stream"}
        if unknown:
            raise InvalidRequest(
                f"a call takes no {sorted(unknown)[0]!r}; it takes stop, {', '.join(_PER_CALL)},"
                " and in `extra` any other field of a Converse request"
            )
        spoken = f"{self.model} {self.base_model_id or ''}"
        said = conversation(messages, dialect_of(spoken))
        request: Wire = {
            "modelId": self.model,
            "messages": said.messages,
            "inferenceConfig": self._inference(stop, options),
        }
        if said.system:
            request["system"] = said.system
        if tools := self._tools(said, options):
            request["toolConfig"] = tools
        if metadata := request_metadata(options.get("request_metadata") or {}, _this_step()):
            request["requestMetadata"] = metadata
        about: dict[str, Any] = {"model_name": self.model}
        if self.base_model_id:
            about["base_model_id"] = self.base_model_id
        if said.documents:
            about["documents"] = said.documents
        return request | self._further(options), about

    def _inference(self, stop: list[str] | None, options: Mapping[str, Any]) -> Wire:
        chosen = {name: options.get(name) for name in ("max_tokens", "temperature", "top_p")}
        own = {name: getattr(self, name) for name in chosen}
        values = {name: own[name] if value is None else value for name, value in chosen.items()}
        config = {
            "maxTokens": values["max_tokens"],
            "temperature": values["temperature"],
            "topP": values["top_p"],
            "stopSequences": stop or self.stop,
        }
        return {key: value for key, value in config.items() if value is not None}

    def _tools(self, said: Conversation, options: Mapping[str, Any]) -> Wire | None:
        if tools := options.get("tools"):
            return tool_config(tools, options.get("tool_choice"))
        if options.get("tool_choice") is not None:
            raise InvalidRequest("tool_choice is given, and no tools to choose from")
        if said.uses_tools:
            raise InvalidRequest(
                "tools were called in this conversation, and Bedrock wants them declared as long as"
                " it goes on: bind the same tools to this call"
            )
        return None

    def _further(self, options: Mapping[str, Any]) -> Wire:
        """Return the rarer fields of a request, and the format that an output schema asks for."""
        given = options.get("extra") or {}
        _check_extra(given)
        further = {**self.extra, **given}
        if (schema := options.get("output_schema")) is not None:
            output = further.get("outputConfig") or {}
            if "textFormat" in output:
                raise InvalidRequest(
                    "extra has an outputConfig.textFormat, and so has output_schema"
                )
            further["outputConfig"] = {**output, "textFormat": text_format(schema)}
        return further

    def _spoken_to(self) -> Any:
        """Return the client, made once for these settings, by whichever thread is first."""
        if self.client is not None:
            return self.client
        places = (self.region, self.endpoint_url, self.session)
        settings = (*places, self.read_timeout, self.connect_timeout, self.max_connections)
        with _MAKING:
            if self._made is None or self._made[0] != settings:
                self._made = (settings, self._make_client())
            return self._made[1]

    def _make_client(self) -> Any:
        import boto3  # type: ignore[import-untyped]
        from botocore.config import Config  # type: ignore[import-untyped]

        config = Config(
            connect_timeout=self.connect_timeout,
            read_timeout=self.read_timeout,
            retries={"total_max_attempts": 1, "mode": "standard"},
            max_pool_connections=self.max_connections,
            tcp_keepalive=True,
        )
        return (self.session or boto3.Session()).client(
            "bedrock-runtime",
            region_name=self.region,
            endpoint_url=self.endpoint_url,
            config=config,
        )

    def _in_thread(self, call: Callable[[], T]) -> Future[T]:
        """Run a call in a thread of this model's own; Python's default pool is too small."""
        with _MAKING:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(self.max_connections, "perdure-bedrock")
        return self._threads.submit(call)


def _check_extra(extra: Mapping[str, Any]) -> None:
    for key, source in _OWN_FIELDS.items():
        if key in extra:
            raise InvalidRequest(f"extra may not set {key!r}: it comes from {source}")


def _this_step() -> dict[str, Any]:
    """Return what names the step that is running, if one is."""
    step = current.get()
    if step is None:
        return {}
    return {
        "perdure_run": step.execution_id,
        "perdure_step": step.name,
        "perdure_attempt": step.attempt,
    }
