"""The arguments of `await_approval`, checked at the call: nothing is recorded or sent before."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, TypedDict, cast
from urllib.parse import urlsplit

from pydantic import BaseModel

from perdure.durable.duration import Duration, DurationLike, seconds_of
from perdure.durable.errors import UsageError

from .channels import Channel
from .decisions import fitted
from .people import Approver, approvers_of, identities_of
from .requests import ACTIONS, Action, ApprovalRequest, Link, Policy, canonical, digest_of
from .vias import channels_of, check_reach

TIMEOUT = Duration.from_days(7)
_TITLE = 150
_WORD = 40
_PEOPLE = 100
Held = Literal["reject", "approve", "raise", "value"]


class Options(TypedDict, total=False):
    """The arguments of `await_approval` that have a default."""

    via: Any
    timeout: DurationLike
    title: str | None
    required: int
    veto: bool
    requested_by: str | Sequence[str] | None
    allow: Iterable[Action]
    remind: Any
    escalate: Any
    on_timeout: Any
    preview: str | None
    attachments: Iterable[Any]
    confirm: str | None


@dataclass(frozen=True)
class Escalation:
    """Further approvers, who are asked when nobody decided for a while.

    Attributes:
        after: how long after the request.
        approvers: as of `await_approval`.
        via: their channels; those of the request if not given.
    """

    after: DurationLike
    approvers: Any
    via: Any = None


@dataclass(frozen=True)
class Rung:
    """A time after the request at which people are told again, or others are told.

    Attributes:
        after: seconds.
        adds: whom an escalation asks; nobody to remind those who were told.
    """

    after: float
    name: str
    adds: tuple[Approver, ...] = ()
    channels: tuple[Channel, ...] = ()


@dataclass(frozen=True)
class Terms:
    """What is asked, of whom, and on what terms."""

    name: str
    title: str
    subject: str
    policy: Policy
    channels: tuple[Channel, ...]
    timeout: float
    allowed: tuple[Action, ...]
    form: type[BaseModel] | None
    rungs: tuple[Rung, ...]
    on_timeout: Held
    default: Any
    preview: str | None
    attachments: tuple[Link, ...]
    confirm: str | None

    @property
    def digest(self) -> str:
        """SHA-256 of the subject's canonical text, in hex."""
        return digest_of(self.subject)

    @property
    def shape(self) -> type[BaseModel] | None:
        """The class of the subject, where it may be edited as one."""
        return self.form if "edit" in self.allowed else None

    def schema(self) -> dict[str, Any] | None:
        """Return the JSON Schema of the form.

        Raises:
            UsageError: it has none.
        """
        try:
            return self.form.model_json_schema() if self.form is not None else None
        except Exception as error:  # whatever a field's own schema raises
            raise UsageError(
                f"await_approval {self.name!r}: form has no JSON Schema to ask by: {error}"
            ) from None

    def request(self, id: str, execution: str, operation: str, asked: datetime) -> ApprovalRequest:
        """Return the request as it is recorded."""
        return ApprovalRequest(
            id=id,
            execution=execution,
            operation=operation,
            name=self.name,
            title=self.title,
            subject=self.subject,
            digest=self.digest,
            policy=self.policy,
            allowed=self.allowed,
            asked=asked,
            deadline=asked + timedelta(seconds=self.timeout),
            on_timeout=self.on_timeout,
            default=self.default,
            preview=self.preview,
            attachments=self.attachments,
            form=self.schema(),
            confirm=self.confirm,
        )


