"""Tool calls: each one durable operation, whatever becomes of it, and its result as text.

The record of a call is a plain dict: `content` (text for the model), `status` ("success" or
"error"), and, where there is one, `artifact` (what a LangChain tool returns beside its text). A
call that failed, was refused or named no tool is a failed operation; what the model is told of it
is read off that, so it is the same at each replay.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future, wait
from contextvars import copy_context
from functools import partial
from typing import Any

from perdure.durable.errors import OperationError, SerializationError, UsageError
from perdure.durable.gated import AnyContext, drive, value_of
from perdure.durable.leaves import has_utf8
from perdure.durable.retry import ONCE, RetryPolicy

from .messages import content_text
from .tools import (
    Approve,
    InvalidArguments,
    Tool,
    ToolError,
    ToolRefused,
    ToolRequest,
    ToolTimeout,
    UnknownTool,
    check_tool_name,
    is_langchain,
)

KIND = "ToolCall"
_MISTAKES = ("perdure.UsageError", "perdure.SerializationError", "perdure.NonDeterminismError")
_UNKNOWN = "there is no tool {!r}; known: {}"
_log = logging.getLogger("perdure")

Record = dict[str, Any]


class ToolCalls:
    """How the calls of one agent are made.

    Args:
        agent: the agent's name.
        tools: its tools by name.
        timeout: seconds for a tool that has no timeout of its own.
        retries: for a tool that has none of its own.
        approve: asked before each call of a tool that has none of its own; or by the tool's name.
        raises: a failed call raises, instead of being told to the model.
    """

    def __init__(
        self,
        agent: str,
        tools: Mapping[str, Tool],
        *,
        timeout: float | None = None,
        retries: int = 0,
        approve: Approve | Mapping[str, Approve] | None = None,
        raises: bool = False,
    ) -> None:
        self._agent = agent
        self._tools = tools
        self._timeout = timeout
        self._retries = retries
        self._approve = approve
        self._raises = raises

    async def make(self, scope: AnyContext, call: Mapping[str, Any]) -> Record:
        """Make one call in this scope, and return its record.

        Raises:
            OperationError: it failed, and failures raise, or the failure is a mistake in the code.
        """
        tool = self._tools.get(call["name"])
        if tool is None:
            known = ", ".join(self._tools) or "none"
            return await self._fail(scope, call, UnknownTool(_UNKNOWN.format(call["name"], known)))
        if not isinstance(call["args"], Mapping):
            wrong = InvalidArguments(f"the arguments of {tool.name} are not valid JSON")
            return await self._fail(scope, call, wrong)
        args = dict(call["args"])
        approve = self._approval_of(tool)
        if approve is not None:
            decision = await self._ask(scope, tool, approve, args, call.get("id"))
            if isinstance(decision, str):
                return await self.refuse(scope, call, decision)
            args = decision if isinstance(decision, dict) else args
        try:
            record = await self._run(scope, tool, {**call, "args": args})
        except OperationError as error:
            record = self._failed(error)
        return record if args == call["args"] else _with_edit(record, args)

    async def refuse(self, scope: AnyContext, call: Mapping[str, Any], why: str) -> Record:
        """Record that a call is not made, and return what the model is told."""
        try:
            await value_of(scope.step(step_name(call), raising(ToolRefused(why)), kind=KIND))
        except OperationError as error:
            return {"content": told(error), "status": "error", "refused": True}
        raise AssertionError("a step that only raises has returned")

    async def _fail(self, scope: AnyContext, call: Mapping[str, Any], why: ToolError) -> Record:
        try:
            record: Record = await value_of(scope.step(step_name(call), raising(why), kind=KIND))
        except OperationError as error:
            record = self._failed(error)
        return record

    def _failed(self, error: OperationError) -> Record:
        if self._raises or error.error_type in _MISTAKES:
            raise error
        return {"content": told(error), "status": "error"}

    async def _run(self, scope: AnyContext, tool: Tool, call: dict[str, Any]) -> Record:
        if tool.durable:
            body = partial(_durable, tool, call)
            kept = scope.child(tool.name, lambda inner: drive(inner, body(inner)))
        else:
            timeout = tool.timeout if tool.timeout is not None else self._timeout
            retry = _policy(tool.retries or self._retries)
            kept = scope.step(tool.name, step_body(tool, call, timeout), retry=retry, kind=KIND)
        record: Record = await value_of(kept)
        return record

    def _approval_of(self, tool: Tool) -> Approve | None:
        if tool.approve is not None or self._approve is None:
            return tool.approve
        return self._approve.get(tool.name) if isinstance(self._approve, Mapping) else self._approve

    async def _ask(
        self,
        scope: AnyContext,
        tool: Tool,
        approve: Approve,
        args: dict[str, Any],
        id: str | None,
    ) -> bool | str | dict[str, Any]:
        """Return True, new arguments, or why not; recorded, once it is decided."""
        request = ToolRequest(tool.name, args, id, self._agent)

        async def decide(inner: AnyContext) -> Any:
            if not _fits(tool, args):
                return True  # nobody is asked about a call that will only be told to be wrong
            return _decision(tool.name, await value_of(approve(inner, request)))

        # No tool has a colon in its name, so none is ever named so.
        name = f"approve:{tool.name}"
        decision: bool | str | dict[str, Any] = await value_of(
            scope.child(name, lambda inner: drive(inner, decide(inner)))
        )
        return decision


def step_name(call: Mapping[str, Any]) -> str:
    """Return the name of the operation of a call, whatever name the model made up."""
    try:
        return check_tool_name(call["name"])
    except UsageError:
        return "unknown_tool"


def raising(error: Exception) -> Callable[[], Record]:
    """Return a step's body that fails with an error."""

    def body() -> Record:
        raise error

    return body


