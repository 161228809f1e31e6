"""The arguments of `await_approval`, checked at the call: nothing is recorded or sent before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel

from perdure.durable.duration import Duration, DurationLike, seconds_of
from perdure.durable.errors import UsageError

from .channels import Channel
from .people import approvers_of, identities_of
from .requests import ACTIONS, Action, ApprovalRequest, Link, Policy, canonical, digest_of
from .vias import channels_of, check_reach

TIMEOUT = Duration.from_days(7)
_YEAR = 366 * 86_400
_TITLE = 150
_WORD = 40


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
        policy: whom it adds, for an escalation; None reminds those who were told.
    """

    after: float
    name: str
    policy: Policy | None
    channels: tuple[Channel, ...]


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
    on_timeout: Literal["reject", "approve", "raise", "value"]
    default: Any
    preview: str | None
    attachments: tuple[Link, ...]
    confirm: str | None

    @property
    def digest(self) -> str:
        """SHA-256 of the subject's canonical text, in hex."""
        return digest_of(self.subject)

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
            form=self.form.model_json_schema() if self.form is not None else None,
            confirm=self.confirm,
        )


def terms_of(
    subject: Any,
    name: str,
    *,
    approvers: Any,
    via: Any,
    timeout: DurationLike,
    title: str | None,
    required: int,
    veto: bool,
    requested_by: str | Sequence[str] | None,
    allow: Iterable[Action],
    form: type[BaseModel] | None,
    remind: Any,
    escalate: Any,
    on_timeout: Any,
    preview: str | None,
    attachments: Iterable[Any],
    confirm: str | None,
) -> Terms:
    """Return the terms that the arguments mean.

    Raises:
        UsageError: naming the argument that cannot be meant, and the cure.
    """
    what = f"await_approval {name!r}"
    with _named(what):
        seconds = seconds_of(timeout, "timeout")
        _check(0 < seconds <= _YEAR, f"timeout is above 0 and at most 366 days, not {timeout!r}")
        channels = channels_of(via)
        base = approvers_of(approvers)
        steps = _escalations(escalate, channels)
        policy = _policy(base, steps, required, veto, requested_by)
        check_reach(channels, policy.model_copy(update={"escalated": ()}))
        allowed = _allowed(allow, policy, form)
        held, default = _default(on_timeout)
        return Terms(
            name=name,
            title=_title(title, name),
            subject=canonical(subject),
            policy=policy,
            channels=channels,
            timeout=seconds,
            allowed=allowed,
            form=form,
            rungs=_rungs(remind, steps, policy, seconds),
            on_timeout=held,
            default=default,
            preview=_text(preview, "preview"),
            attachments=tuple(_link(each) for each in attachments),
            confirm=_word(confirm),
        )


def _escalations(
    given: Any, channels: tuple[Channel, ...]
) -> list[tuple[float, tuple[Any, ...], tuple[Channel, ...]]]:
    listed = [given] if isinstance(given, Escalation) else list(given)
    found = []
    for each in listed:
        _check(
            isinstance(each, Escalation),
            f"escalate takes Escalation(after, approvers), not {each!r}",
        )
        via = channels if each.via is None else channels_of(each.via)
        after = seconds_of(each.after, "escalate: after")
        found.append((after, approvers_of(each.approvers, "escalate: approvers"), via))
    return found


def _policy(
    base: tuple[Any, ...],
    steps: list[tuple[float, tuple[Any, ...], tuple[Channel, ...]]],
    required: int,
    veto: bool,
    requested_by: str | Sequence[str] | None,
) -> Policy:
    added = tuple(approver for _, group, _ in steps for approver in group)
    everyone = approvers_of(base + added, "approvers and escalate")
    requester = identities_of(requested_by)
    able = [each for each in base if not set(each.identities) & set(requester)]
    whole = isinstance(required, int) and not isinstance(required, bool)
    _check(whole and required >= 1, f"required is a whole number from 1, not {required!r}")
    _check(isinstance(veto, bool), f"veto is True or False, not {veto!r}")
    few = "who may decide (requested_by may not)" if len(able) < len(base) else "who may decide"
    _check(
        required <= len(able),
        f"required is {required}, and approvers has {len(able)} {few}; name more, or require less",
    )
    return Policy(
        approvers=base,
        required=required,
        veto=veto,
        requested_by=requester,
        escalated=everyone[len(base) :],
    )


