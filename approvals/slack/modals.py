"""Modals: forms in Slack with the fields that the pages have, and what was filled into them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from ..forms import fields_of
from ..questions import PREFIX, Field
from ..requests import ApprovalRequest
from .blocks import VERB, cut, section

if TYPE_CHECKING:
    from slack_sdk.models.blocks import Block, InputBlock

Verb = Literal["comment", "edit", "respond"]
VERBS: tuple[Verb, ...] = ("comment", "edit", "respond")
COMMENT, DECISION, CONFIRM = "comment", "decision", "confirm"
METADATA = 3000
_INPUT = 3000
_OPTIONS = 100
_ID = 255
_TITLES = {"comment": "Decide", "edit": "Approve with changes", "respond": "Answer"}
_ACTION = "value"


class TooLarge(Exception):
    """A form that Slack cannot show; the page can."""


def view(request: ApprovalRequest, verb: Verb, metadata: str) -> dict[str, Any]:
    """Return the modal by which one comments, edits or answers.

    Raises:
        TooLarge: a value, or the form, is more than Slack takes.
    """
    from slack_sdk.errors import SlackObjectFormationError
    from slack_sdk.models.views import View

    fields = () if verb == "comment" else fields_of(request, verb)
    inputs = [*map(_field, fields)] if fields else [_decision(request)]
    about = section(f"{cut(request.title, 500)}\nFingerprint {request.fingerprint}")
    made = View(
        type="modal",
        callback_id=f"{VERB}{verb}",
        title=_TITLES[verb],
        submit="Send",
        close="Cancel",
        private_metadata=metadata,
        blocks=[about, *inputs, *_confirm(request, verb), _comment()],
    )
    try:
        return made.to_dict()
    except SlackObjectFormationError as error:
        raise TooLarge(str(error)) from None


def said(text: str) -> dict[str, Any]:
    """Return what replaces a modal: a sentence, escaped already."""
    from slack_sdk.models.views import View

    made = View(type="modal", title="Not recorded", close="Close", blocks=[section(text)])
    return {"response_action": "update", "view": made.to_dict()}


def filled(values: Mapping[str, Any]) -> dict[str, str]:
    """Return what was filled in, by the id of the block; what was left empty is ""."""
    found: dict[str, str] = {}
    for block, elements in values.items():
        element = elements.get(_ACTION) if isinstance(elements, dict) else None
        if isinstance(element, dict):
            found[block] = _text(element)
    return found


def marked(errors: Mapping[str, str], blocks: Sequence[str]) -> dict[str, Any]:
    """Return the answer that shows errors at their blocks; those of none stand at the first.

    Args:
        blocks: the ids of the inputs that the modal has.
    """
    shown: dict[str, str] = {}
    for name, text in errors.items():
        block = next((each for each in (PREFIX + name, name) if each in blocks), blocks[0])
        shown[block] = f"{shown[block]}; {text}" if block in shown else text
    return {"response_action": "errors", "errors": shown}


def packed(token: str, response_url: str | None) -> str:
    """Return what a modal brings back: its token, and where to answer if there is room."""
    whole = json.dumps({"token": token, "reply": response_url})
    return whole if len(whole) <= METADATA else json.dumps({"token": token})


def unpacked(metadata: str) -> tuple[str, str | None]:
    """Return token and address of what a modal brought back; "" for what is none of ours."""
    try:
        found = json.loads(metadata)
        token, reply = found["token"], found.get("reply")
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", None
    return str(token), reply if isinstance(reply, str) else None


def _field(field: Field) -> InputBlock:
    if len(field.posted) > _ID:
        raise TooLarge(field.posted[:40])
    optional = not field.required
    return _input(field.posted, field.label, _element(field), optional=optional, hint=field.help)


def _element(field: Field) -> Any:
    from slack_sdk.models.blocks import DatePickerElement, PlainTextInputElement

    if field.kind in ("choice", "boolean") and _fits(field.choices):
        return _choice(field.choices, field.value)
    if field.kind == "date":
        return DatePickerElement(action_id=_ACTION, initial_date=field.value or None)
    if len(field.value) > _INPUT:
        raise TooLarge(field.name)
    return PlainTextInputElement(
        action_id=_ACTION,
        initial_value=field.value or None,
        multiline=field.kind in ("long", "json"),
    )


def _fits(choices: Sequence[str]) -> bool:
    return 0 < len(choices) <= _OPTIONS and all(0 < len(each) <= 75 for each in choices)


def _choice(choices: Sequence[str], value: str) -> Any:
    from slack_sdk.models.blocks import StaticSelectElement

    options = {each: _option(each, each) for each in choices}
    return StaticSelectElement(
        action_id=_ACTION, options=list(options.values()), initial_option=options.get(value)
    )


def _option(value: str, text: str) -> Any:
    from slack_sdk.models.blocks import Option, PlainTextObject

    return Option(value=value, text=PlainTextObject(text=cut(text, 75), emoji=False))


def _decision(request: ApprovalRequest) -> InputBlock:
    from slack_sdk.models.blocks import RadioButtonsElement

    texts = {"approve": "Approve", "reject": "Reject"}
    options = [_option(each, texts[each]) for each in request.allowed if each in texts]
    element = RadioButtonsElement(action_id=_ACTION, options=options)
    return _input(DECISION, "Decision", element)


def _confirm(request: ApprovalRequest, verb: Verb) -> list[Block]:
    from slack_sdk.models.blocks import PlainTextInputElement

    if not request.confirm or verb == "respond":
        return []
    element = PlainTextInputElement(action_id=_ACTION)
    label = f"To approve, type: {request.confirm}"
    return [_input(CONFIRM, label, element, optional=True)]


def _comment() -> InputBlock:
    from slack_sdk.models.blocks import PlainTextInputElement

    element = PlainTextInputElement(action_id=_ACTION, multiline=True, max_length=_INPUT)
    return _input(COMMENT, "Comment", element, optional=True)


def _input(
    block: str, label: str, element: Any, *, optional: bool = False, hint: str = ""
) -> InputBlock:
    from slack_sdk.models.blocks import InputBlock, PlainTextObject

    return InputBlock(
        block_id=block,
        label=PlainTextObject(text=cut(label, 200), emoji=False),
        hint=PlainTextObject(text=cut(hint, 500), emoji=False) if hint else None,
        element=element,
        optional=optional,
    )


def _text(element: Mapping[str, Any]) -> str:
    option = element.get("selected_option")
    found = option.get("value") if isinstance(option, dict) else None
    found = found or element.get("value") or element.get("selected_date")
    return found if isinstance(found, str) else ""