def told(error: OperationError) -> str:
    """Return what the model is told of a failed call."""
    kind, message = error.error_type or "", error.error.message
    if kind.startswith("perdure."):
        return message
    return f"{kind.rpartition('.')[2]}: {message}" if kind else message


def step_body(tool: Tool, call: Mapping[str, Any], timeout: float | None) -> Callable[[], Any]:
    """Return the body of the step that is a call: sync, or async as its tool is."""
    if is_langchain(tool.fn):
        return _langchain_body(tool, call, timeout)
    fn = tool.fn
    if _is_async(fn):

        async def abody() -> Record:
            value = await _in_time_async(fn(**tool.arguments.checked(call["args"])), tool, timeout)
            return record_of(tool.name, value)

        return abody

    def body() -> Any:
        args = tool.arguments.checked(call["args"])
        value = _in_time(partial(fn, **args), tool, timeout)
        if inspect.isawaitable(value):
            return _record_later(tool, value, timeout)
        return record_of(tool.name, value)

    return body


def record_of(name: str, value: Any) -> Record:
    """Return the record of what a tool returned: a str as it is, all else as JSON.

    Raises:
        SerializationError: it has no JSON form.
    """
    return {"content": text_of(name, value), "status": "success"}


def text_of(name: str, value: Any) -> str:
    """Return a value as the text that a model reads.

    Raises:
        SerializationError: it is no text and has no JSON form.
    """
    text = value if isinstance(value, str) else _json(name, value)
    # No provider, and no file, takes a lone surrogate.
    return text if has_utf8(text) else text.encode("utf-8", "replace").decode()


def _fits(tool: Tool, args: Mapping[str, Any]) -> bool:
    if is_langchain(tool.fn):
        return True
    try:
        tool.arguments.checked(args)
    except InvalidArguments:
        return False
    return True


async def _durable(tool: Tool, call: Mapping[str, Any], scope: AnyContext) -> Record:
    args = tool.arguments.checked(call["args"])
    return record_of(tool.name, await value_of(tool.fn(scope, **args)))


async def _record_later(tool: Tool, value: Awaitable[Any], timeout: float | None) -> Record:
    return record_of(tool.name, await _in_time_async(value, tool, timeout))


def _langchain_body(
    tool: Tool, call: Mapping[str, Any], timeout: float | None
) -> Callable[[], Any]:
    asked = {"name": tool.name, "args": call["args"], "id": call.get("id") or tool.name}
    asked["type"] = "tool_call"
    only_async = hasattr(tool.fn, "coroutine") and getattr(tool.fn, "func", None) is None
    if only_async and tool.fn.coroutine is not None:

        async def abody() -> Record:
            with _Complaints(tool):
                return _langchain_record(
                    tool.name, await _in_time_async(tool.fn.ainvoke(asked), tool, timeout)
                )

        return abody

    def body() -> Record:
        with _Complaints(tool):
            return _langchain_record(
                tool.name, _in_time(partial(tool.fn.invoke, asked), tool, timeout)
            )

    return body


