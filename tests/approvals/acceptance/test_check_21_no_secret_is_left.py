"""One long story with known secrets in it, and not one of them anywhere but where it belongs."""

from __future__ import annotations

import base64
import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from ..conftest import KEY
from ..mail.asked import LINK
from ..mail.smtp_server import PASSWORD, body
from ..slack.clicks import SECRET, buttons
from ..slack.fake_slack import TOKEN
from .house import ALICE, BOB, House, house_in

RETIRED = "canary-retired-key-of-at-least-32-bytes"
WRONG_PASSWORD = "canary-wrong-smtp-password"
WRONG_TOKEN = "xoxb-canary-wrong-bot-token"
SHORT = "canary-short-key"
FIXED = [KEY, RETIRED, SHORT, TOKEN, WRONG_TOKEN, SECRET, PASSWORD, WRONG_PASSWORD]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """The house after the whole story; all of it logged at DEBUG."""
    folder = tmp_path_factory.mktemp("house")
    with house_in(folder) as house:
        house.more = {
            "EVERYTHING": str(folder / "everything.log"),
            "PERDURE_APPROVAL_KEYS": f"{RETIRED},{KEY}",
            "WRONG_PASSWORD": WRONG_PASSWORD,
            "WRONG_TOKEN": WRONG_TOKEN,
        }
        the_story(house)
        yield house


def test_no_secret_is_left(told: House) -> None:
    places = places_of(told)
    assert "UMALLORY" in places["the log"]
    for canary in ("Pay the invoice?", ALICE):  # what is there is found
        assert canary in places["the journal"]
        assert canary in places["the rows"]
        assert canary in places["what was printed"]
    for name, secret in secrets_of(told).items():
        for place, text in places.items():
            for form in forms_of(secret):
                assert form not in text, f"{name} is in {place}"


def test_a_page_holds_its_own_address_and_no_other_token(told: House) -> None:
    tokens = tokens_of(told)
    assert len(tokens) >= 8
    seen = 0
    for answer in told.answers:
        own = re.search(r"/(?:a/v1~|login/)([^/?]+)", str(answer.request.url))
        headers = {name: text for name, text in answer.headers.items() if name != "set-cookie"}
        text = answer.text + json.dumps(headers)
        for token in tokens | set(told.secrets):
            if own is None or token != own[1]:
                assert token.rpartition(".")[2] not in text
        if own is not None:
            seen += 1
            held = re.findall(rf"[^<>]*{re.escape(own[1])}[^<>]*", text)
            assert all(re.match(r"form [^>]*action=|a [^>]*href=", each) for each in held), held
            assert 'type="hidden" value' not in text
    assert seen > 10


def the_story(house: House) -> None:
    """Ask and decide in all ways, and go wrong in all ways."""
    house.serve()
    house.ask("by-mail")
    forge(house)
    assert house.press(house.link(ALICE), "approve", comment="ok").status_code == 200
    house.until_ended("by-mail")
    house.press(house.link(ALICE), "approve")
    house.press(house.link(BOB), "reject")
    house.get(house.link(BOB))

    house.ask("by-slack")
    message = json.loads(json.dumps(house.slack.posts[-1]))
    house.click(message, "approve", "UMALLORY")
    house.send("POST", "/slack/interactivity", content=b"payload=%7B%7D")
    house.slack_says({"type": "block_actions", "actions": []})
    house.click(message, "reject", BOB)
    house.until_ended("by-slack")
    house.click(message, "approve", ALICE)

    house.ask("by-web")
    with house.signed_in() as me:
        cookie = me.browser.cookies["perdure_session"]
        house.secrets.append(cookie)
        [path] = me.inbox()
        me.send(path, me.look(path), "banana")
        assert me.press(path, "approve").status_code == 200
        house.until_ended("by-web")
        house.send("GET", "/inbox", headers={"cookie": f"perdure_session={cookie[:-3]}abc"})

    house.ask("by-terminal")
    house("reject", "by-terminal", "--comment", "no")
    house.until_ended("by-terminal")

    house.ask("cancelled")
    house("cancel", "cancelled", "--reason", "no need")
    house.press(house.link(ALICE), "approve")

    house.hand_over("wrong-password", "wrong_password")
    house.hand_over("wrong-token", "wrong_token")
    house.ask("breaks", "breaks")
    house.press(house.link(ALICE), "approve")
    for id in ("wrong-password", "wrong-token", "breaks"):
        house.until_ended(id, "FAILED")

    house.ask("killed")
    house.kill()
    house.serve()
    tell_all(house)
    house.kill()


