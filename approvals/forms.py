"""Forms: the fields of an answer or of an edit, what was filled in as a value, and what is wrong.

The same fields are drawn by the pages, by Slack's modals and by the command line. A value that was
not touched stays exactly what it was; errors are words for the person who fills in the form.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .questions import (
    ABSENT,
    PREFIX,
    WHOLE,
    Field,
    FieldKind,
    Misfit,
    Question,
    questions_of,
    read_json,
    whole_question,
)
from .requests import Action, ApprovalRequest
from .rules import NEEDED, SORTS, errors_of, shown_value

__all__ = ["PREFIX", "WHOLE", "Field", "FieldKind", "check", "fields_of", "told", "value_of"]


def fields_of(request: ApprovalRequest, action: Action) -> tuple[Field, ...]:
    """Return the fields to fill in: of the subject for "edit", of an answer for "respond"."""
    return tuple(each.field for each in _questions(request, action))


def value_of(
    request: ApprovalRequest, action: Action, form: Mapping[str, str]
) -> tuple[Any, dict[str, str]]:
    """Return what a form was filled in with, as JSON data, and errors by the name of the field.

    What is filled in may still break the schema; see `check`.

    Args:
        form: by the names of the fields, or as a page posts them; the whole as JSON in `value`
            will do for any form.
    """
    questions = _questions(request, action)
    filled = _filled(questions, form)
    if questions[0].field.posted == WHOLE or filled is None:
        return _read_whole(questions[0] if filled is not None else None, form.get(WHOLE, ""))
    value = _beside(request, action, questions)
    errors: dict[str, str] = {}
    for question in questions:
        try:
            found = question.read(filled.get(question.field.name, ""))
        except Misfit as misfit:
            errors[question.field.name] = str(misfit)
        else:
            value |= {} if found is ABSENT else {question.field.name: found}
    return (None, errors) if errors else (value, {})


def check(request: ApprovalRequest, action: Action, value: Any) -> dict[str, str]:
    """Return what is wrong with a value, by the name of the field; "" is for the whole."""
    if request.form is not None:
        errors = errors_of(request.form, value)
        whole = "" in errors and _questions(request, action)[0].field.posted == WHOLE
        return {WHOLE if whole and not name else name: text for name, text in errors.items()}
    if action == "respond":
        return {WHOLE: NEEDED} if value in (None, "") else {}
    sort = _sort(json.loads(request.subject))
    if sort in ("null", _sort(value)):
        return {}
    return {WHOLE: f"{SORTS[sort]}, as what was asked, not {shown_value(value)}"}


def told(errors: Mapping[str, str]) -> str:
    """Return errors as one text, like "amount: a number, not 'abc'"."""
    return "; ".join(f"{name}: {text}" if name else text for name, text in errors.items())


def _questions(request: ApprovalRequest, action: Action) -> tuple[Question, ...]:
    original = json.loads(request.subject) if action == "edit" else ABSENT
    if request.form is not None:
        return questions_of(request.form, original)
    if action == "edit":
        kind: FieldKind = "long" if isinstance(original, str) else "json"
        return (whole_question("What is approved", kind, original),)
    return (whole_question("Answer", "long"),)


def _filled(questions: tuple[Question, ...], form: Mapping[str, str]) -> Mapping[str, str] | None:
    """Return what was filled in by name, or None if all of it is in the one field `WHOLE`."""
    posted = {
        name.removeprefix(PREFIX): text for name, text in form.items() if name.startswith(PREFIX)
    }
    if posted:
        return posted
    if WHOLE in form and all(each.field.name != WHOLE for each in questions):
        return None
    return form


def _read_whole(question: Question | None, text: str) -> tuple[Any, dict[str, str]]:
    try:
        return (question.read(text) if question else read_json(text)), {}
    except Misfit as misfit:
        return None, {WHOLE: str(misfit)}


def _beside(
    request: ApprovalRequest, action: Action, questions: tuple[Question, ...]
) -> dict[str, Any]:
    """Return what an edited subject holds beside the fields of its form."""
    subject = json.loads(request.subject) if action == "edit" else None
    asked = {each.field.name for each in questions}
    beside = subject if isinstance(subject, dict) else {}
    return {name: each for name, each in beside.items() if name not in asked}


def _sort(value: Any) -> str:
    for kind, sort in _SORTS.items():
        if isinstance(value, kind):
            return sort
    return "null"


_SORTS: Mapping[type, str] = {
    bool: "boolean",
    int: "number",
    float: "number",
    str: "string",
    dict: "object",
    list: "array",
}
