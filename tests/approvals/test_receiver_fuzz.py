"""Anything at all is sent to the receiver: it answers, and decides nothing by itself."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure.approvals.http import Request, Response
from perdure.approvals.keys import Keys
from perdure.approvals.lambda_url import request_of
from perdure.approvals.office import Office
from perdure.approvals.sessions import login_token
from perdure.approvals.tokens import PREFIX, seal
from perdure.durable.testing import ManualClock, Runner

from .conftest import BASE_URL, KEY
from .ways import ALICE, BARE, BOB, FOREIGN, PERSON, SCRIPT, Asked, Asks

USER = "user:alice"
SETTINGS = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
ANSWERS = {200, 303, 400, 401, 403, 404, 405, 410, 413}


@pytest.fixture(scope="module")
def it() -> Iterator[Asked]:
    """One open request, on the receiver of a local server, for all that is sent."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setenv("PERDURE_APPROVAL_KEYS", KEY)
        patch.setenv("PERDURE_BASE_URL", BASE_URL)
        clock = ManualClock()
        with Runner(Path(folder, "journal.db"), clock=clock) as runner:
            asks = Asks(runner, Office(Keys(KEY), BASE_URL, clock))
            yield asks(
                {"amount": 1},
                approvers=[ALICE, (BOB, USER)],
                allow=["approve", "reject", "edit", "respond"],
                confirm="YES",
                user=USER,
            )


texts = st.text(max_size=40)
segments = st.one_of(
    texts, st.sampled_from(["a", "review", "inbox", "login", "logout", "slack", "interactivity"])
)
paths = st.lists(segments, max_size=5).map(lambda parts: "/" + "/".join(parts))
methods = st.one_of(st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT"]), texts)
headers = st.one_of(
    st.sampled_from([PERSON, SCRIPT, FOREIGN, BARE, {}]),
    st.dictionaries(
        st.sampled_from(["cookie", "origin", "host", "sec-fetch-site", "content-type"]), texts
    ),
)
fields = st.dictionaries(
    st.one_of(st.sampled_from(["decision", "comment", "confirm", "csrf", "value", "f.x"]), texts),
    st.one_of(st.sampled_from(["approve", "reject", "edit", "YES", "{}", "null"]), texts),
    max_size=6,
).map(lambda form: urlencode(form, errors="surrogatepass").encode())
bodies = st.one_of(st.binary(max_size=300), fields)


def sent(
    it: Asked, method: str, path: str, query: str, headers: dict[str, str], body: bytes
) -> Any:
    answer = it.receiver.handle(Request(method, path, query, headers, body))
    assert isinstance(answer, Response)
    assert answer.status in ANSWERS
    assert b"Traceback" not in answer.body
    return answer


@SETTINGS
@given(method=methods, path=paths, query=texts, headers=headers, body=bodies)
def test_whatever_is_sent_is_answered_and_decides_nothing(
    it: Asked, method: str, path: str, query: str, headers: dict[str, str], body: bytes
) -> None:
    sent(it, method, path, query, headers, body)
    assert it.votes() == []


@SETTINGS
@given(data=st.data(), headers=headers, body=bodies)
def test_a_link_that_was_changed_decides_nothing(
    it: Asked, data: st.DataObject, headers: dict[str, str], body: bytes
) -> None:
    token = it.token()
    place = data.draw(st.integers(0, len(token) - 2))
    more = data.draw(st.one_of(texts, st.just(""), st.sampled_from("AZaz09-_.")))
    changed = token[:place] + more + token[place + data.draw(st.integers(0, 3)) :]
    if changed == token:
        return
    answer = sent(it, "POST", f"/a/{PREFIX}{changed}/review", "", headers, body)
    assert answer.status in (404, 413)
    assert it.votes() == []


@SETTINGS
@given(
    claims=st.dictionaries(
        st.sampled_from("cxowbdhej"),
        st.one_of(st.none(), st.integers(), texts, st.lists(st.one_of(texts, st.lists(texts)))),
    ),
    body=bodies,
)
def test_signed_nonsense_decides_nothing(it: Asked, claims: dict[str, Any], body: bytes) -> None:
    """Even with the key: what does not name an open request and its approver is nothing."""
    from perdure.approvals.tokens import sign

    whole: dict[str, Any] = {"b": [], "d": "ar", "e": 2**40, "j": "", "o": "", "x": "", "h": ""}
    try:
        token = sign(it.office.keys, "link", whole | {"c": "", "w": [ALICE]} | claims)
    except UnicodeEncodeError:
        return
    sent(it, "POST", f"/a/{PREFIX}{token}/review", "", PERSON, body)
    assert it.votes() == []


@settings(SETTINGS, max_examples=50)
@given(body=bodies, headers=headers)
def test_a_true_link_with_any_form_decides_only_what_the_form_says(
    it: Asked, body: bytes, headers: dict[str, str]
) -> None:
    """Without the word to confirm, and without a fitting value, no form of these is a yes."""
    asked = _fresh(it)
    if b"confirm=YES" in body and b"decision=approve" in body:
        return
    answer = sent(asked, "POST", asked.box.links[ALICE], "", headers, body)
    votes = asked.votes()
    assert all(each.by.identity == ALICE for each in votes)
    kinds = {each.kind for each in votes}
    assert "approved" not in kinds
    if votes:
        assert answer.status == 200
        assert b"decision=" in body


@SETTINGS
@given(cookie=texts, path=st.sampled_from(["entry", "inbox", "logout", "login"]), body=bodies)
def test_no_made_up_session_sees_or_decides_anything(
    it: Asked, cookie: str, path: str, body: bytes
) -> None:
    paths = {
        "entry": f"/inbox/{it.run.id}/{it.operation}",
        "inbox": "/inbox",
        "logout": "/logout",
        "login": f"/login/{cookie}",
    }
    headers = PERSON | {"cookie": f"perdure_session={cookie}"}
    method = "GET" if path == "inbox" else "POST"
    answer = sent(it, method, paths[path], "", headers, body)
    assert answer.status in (401, 404, 405)
    assert it.votes() == []


@SETTINGS
@given(
    event=st.recursive(
        st.one_of(st.none(), st.booleans(), texts, st.integers()),
        lambda inner: st.dictionaries(
            st.sampled_from(
                ["rawPath", "rawQueryString", "headers", "cookies", "body", "isBase64Encoded"]
            ),
            inner,
        ),
        max_leaves=8,
    )
)
def test_an_event_of_any_shape_is_read(event: Any) -> None:
    request = request_of(event if isinstance(event, dict) else {})
    assert isinstance(request.path, str)
    assert isinstance(request.body, bytes)


def test_the_same_forms_decide_with_a_true_link(it: Asked) -> None:
    """What the tests above send is refused for what it is, not because nothing can decide."""
    asked = _fresh(it)
    body = urlencode({"decision": "approve", "confirm": "YES"}).encode()
    assert sent(asked, "POST", asked.box.links[ALICE], "", PERSON, body).status == 200
    assert [each.kind for each in asked.votes()] == ["approved"]
    token = login_token(it.office, USER)
    assert sent(it, "POST", f"/login/{token}", "", PERSON, b"").status == 303
    assert seal(it.office.keys, "link", it.claims())


def _fresh(it: Asked) -> Asked:
    """Return another open request like it."""
    return Asks(it.runner, it.office)(
        {"amount": 1},
        approvers=[ALICE, BOB],
        allow=["approve", "reject", "edit", "respond"],
        confirm="YES",
    )
