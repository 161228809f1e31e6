"""What a message in Slack says: a sentence for screen readers and blocks, within Slack's limits.

Words of a model stand only where plain text is shown, escaped, with hidden characters written out;
what does not fit is counted and linked. Blocks are built by slack_sdk's models, which check them.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlsplit

from ..decisions import Decision
from ..requests import Action, ApprovalRequest, Link
from ..text import in_utc, pretty, visible
from ..wording import DONE, needed, unless_decided
from ..wording import decided as decided_words

if TYPE_CHECKING:
    from slack_sdk.models.blocks import Block, ButtonElement

TOTAL = 12_500
"""Characters of all blocks as JSON; Slack refuses a message somewhere above 13,000."""
PREVIEW = 8_000
_SECTION = 2_900
_FRAME = 130
_TITLE = 150
_LINKS = 8
VERB = "perdure."
"""Before the action of a button in its `action_id`."""


class Message(NamedTuple):
    """What is posted."""

    text: str
    blocks: list[dict[str, Any]]


def asked(
    request: ApprovalRequest, *, token: str, page: str, mentions: Sequence[str] = ()
) -> Message:
    """Return the question, with its buttons.

    Args:
        token: the value of the buttons.
        page: where one looks and decides without Slack.
        mentions: who may decide, as user and group ids.
    """
    above = [_header(request.title), _context(_origin(request))]
    below = [
        *_attachments(request),
        _context(_until(request, mentions)),
        _buttons(request, token, page),
    ]
    text = f"Approval asked: {_quoted(request)}. Decide before {in_utc(request.deadline)}."
    return Message(text, _laid_out(above, request, below, page, "ask"))


def reminded(request: ApprovalRequest, number: int, mentions: Sequence[str]) -> Message:
    """Return the reminder that is posted below the question."""
    nth = f"Reminder {number}" if number > 1 else "Reminder"
    called = f"{' '.join(map(mention, mentions))} " if mentions else ""
    until = in_utc(request.deadline)
    text = f"{nth}: a decision is still asked, {_quoted(request)}. Decide before {until}."
    shown = f"{called}{nth}: a decision is still asked, until {date(request.deadline)}."
    return Message(text, _numbered([_markdown(shown)], f"remind-{number}"))


def decided(request: ApprovalRequest, decision: Decision, mark: str) -> Message:
    """Return what stands where the question stood, once it is decided; see `closed`."""
    said = "\n\n".join(f"Comment: {each}" for each in _comments(decision))
    return closed(request, sentence(decision), mark, said)


def closed(request: ApprovalRequest, text: str, mark: str, said: str = "") -> Message:
    """Return the question without its buttons, and what became of it.

    Args:
        text: what became of it; our words.
        mark: makes the ids of the blocks differ from those before; Slack wants new ones.
        said: words of people.
    """
    above = [_header(request.title), _markdown(f"*{cut(text, _SECTION - 2)}*")]
    above += [section(cut(said, _SECTION))] if said else []
    below = [_context(_origin(request))]
    whole = f"{escaped(text)} It was about {_quoted(request)}."
    return Message(whole, _laid_out(above, request, below, None, f"closed-{mark}"))


def bare(text: str) -> Message:
    """Return what stands where a question stood that is not known any more."""
    return Message(escaped(text), _numbered([section(cut(text, _SECTION))], "bare"))


def sentence(decision: Decision) -> str:
    """Return what was decided, by whom and when, as one sentence."""
    at = in_utc(decision.at)
    if decision.kind == "withdrawn":
        return f"Withdrawn, {at}: nothing is asked any more."
    if decision.kind == "expired":
        return f"{decided_words(decision).capitalize()}, {at}."
    voters = [each for each in decision.votes if each.kind == decision.kind] or [decision]
    by = ", ".join(visible(each.by.shown) for each in voters)
    return f"{DONE[decision.kind].capitalize()} by {' '.join(by.split())}, {at}."


def new_mark() -> str:
    """Return what no blocks were marked with before."""
    return secrets.token_hex(4)


def escaped(text: str) -> str:
    """Return a text as itself in Slack's markup: no mention, no link, nothing hidden."""
    return _safe(visible(text))