def _allowed(
    allow: Iterable[Action], policy: Policy, form: type[BaseModel] | None
) -> tuple[Action, ...]:
    given = [allow] if isinstance(allow, str) else list(allow)
    for each in given:
        _check(each in ACTIONS, f"allow takes {', '.join(ACTIONS)}, not {each!r}")
    _check(bool(given), f"allow is empty; it takes {', '.join(ACTIONS)}")
    is_class = isinstance(form, type) and issubclass(form, BaseModel)
    _check(form is None or is_class, f"form is a pydantic model class, not {form!r}")
    asks = "edit" in given or "respond" in given
    _check(
        form is None or asks, 'form is for an answer or an edit: add "edit" or "respond" to allow'
    )
    _check(
        not (policy.is_quorum and asks),
        "edit and respond are for one approver; in a quorum nobody can edit for the others",
    )
    return tuple(action for action in ACTIONS if action in given)


def _default(
    on_timeout: Any,
) -> tuple[Literal["reject", "approve", "raise", "value"], Any]:
    if isinstance(on_timeout, str):
        if on_timeout in ("reject", "approve", "raise"):
            return on_timeout, None  # type: ignore[return-value]
        raise UsageError(
            f'on_timeout is "reject", "approve", "raise", or {{"value": ...}}, not {on_timeout!r}'
        )
    _check(
        isinstance(on_timeout, Mapping) and set(on_timeout) == {"value"},
        f'on_timeout is "reject", "approve", "raise", or {{"value": ...}}, not {on_timeout!r}',
    )
    canonical(on_timeout["value"])
    return "value", on_timeout["value"]


def _rungs(
    remind: Any,
    steps: list[tuple[float, tuple[Any, ...], tuple[Channel, ...]]],
    policy: Policy,
    timeout: float,
) -> tuple[Rung, ...]:
    listed = [remind] if isinstance(remind, int | float | timedelta | Duration) else list(remind)
    times = [seconds_of(each, "remind") for each in listed]
    rungs = [Rung(after, f"remind-{n}", None, ()) for n, after in enumerate(sorted(times), 1)]
    for n, (after, added, via) in enumerate(steps, 1):
        extra = policy.model_copy(update={"approvers": added, "escalated": ()})
        check_reach(via, extra, "escalate: via")
        rungs.append(Rung(after, f"escalate-{n}", extra, via))
    for rung in rungs:
        _check(
            0 < rung.after < timeout,
            f"{rung.name.partition('-')[0]} has {rung.after:g} s, which is not between the request "
            f"and its deadline after {timeout:g} s",
        )
    return tuple(sorted(rungs, key=lambda rung: rung.after))


def _title(title: str | None, name: str) -> str:
    shown = _text(title, "title") or name.replace("_", " ").replace("-", " ").capitalize()
    _check(len(shown) <= _TITLE, f"title has {len(shown)} characters, and at most {_TITLE} fit")
    _check("\n" not in shown, "title is one line")
    return shown


def _text(given: str | None, what: str) -> str | None:
    _check(given is None or isinstance(given, str), f"{what} is a text, not {given!r}")
    return given or None


def _word(confirm: str | None) -> str | None:
    word = (_text(confirm, "confirm") or "").strip()
    _check(len(word) <= _WORD and "\n" not in word, f"confirm is a word to type, at most {_WORD}")
    return word or None


def _link(given: Any) -> Link:
    if isinstance(given, Link):
        link = given
    elif isinstance(given, tuple) and len(given) == 2 and all(isinstance(g, str) for g in given):
        link = Link(title=given[0], url=given[1])
    else:
        raise UsageError(f'attachments are pairs such as ("Offer", "https://..."), not {given!r}')
    _check(
        link.url.startswith(("https://", "http://")),
        f"attachments: {link.url!r} is not an address that begins with https://",
    )
    return link


def _check(holds: bool, text: str) -> None:
    if not holds:
        raise UsageError(text)


class _named:
    """Puts the call before the text of what is wrong with it."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if type(error) is UsageError:
            raise UsageError(f"{self._what}: {error}") from None
