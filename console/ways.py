"""Where an approval is decided: its page, if a server is up that has it, and what to type."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .place import Place

if TYPE_CHECKING:
    from perdure.approvals.audit import AuditRecord

_PATIENCE = 0.3
_LOCAL = ("127.0.0.1", "::1", "localhost")
_WHY = {
    "approve": "approves it",
    "reject": "rejects it",
    "edit": "approves it with changes; JSON, text or @FILE",
    "respond": "answers it; JSON, text or @FILE",
}


def commands_of(
    record: AuditRecord, place: Place, open_: Iterable[AuditRecord] = ()
) -> list[tuple[str, str]]:
    """Return the command lines that decide an approval, and what each does; none for others.

    Args:
        open_: the approvals that are open in its run; the name is left out if it is the only one.
    """
    request = record.request
    if not may_decide(record):
        return []
    named = [record.path] if len({each.path for each in open_} | {record.path}) > 1 else []
    ways = []
    for action in request.allowed:
        confirm = ["--confirm", request.confirm] if request.confirm and action != "reject" else []
        command = place.command(action, request.run, *named, *confirm)
        ways.append((command + (" VALUE" if action in ("edit", "respond") else ""), _WHY[action]))
    return ways


def may_decide(record: AuditRecord) -> bool:
    """Return whether the account on this machine is among those who may decide."""
    from perdure.approvals.people import account

    policy, me = record.request.policy, account()
    return me not in policy.requested_by and any(me in each.identities for each in policy.everyone)


def page_of(record: AuditRecord, place: Place) -> str | None:
    """Return the address of an approval's page, or None if nothing serves it."""
    base = base_url(place)
    request = record.request
    return base and f"{base}/inbox/{request.execution}/{request.operation}"


def base_url(place: Place) -> str | None:
    """Return the address of the server that has this journal's approvals, if one is up."""
    from perdure.approvals.office import serving

    if place.function is not None:
        return None
    url = serving(Path(place.journal).absolute().parent)
    return url.rstrip("/") if url and _is_up(url) else None


@cache
def _is_up(url: str) -> bool:
    """Whether something listens there; of another machine that is taken for granted."""
    try:
        parts = urlsplit(url)
        if parts.hostname not in _LOCAL:
            return True
        port = parts.port or (443 if parts.scheme == "https" else 80)
        with socket.create_connection((parts.hostname, port), _PATIENCE):
            return True
    except (OSError, ValueError):
        return False