def date(at: datetime) -> str:
    """Return a time in the reader's zone; where that cannot be shown, in UTC."""
    when = int(at.timestamp())
    return f"<!date^{when}^{{date_short_pretty}} at {{time}}|{in_utc(at)}>"


def mention(identifier: str) -> str:
    """Return what calls a user or a group."""
    return f"<!subteam^{identifier}>" if identifier.startswith("S") else f"<@{identifier}>"


def linked(url: str, text: str) -> str:
    """Return a link; its text is escaped already."""
    return f"<{_safe(quote(url, safe=_URL))}|{text.replace('|', '¦')}>"


_URL = ":/?#[]@!$&'()*+,;=%~-._"


def size(blocks: Any) -> int:
    """Return how many characters blocks have as JSON."""
    return len(json.dumps(blocks, ensure_ascii=False))


def _laid_out(
    above: Sequence[Block],
    request: ApprovalRequest,
    below: Sequence[Block],
    page: str | None,
    mark: str,
) -> list[dict[str, Any]]:
    """Return the blocks, with as much of the subject between as there is room for."""
    whole = visible(request.preview or pretty(request.subject))
    room = (
        TOTAL
        - size(_numbered([*above, *below], mark))
        - 5 * _FRAME
        - min(_SECTION, len(page or ""))
    )
    parts, left = _fitting(whole, min(PREVIEW, max(0, room)))
    shown = [section(part) for part in parts]
    more = [_context(_hidden(request, left, page))] if left or request.preview else []
    return _numbered([*above, *shown, *more, *below], mark)


def _hidden(request: ApprovalRequest, left: int, page: str | None) -> str:
    """Return how much is not shown, and where it is."""
    said = [f"{left:,} more character{'s' if left > 1 else ''}"] if left else []
    if request.preview:
        said.append(f"a preview; what is asked about has {len(request.subject):,} characters")
    fits = page is not None and len(page) <= _SECTION - 300
    where = f": {linked(page, 'open the page')}" if page and fits else ", not shown here"
    return "; ".join(said) + where


def _fitting(text: str, room: int) -> tuple[list[str], int]:
    """Return a text in escaped parts of a section each, and how many characters are left out."""
    parts: list[str] = []
    part: list[str] = []
    length = used = spent = 0
    for character in text[:room]:
        piece = _safe(character)
        cost = max(len(piece), len(json.dumps(piece, ensure_ascii=False)) - 2)
        if spent + cost > room:
            break
        if length + len(piece) > _SECTION:
            parts.append("".join(part))
            part, length = [], 0
        part.append(piece)
        length, used, spent = length + len(piece), used + 1, spent + cost
    parts.append("".join(part))
    return [each for each in parts if each.strip()], len(text) - used


def _origin(request: ApprovalRequest) -> str:
    name = cut(f"{request.name} of run {request.run}", 600)
    return f"{name} · fingerprint `{request.fingerprint}`"


def _until(request: ApprovalRequest, mentions: Sequence[str]) -> str:
    who = f" · may decide: {' '.join(map(mention, mentions))}" if mentions else ""
    rest = f"{unless_decided(request)} · {needed(request.policy)}{who}"
    return f"Until {date(request.deadline)} · {rest}"


def _attachments(request: ApprovalRequest) -> list[Block]:
    if not request.attachments:
        return []
    lines = [_attachment(each) for each in request.attachments[:_LINKS]]
    if len(request.attachments) > _LINKS:
        lines.append(f"and {len(request.attachments) - _LINKS} more, on the page")
    return [_markdown("\n".join(lines))]


