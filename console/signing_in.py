"""`login`: a link by which a browser signs in to the inbox as the account on the machine."""

from __future__ import annotations

import os
from pathlib import Path

from perdure.durable.errors import UsageError

from .place import Place
from .screen import say, stderr
from .ways import base_url as base_url_of


def login(place: Place, base_url: str | None, browse: bool) -> None:
    """Print the link; whoever has it within five minutes is signed in as this account.

    Raises:
        UsageError: no server of this journal is up, and none was named.
    """
    from perdure.approvals.office import Office, checked_url
    from perdure.approvals.people import account
    from perdure.approvals.sessions import login_url

    place.local().close()
    url = checked_url(base_url) if base_url is not None else base_url_of(place)
    if url is None:
        raise UsageError(
            f"no server of {place.journal} is up: start `{place.command('serve', 'FILE')}`, or "
            "name it with --base-url"
        )
    link = login_url(Office.at(Path(place.journal).absolute().parent, base_url=url), account())
    print(link)
    say(stderr(), f"signs a browser in as {account()}; good for five minutes", "dim")
    if browse:
        _open(link)


def _open(link: str) -> None:
    import webbrowser

    if not webbrowser.open(link):
        display = "" if os.environ.get("DISPLAY") else " (no display here?)"
        raise UsageError(f"no browser could be opened{display}; open the link yourself")
