"""`show --call`: one model call, its prompt and its answer, as the journal keeps them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from perdure.durable.errors import UsageError

from .account import Account, account_of, call_json, record_of
from .costs import is_call, note_of, outcomes, price_words, unsure_words
from .place import Place
from .screen import columns, say, say_json, say_lines, stdout
from .words import bare, length, one_error, parsed, safe

if TYPE_CHECKING:
    from perdure.agents.ledgers import Entry
    from perdure.durable.operations import Operation

    from .place import Runs

_ROLES = {"human": "user", "ai": "assistant"}
_NAMED = 10
_DIGEST = 12
_NO_DATA: dict[str, Any] = {}


def show_call(place: Place, id: str, path: str, as_json: bool) -> None:
    """Show one model call of a run.

    Raises:
        UsageError: the run has no such call; the text names those it has.
    """
    engine = place.open()
    try:
        account = account_of(engine, id)
        operation = _call(account, path)
        _take_note(engine, id, operation)
        digest = note_of(operation).get("prompt")
        messages = [parsed(text) for text in engine.get(id).texts(digest)] if digest else []
    finally:
        engine.close()
    entry = next(each for each in account.ledger.entries if each.path == path)
    if as_json:
        listed = account.ledger.as_json()["calls"]
        known = next(each for each in listed if each["path"] == path)
        answer = record_of(operation).get("message")
        say_json(
            {"id": id, "path": path, "status": operation.status.value}
            | call_json(operation, known)
            | {"error": _error(operation) or None, "messages": messages, "answer": answer}
        )
    else:
        _print(stdout(), account, operation, entry, messages)


def _take_note(engine: Runs, id: str, operation: Operation) -> None:
    """Have a call know its prompt: on AWS that is not part of the history."""
    from perdure.durable import LambdaEngine

    if operation.note is None and isinstance(engine, LambdaEngine):
        operation.note = engine.note(id, operation.id)


def _call(account: Account, path: str) -> Operation:
    found = account.operations.get(path)
    if found is not None and is_call(found):
        return found
    calls = [each for each, operation in account.operations.items() if is_call(operation)]
    more = f" and {len(calls) - _NAMED:,} more" if len(calls) > _NAMED else ""
    has = f"it has {', '.join(calls[:_NAMED])}{more}" if calls else "it made none"
    id = account.info.id
    if found is not None:
        raise UsageError(f"{path!r} of the run {id!r} is no model call; {has}")
    raise UsageError(f"the run {id!r} has no model call {path!r}; {has}")


def _print(
    console: Console,
    account: Account,
    operation: Operation,
    entry: Entry,
    messages: Sequence[Mapping[str, Any]],
) -> None:
    facts = {
        "call": Text(safe(entry.path), "bold"),
        "run": Text(account.info.id),
        **{name: Text(safe(said)) for name, said in _facts(operation, entry).items() if said},
    }
    say_lines(console, columns([[Text(name, "dim"), value] for name, value in facts.items()]))
    for message in messages:
        _part(console, _role(message), _data(message))
    if not messages:
        digest = str(note_of(operation).get("prompt", ""))[:_DIGEST]
        say(console)
        kept = f", only its digest {digest}" if digest else ""
        say(console, f"the prompt is not kept{kept}", "dim")
    record = record_of(operation)
    if record:
        _part(console, "answer", _data(record["message"]))
    if error := _error(operation):
        say(console)
        say(console, f"{operation.status.value.lower()}: {error}", "red")


def _facts(operation: Operation, entry: Entry) -> dict[str, str]:
    record, note = record_of(operation), note_of(operation)
    provider = record.get("provider") or note.get("provider")
    facts = {
        "model": (entry.model or str(note.get("model", "")))
        + (f" ({provider})" if provider else ""),
        "prompt": entry.template or "",
        "attempts": outcomes(entry.lines),
        "may cost": unsure_words(entry.lines),
    }
    if not record:
        return facts
    last = entry.lines[-1]
    seconds = record.get("seconds")
    return facts | {
        "tokens": _tokens(record.get("usage")),
        "cost": price_words(last) + (f" ({last.source})" if last.source != "unpriced" else ""),
        "stop": record.get("stop_reason") or "",
        "request": record.get("request_id") or "",
        "time": length(seconds) if seconds is not None else "",
    }


def _tokens(usage: Mapping[str, Any] | None) -> str:
    if usage is None:
        return "not told"
    words = [f"{usage['input']:,} in, {usage['output']:,} out"]
    words += [f"{usage['cache_read']:,} read from the cache"] if usage["cache_read"] else []
    words += [f"{usage['cache_write']:,} written to the cache"] if usage["cache_write"] else []
    words += ["estimated"] if usage["estimated"] else []
    return ", ".join(words)


def _role(message: Mapping[str, Any]) -> str:
    kind, data = str(message.get("type")), _data(message)
    role = _ROLES.get(kind, kind)
    named = data.get("name") or data.get("tool_call_id") if kind == "tool" else None
    failed = " (error)" if data.get("status") == "error" else ""
    return f"{role} {named}{failed}" if named else role


def _part(console: Console, title: str, data: Mapping[str, Any]) -> None:
    say(console)
    say(console, safe(title), "bold")
    text = _text(data.get("content"))
    for line in text.splitlines():
        say(console, f"  {safe(line)}".rstrip())
    calls = data.get("tool_calls") or ()
    for each in calls:
        args = json.dumps(bare(each.get("args")), ensure_ascii=False)
        say(console, Text.assemble(("  calls ", "dim"), safe(f"{each['name']} {args}")))
    if not text and not calls:
        say(console, "  (no text)", "dim")


def _text(content: Any) -> str:
    """Return the text of a content; a block of something else is named in brackets."""
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else []
    return "\n".join(each if isinstance(each, str) else _block(each) for each in blocks)


def _block(block: Mapping[str, Any]) -> str:
    text = block.get("text")
    return text if isinstance(text, str) else f"[{block.get('type', 'block')}]"


def _data(message: Mapping[str, Any]) -> Mapping[str, Any]:
    data = message.get("data")
    return data if isinstance(data, Mapping) else _NO_DATA


def _error(operation: Operation) -> str:
    error = operation.error
    return one_error(error.type, error.message) if error is not None else ""