def _attachment(link: Link) -> str:
    """Return a link that shows where it leads, or what is wrong with it."""
    parts = urlsplit(link.url)
    title = cut(link.title, 60)
    if parts.scheme not in ("http", "https") or len(link.url) > 200:
        return f"{title} (on the page)"
    return f"{linked(link.url, title)} ({escaped(parts.hostname or '')})"


def _buttons(request: ApprovalRequest, token: str, page: str) -> Block:
    from slack_sdk.models.blocks import ActionsBlock, ButtonElement

    buttons = [_button(request, action, token) for action in request.allowed]
    if {"approve", "reject"} & set(request.allowed):
        comment = f"{VERB}comment"
        buttons.append(ButtonElement(text="With comment…", action_id=comment, value=token))
    if len(page) <= ButtonElement.url_max_length:
        buttons.append(ButtonElement(text="Open page", action_id=f"{VERB}open", url=page))
    return ActionsBlock(elements=buttons)


def _button(request: ApprovalRequest, action: Action, token: str) -> ButtonElement:
    from slack_sdk.models.blocks import ButtonElement

    texts = {"approve": "Approve", "reject": "Reject", "edit": "Edit…", "respond": "Answer…"}
    styles = {"approve": "primary", "reject": "danger"}
    return ButtonElement(
        text=texts[action],
        action_id=f"{VERB}{action}",
        value=token,
        style=styles.get(action),
        confirm=_confirm(request) if action == "approve" and request.confirm else None,
    )


def _confirm(request: ApprovalRequest) -> Any:
    from slack_sdk.models.blocks import ConfirmObject, PlainTextObject

    word = cut(request.confirm or "", 100)
    text = f"{cut(request.title, 140)}\n\nTo confirm “{word}”, press Approve."
    return ConfirmObject(
        title="Approve this?",
        text=PlainTextObject(text=text, emoji=False),
        confirm="Approve",
        deny="Go back",
        style="danger",
    )


def _header(title: str) -> Block:
    from slack_sdk.models.blocks import HeaderBlock, PlainTextObject

    return HeaderBlock(text=PlainTextObject(text=_line(title), emoji=False))


def section(text: str) -> Block:
    """Return a section of text that is escaped already, shown as it stands."""
    from slack_sdk.models.blocks import PlainTextObject, SectionBlock

    return SectionBlock(text=PlainTextObject(text=text, emoji=False))


def _markdown(text: str) -> Block:
    from slack_sdk.models.blocks import MarkdownTextObject, SectionBlock

    return SectionBlock(text=MarkdownTextObject(text=text, verbatim=True))


def _context(text: str) -> Block:
    from slack_sdk.models.blocks import ContextBlock, MarkdownTextObject

    return ContextBlock(elements=[MarkdownTextObject(text=text, verbatim=True)])


def _numbered(blocks: Sequence[Block], mark: str) -> list[dict[str, Any]]:
    """Return checked blocks as JSON, each with an id; long sections are not folded away."""
    made = [{**each.to_dict(), "block_id": f"{mark}-{i}"} for i, each in enumerate(blocks)]
    return [{**each, "expand": True} if each["type"] == "section" else each for each in made]


def _comments(decision: Decision) -> list[str]:
    votes = decision.votes or (decision,)
    several = len(votes) > 1
    return [
        f"{each.by.shown}: {each.comment}" if several else each.comment
        for each in votes
        if each.comment
    ]


def _quoted(request: ApprovalRequest) -> str:
    return f"“{_line(request.title)}”"


def _line(title: str) -> str:
    """Return a title on one line, escaped and short enough for a header."""
    return cut(" ".join(title.split()) or "Approval", _TITLE)


def cut(text: str, limit: int) -> str:
    """Return a text, visible and escaped, of at most `limit` characters; cut where none is torn."""
    whole = visible(text)
    if len(_safe(whole)) <= limit:
        return _safe(whole)
    parts, _ = _fitting(whole, limit - 1)
    return "".join(parts) + "…"


def _safe(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
