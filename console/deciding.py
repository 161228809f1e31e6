"""`approve`, `reject`, `respond`, `edit`: a person decides from the terminal what a run waits for.

Who decides is the account on the machine, and a decision is checked as it is everywhere: by
`perdure.approvals.voting`. A named wait has no approvers; it is simply sent its answer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perdure.durable.errors import UsageError

from .acting import read_file, say_who_goes_on
from .asked import approvers_words, pending, record_words, title_of, without
from .costs import question_of
from .place import Place, callbacks_of, office_of
from .screen import say, stdout
from .words import safe

if TYPE_CHECKING:
    from perdure.approvals.audit import AuditRecord
    from perdure.approvals.requests import Action
    from perdure.approvals.voting import Outcome
    from perdure.durable import Wait

    from .place import Runs

_HELD = "perdure:failed"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person typed.

    Attributes:
        value: of an edit or a response, as it was typed: JSON, a text, or `@FILE`.
        confirm: the word an approval may ask for.
    """

    action: Action
    comment: str | None = None
    confirm: str | None = None
    value: str | None = None


def decide(place: Place, id: str, name: str | None, answer: Answer) -> None:
    """Decide the open approval, or answer the open wait, of this name or path.

    Raises:
        UsageError: it is not open, several are, or this person may not decide it so.
    """
    engine = place.open()
    try:
        found = _find(engine, id, name, answer)
        if isinstance(found, str):
            _send(engine, id, found, answer)
            said = f"sent to {found!r} of {id}"
        else:
            outcome = _vote(engine, found, answer)
            said = f"{outcome.text}; fingerprint {found.request.fingerprint}"
        source = engine.info(id).source
    finally:
        engine.close()
    say(stdout(), safe(said))
    say_who_goes_on(place, id, source)


def _find(engine: Runs, id: str, name: str | None, answer: Answer) -> AuditRecord | str:
    """Return the approval that is meant, or the path of the wait."""
    from perdure.approvals.audit import audit

    records = audit(engine, id)
    asked, open_ = pending(records), _open_waits(engine, id, records)
    waits = [each.path for each in open_]
    found: list[AuditRecord | str] = [r for r in asked if name in (None, r.path, r.request.name)]
    found += [path for path in waits if name in (path, path.rpartition("/")[2])]
    if name is None:
        found += _own(engine, id, open_)
    exact = [each for each in found if name == (each if isinstance(each, str) else each.path)]
    if len(found) == 1 or len(exact) == 1:
        return (exact or found)[0]
    closed = (each for each in reversed(records) if each not in asked)
    record = next((each for each in closed if name in (None, each.path)), None)
    if not found and record is not None:
        raise UsageError(f"nothing is left to decide: {title_of(record)!r}: {record_words(record)}")
    listed = ", ".join(sorted([each.path for each in asked] + waits))
    if not found and not listed:
        raise UsageError(f"the run {id!r} has no open approval, and waits for no answer")
    if not found:
        what = f" named {name!r}" if name else " that could be meant without its name"
        raise UsageError(f"the run {id!r} has no open approval or wait{what} (open: {listed})")
    raise UsageError(
        f"{len(found)} approvals and waits of {id!r} are open; name one: "
        f"perdure {answer.action} {id} NAME, where NAME is one of {listed}"
    )


def _open_waits(engine: Runs, id: str, records: Sequence[AuditRecord]) -> list[Wait]:
    """Return what a run waits for beside approvals."""
    return [
        each
        for each in without(engine.waiting_for(id), records)
        if each.kind in ("event", "callback") and not each.path.startswith(_HELD)
    ]


def _own(engine: Runs, id: str, waits: Sequence[Wait]) -> list[str]:
    """Return the named waits of the handler itself.

    Questions about money have to be named, and so have callbacks, which wait for programs.
    """
    operations = engine.operations(id)
    events = (each.path for each in waits if each.kind == "event")
    return [path for path in events if question_of(path, operations) is None]


def _send(engine: Runs, id: str, path: str, answer: Answer) -> None:
    if answer.comment:
        raise UsageError(f"{path!r} is a wait for an event, which takes no comment")
    match answer.action:
        case "approve":
            engine.send(id, path, True)
        case "reject":
            engine.send(id, path, False)
        case _ if answer.value is None:
            raise UsageError("give the answer: JSON, a text, or @FILE")
        case _:
            engine.send(id, path, value_of(answer.value))


def _vote(engine: Runs, record: AuditRecord, answer: Answer) -> Outcome:
    """Cast the vote of this account.

    Raises:
        UsageError: it was refused; the text says why.
    """
    from perdure.approvals.callbacks import Standing
    from perdure.approvals.people import Principal, account
    from perdure.approvals.voting import cast, claims_of

    request, callbacks = record.request, callbacks_of(engine)
    me = Principal(identity=account(), assurance="cli")
    standing = callbacks.lookup(request.execution, request.operation)
    claims = claims_of(standing, [me.identity]) if isinstance(standing, Standing) else None
    if claims is None:
        raise UsageError(
            f"{me.identity} may not decide {title_of(record)!r}: that is for "
            f"{approvers_words(record)}"
        )
    outcome = cast(
        office_of(engine),
        callbacks,
        claims,
        action=answer.action,
        by=me,
        approver=claims.who[0].approver,
        channel="terminal",
        comment=answer.comment,
        value=_value(record, answer),
        confirm=answer.confirm,
    )
    if outcome.kind in ("recorded", "again"):
        return outcome
    raise UsageError(" ".join([outcome.text, *_errors(outcome)]))


def _errors(outcome: Outcome) -> list[str]:
    named = outcome.errors.items()
    return [f"{field}: {text};" if field else f"{text};" for field, text in named]


def _value(record: AuditRecord, answer: Answer) -> Any:
    """Return what a person typed; an edited text stays a text, whatever it looks like."""
    if answer.value is None:
        return None
    request = record.request
    was_text = request.form is None and request.subject.startswith('"')
    return value_of(answer.value, text=was_text and answer.action == "edit")


def value_of(given: str, *, text: bool = False) -> Any:
    """Return JSON if it is JSON, else the text; `@FILE` for a file's.

    Args:
        text: a text is meant; JSON in quotes is one, too, if it is not a file's.
    """
    is_file = given.startswith("@")
    typed = read_file(given[1:], "the value") if is_file else given
    if text and (is_file or not typed.startswith('"')):
        return typed
    try:
        return json.loads(typed, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return typed


def _no_constant(name: str) -> None:
    raise ValueError(name)