def forge(house: House) -> None:
    """Try links that are none."""
    link = house.link(ALICE)
    head, token, tail = link.partition("v1~")[0], link.split("~")[1].split("/")[0], "/review"
    for forged in (token[:-4] + "AAAA", token[:40], "A" * 50_000, "%00", token + "x", token[::-1]):
        for method in ("GET", "POST"):
            answer = house.send(method, f"{head}v1~{forged}{tail}")
            assert answer.status_code in (404, 413, 414, 400)
    house.send("POST", link, content=b"\xff\xfe", headers={"content-type": "x/y"})
    house.send("PUT", link)
    house.send("POST", link, data={"decision": "banana"})
    house.send("POST", link, data={"decision": "approve"}, headers={"origin": "https://x.org"})


def tell_all(house: House) -> None:
    """Have the terminal tell everything it knows."""
    runs = ("by-mail", "by-slack", "by-web", "cancelled", "wrong-password", "wrong-token", "breaks")
    for id in runs:
        for words in (["show", id], ["show", id, "--json"], ["history", id, "--json"]):
            house(*words)
    assert "did not accept the user and password" in house("show", "wrong-password").stdout
    assert "invalid_auth" in house("show", "wrong-token").stdout
    for words in (["list"], ["list", "--json"], ["inbox"], ["inbox", "--json"], ["audit"]):
        house(*words)
    house("approve", "by-mail", code=2)
    house("approve", "killed", code=2, PERDURE_APPROVAL_KEYS=SHORT)


def places_of(house: House) -> dict[str, str]:
    """All that is written, printed, logged or told, but the mails and messages themselves."""
    log: Path = house.folder / "everything.log"
    files = [each for each in house.journal.parent.rglob("*") if each.is_file()]
    return {
        "the log": log.read_text(),
        "what was printed": "".join(house.said),
        "the journal": b"".join(each.read_bytes() for each in files).decode("latin-1"),
        "the rows": rows_of(house.journal),
        "what was used": "".join(each.read_text() for each in house.folder.glob("*.used")),
        "what Slack told privately": "".join(house.slack.private),
        "what closed messages say": json.dumps(
            [each for each in house.slack.posts if not buttons(each)]
        ),
    }


def rows_of(journal: Path) -> str:
    """Each value of each row: what a page of the file may have torn apart."""
    connection = sqlite3.connect(journal)
    try:
        names = connection.execute("select name from sqlite_master where type='table'").fetchall()
        rows = (row for (name,) in names for row in connection.execute(f'select * from "{name}"'))
        return "\n".join(
            each.decode("latin-1") if isinstance(each, bytes) else str(each)
            for row in rows
            for each in row
        )
    finally:
        connection.close()


def tokens_of(house: House) -> set[str]:
    """Every token that was sent: in the mails, and in the messages as they came to Slack."""
    mails = [body(each, kind) for each in house.mail.desk.messages for kind in ("plain", "html")]
    posted = json.dumps(house.slack.called("chat.postMessage"))
    mailed = {token for mail in mails for token in LINK.findall(mail)}
    buttoned = set(re.findall(r'"value": "([^"]{60,})"', posted))
    assert mailed
    assert buttoned
    return mailed | buttoned


def secrets_of(house: House) -> dict[str, str]:
    """What may be nowhere, by what to call it."""
    fixed = {each: each for each in FIXED}
    signed = {f"a token {n}": each for n, each in enumerate(sorted(tokens_of(house)))}
    return fixed | signed | {f"a cookie {n}": each for n, each in enumerate(house.secrets)}


def forms_of(secret: str) -> set[str]:
    """A secret as it stands, in an address, in base64; of a token its signature, too."""
    coded = base64.b64encode(secret.encode()).decode().rstrip("=")[:-2]
    return {secret, quote(secret, safe=""), coded, secret.rpartition(".")[2]}