class _Complaints:
    """Turns what LangChain says of a model's arguments into words for the model."""

    def __init__(self, tool: Tool) -> None:
        self._tool = tool

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from pydantic import ValidationError

        if not isinstance(error, ValidationError):
            return
        if error.title == getattr(self._tool.fn.args_schema, "__name__", None):
            from .tool_arguments import problems_of

            raise InvalidArguments(problems_of(self._tool.name, error)) from None


def _langchain_record(name: str, answer: Any) -> Record:
    if getattr(answer, "type", None) != "tool":
        return record_of(name, answer)
    content = answer.content
    if isinstance(content, list) and all(_is_text(block) for block in content):
        content = content_text(content)
    record = record_of(name, content) | {"status": answer.status}
    if answer.artifact is not None:
        try:
            record["artifact"] = _plain(name, answer.artifact)
        except SerializationError as error:
            _log.warning("the artifact of tool %r is not kept: %s", name, error)
    return record


def _is_text(block: Any) -> bool:
    return isinstance(block, str) or (isinstance(block, dict) and block.get("type") == "text")


def _json(name: str, value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        return json.dumps(_plain(name, value), ensure_ascii=False)


def _plain(name: str, value: Any) -> Any:
    from pydantic_core import PydanticSerializationError, to_json

    try:
        return json.loads(to_json(value, bytes_mode="base64", inf_nan_mode="strings"))
    except (PydanticSerializationError, ValueError) as error:
        raise SerializationError(
            f"what the tool {name!r} returned has no JSON form: {error}. Return a text, plain "
            "data, a dataclass or a pydantic model"
        ) from None


def _in_time(run: Callable[[], Any], tool: Tool, timeout: float | None) -> Any:
    """Run a sync function; past its time it is left to itself in its thread."""
    if timeout is None:
        return run()
    future: Future[Any] = Future()
    context = copy_context()

    def work() -> None:
        try:
            future.set_result(context.run(run))
        except BaseException as error:  # it reaches whoever waits
            future.set_exception(error)

    threading.Thread(target=work, name=f"perdure-tool-{tool.name}", daemon=True).start()
    if not wait([future], timeout).done:
        raise _late(tool, timeout)
    return future.result()


async def _in_time_async(value: Awaitable[Any], tool: Tool, timeout: float | None) -> Any:
    if timeout is None:
        return await value
    try:
        async with asyncio.timeout(timeout) as limit:
            return await value
    except TimeoutError:
        if not limit.expired():
            raise
        raise _late(tool, timeout) from None


def _late(tool: Tool, timeout: float) -> ToolTimeout:
    return ToolTimeout(f"{tool.name} did not end within {timeout:g} s and was given up")


def _decision(name: str, found: Any) -> bool | str | dict[str, Any]:
    """Return what an `approve` function decided: True, new arguments, or why not."""
    if found is True or isinstance(found, dict):
        return found
    if found is False:
        return f"the call of {name} was refused"
    if found is None:
        return f"the call of {name} was refused: nobody allowed it in time"
    if isinstance(found, str):
        return f"the call of {name} was refused: {found}"
    raise UsageError(
        f"approve of tool {name!r} returns True, False, a reason for a refusal or a dict of "
        f"arguments, not {type(found).__name__}"
    )


def _with_edit(record: Record, args: dict[str, Any]) -> Record:
    said = f"(Not called as you asked, but with {json.dumps(args, default=str)}.)"
    return record | {"content": f"{said}\n{record['content']}", "args": args}


def _policy(retries: int) -> RetryPolicy:
    if not retries:
        return ONCE
    return RetryPolicy(max_attempts=retries + 1, initial_delay=1, retry_on=_worth_another)


def _worth_another(error: BaseException) -> bool:
    return not isinstance(error, ToolError) or isinstance(error, ToolTimeout)


def _is_async(fn: Any) -> bool:
    while isinstance(fn, partial):
        fn = fn.func
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(type(fn).__call__)