def terms_of(
    subject: Any,
    name: str,
    *,
    approvers: Any,
    form: Any = None,
    via: Any = ("web",),
    timeout: DurationLike = TIMEOUT,
    title: str | None = None,
    required: int = 1,
    veto: bool = True,
    requested_by: str | Sequence[str] | None = None,
    allow: Iterable[Action] = ("approve", "reject"),
    remind: Any = (),
    escalate: Any = (),
    on_timeout: Any = "reject",
    preview: str | None = None,
    attachments: Iterable[Any] = (),
    confirm: str | None = None,
) -> Terms:
    """Return the terms that the arguments mean.

    Raises:
        UsageError: naming the argument that cannot be meant, and the cure.
    """
    seconds = seconds_of(timeout, "timeout")
    channels = channels_of(via)
    base = approvers_of(approvers)
    check_reach(channels, base, "via")
    ladder = _escalations(escalate, channels)
    policy = _policy(base, ladder, required, veto, requested_by)
    _check_personal(policy, channels, ladder)
    allowed = _allowed(allow, policy)
    held, default = _default(on_timeout)
    terms = Terms(
        name=name,
        title=_title(title, name),
        subject=canonical(subject),
        policy=policy,
        channels=channels,
        timeout=seconds,
        allowed=allowed,
        form=_form(form, allowed),
        rungs=_rungs(_reminders(remind) + ladder, seconds),
        on_timeout=held,
        default=default,
        preview=_text(preview, "preview"),
        attachments=tuple(_link(each) for each in _listed(attachments, "attachments")),
        confirm=_word(confirm),
    )
    _check_shapes(terms)
    return terms


def _escalations(given: Any, channels: tuple[Channel, ...]) -> list[Rung]:
    rungs = []
    listed = [given] if isinstance(given, Escalation) else _listed(given, "escalate")
    for number, each in enumerate(listed, 1):
        if not isinstance(each, Escalation):
            raise UsageError(f"escalate takes Escalation(after, approvers), not {each!r}")
        via = channels if each.via is None else channels_of(each.via)
        adds = approvers_of(each.approvers, "escalate: approvers")
        check_reach(via, adds, "escalate: via")
        after = seconds_of(each.after, "escalate: after")
        rungs.append(Rung(after, f"escalate-{number}", adds, via))
    return rungs


def _reminders(given: Any) -> list[Rung]:
    one = isinstance(given, int | float | timedelta | Duration)
    times = {seconds_of(each, "remind") for each in ([given] if one else _listed(given, "remind"))}
    return [Rung(after, f"remind-{number}") for number, after in enumerate(sorted(times), 1)]


def _rungs(rungs: list[Rung], timeout: float) -> tuple[Rung, ...]:
    for rung in rungs:
        _check(
            rung.after < timeout,
            f"{rung.name.partition('-')[0]} has {rung.after:g} s, which is not between the request "
            f"and its deadline after {timeout:g} s",
        )
    return tuple(sorted(rungs, key=lambda rung: rung.after))


def _policy(
    base: tuple[Approver, ...], ladder: list[Rung], required: Any, veto: Any, requested_by: Any
) -> Policy:
    added = tuple(approver for rung in ladder for approver in rung.adds)
    everyone = approvers_of(base + added, "approvers and escalate")
    _check(
        len(everyone) <= _PEOPLE, f"approvers has {len(everyone)}, at most {_PEOPLE}: use a group"
    )
    whole = isinstance(required, int) and not isinstance(required, bool)
    _check(whole and required >= 1, f"required is a whole number from 1, not {required!r}")
    _check(isinstance(veto, bool), f"veto is True or False, not {veto!r}")
    policy = Policy(
        approvers=base,
        required=required,
        veto=veto,
        requested_by=identities_of(requested_by),
        escalated=added,
    )
    for rung in ladder:
        able = [each for each in rung.adds if each in policy.able]
        _check(
            bool(able or not rung.adds), "escalate: approvers has only whoever asked; name others"
        )
    able = [each for each in base if each in policy.able]
    few = "who may decide (requested_by may not)" if len(able) < len(base) else "who may decide"
    _check(
        required <= len(able),
        f"required is {required}, and approvers has {len(able)} {few}; name more, or require less",
    )
    return policy


def _check_personal(policy: Policy, channels: tuple[Channel, ...], ladder: list[Rung]) -> None:
    """Check that in a quorum each vote can be told from the others."""
    if not policy.is_quorum:
        return
    for each in [*channels, *(channel for rung in ladder for channel in rung.channels)]:
        _check(
            each.personal or each.name == "web",
            f"via: one message of the channel {each.name!r} cannot carry the votes of "
            f"{policy.required} approvers; tell each in a message of their own, as Slack() without "
            "a channel does, or Email()",
        )


def _allowed(allow: Any, policy: Policy) -> tuple[Action, ...]:
    given = [allow] if isinstance(allow, str) else list(_listed(allow, "allow"))
    for each in given:
        _check(each in ACTIONS, f"allow takes {', '.join(ACTIONS)}, not {each!r}")
    _check(bool(given), f"allow is empty; it takes {', '.join(ACTIONS)}")
    _check(
        not (policy.is_quorum and {"edit", "respond"} & set(given)),
        "allow: edit and respond are for one approver; in a quorum nobody can edit for the others",
    )
    _check(
        not policy.is_quorum or "approve" in given,
        'allow needs "approve" in a quorum: it takes that many yes',
    )
    return tuple(action for action in ACTIONS if action in given)


def _form(form: Any, allowed: tuple[Action, ...]) -> type[BaseModel] | None:
    if form is None:
        return None
    is_class = isinstance(form, type) and issubclass(form, BaseModel)
    _check(is_class, f"form is a pydantic model class, not {form!r}")
    _check(
        "edit" in allowed or "respond" in allowed,
        'form is for an answer or an edit: add "edit" or "respond" to allow',
    )
    return cast("type[BaseModel]", form)


def _default(on_timeout: Any) -> tuple[Held, Any]:
    if isinstance(on_timeout, str) and on_timeout in ("reject", "approve", "raise"):
        return cast("Held", on_timeout), None
    _check(
        isinstance(on_timeout, Mapping) and set(on_timeout) == {"value"},
        f'on_timeout is "reject", "approve", "raise", or {{"value": ...}}, not {on_timeout!r}',
    )
    return "value", json.loads(canonical(on_timeout["value"]))


def _check_shapes(terms: Terms) -> None:
    """Check now what would else show only when somebody decided, or nobody did."""
    if terms.form is None:
        return
    given = {"subject": json.loads(terms.subject)} if terms.shape else {}
    if terms.on_timeout == "value":
        given["on_timeout"] = terms.default
    for what, value in given.items():
        try:
            fitted(terms.form, value)
        except ValueError as error:
            raise UsageError(
                f"{what} does not fit the form {terms.form.__name__}, which an edited subject has "
                f"to fit: {error}"
            ) from None


def _title(title: Any, name: str) -> str:
    given = _text(title, "title") or name.replace("_", " ").replace("-", " ").capitalize()
    shown = " ".join(given.split()) or name
    _check(len(shown) <= _TITLE, f"title has {len(shown)} characters, and at most {_TITLE} fit")
    return shown


def _text(given: Any, what: str) -> str | None:
    _check(given is None or isinstance(given, str), f"{what} is a text, not {given!r}")
    try:
        (given or "").encode()
    except UnicodeEncodeError:
        raise UsageError(f"{what} holds half a character (a lone surrogate): {given!r}") from None
    return given or None


def _word(confirm: Any) -> str | None:
    word = (_text(confirm, "confirm") or "").strip()
    _check(
        len(word) <= _WORD and word.isprintable(),
        f"confirm is a word to type, at most {_WORD} characters, not {confirm!r}",
    )
    return word or None


def _link(given: Any) -> Link:
    title, url = (given.title, given.url) if isinstance(given, Link) else _pair(given)
    _check(_is_address(url), f"attachments: {url!r} is not an address that begins with https://")
    return Link(title=_text(title, "attachments: title") or url, url=url)


def _is_address(url: str) -> bool:
    """Whether a browser goes to the host that Python reads in an address, which people are shown.

    A browser takes a backslash for a slash, and skips slashes where there is no host.
    """
    try:
        named = urlsplit(url).hostname
    except ValueError:
        return False
    plain = url.isprintable() and not {" ", "\\"} & set(url)
    return bool(named) and plain and url.startswith(("https://", "http://"))


def _pair(given: Any) -> tuple[str, str]:
    if isinstance(given, tuple | list) and len(given) == 2:
        title, url = given
        if isinstance(title, str) and isinstance(url, str):
            return title, url
    raise UsageError(f'attachments are pairs such as ("Offer", "https://..."), not {given!r}')


def _listed(given: Any, what: str) -> Iterable[Any]:
    _check(
        isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping),
        f"{what} is a list, not {given!r}",
    )
    return cast("Iterable[Any]", given)


def _check(holds: bool, text: str) -> None:
    if not holds:
        raise UsageError(text)
