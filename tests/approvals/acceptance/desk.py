"""Handlers that ask by Slack, mail and the web at once, run by the tests as a user's file."""

import hashlib
import json
import logging
import os
import time
from pathlib import Path

from perdure.approvals import (
    ApprovalError,
    Email,
    Slack,
    SlackIn,
    Smtp,
    await_approval,
    require_approval,
)
from perdure.approvals.people import account
from perdure.durable import durable_execution

HERE = Path(__file__).parent
SLACK = os.environ["FAKE_SLACK"]
ALICE = ("alice@example.org", "slack:T1:UALICE")
BOB = ("bob@example.org", "slack:T1:UBOB")
SlackIn.__init__.__kwdefaults__.update(
    base_url=f"http://{SLACK}/api/", response_hosts=[SLACK]
)  # the fake stands where Slack is

if "EVERYTHING" in os.environ:
    logging.basicConfig(level=logging.DEBUG, filename=os.environ["EVERYTHING"], force=True)


def used(run, subject):
    """Use what was approved; tell what it was, and when."""
    text = json.dumps(subject, ensure_ascii=False).encode()
    (HERE / f"{run}.used").write_bytes(text)
    return {"sha256": hashlib.sha256(text).hexdigest(), "entered": time.time()}


def subject_of(event):
    file = event.get("file")
    return (HERE / file).read_bytes().decode() if file else event.get("subject", {"usd": 1250})


@durable_execution
def asks(event, context):
    """Ask alice, bob and whoever runs this, by all channels."""
    channels = {
        "slack": Slack("C1", base_url=f"http://{SLACK}/api/", history=event.get("history", False)),
        "direct": Slack(base_url=f"http://{SLACK}/api/"),
        "email": Email(),
        "web": "web",
    }
    terms = {"title": "Pay the invoice?", "timeout": 86_400} | event.get("terms", {})
    decision = await_approval(
        context,
        subject_of(event),
        approvers=[ALICE, BOB, account()],
        via=[channels[each] for each in event.get("via", ["slack", "email", "web"])],
        **terms,
    )
    told = {"kind": decision.kind, "by": decision.by.identity, "digest": decision.digest}
    if not decision.approved:
        return told
    return told | context.step("use", used, context.execution_id, decision.subject)


@durable_execution
def asked_by_alice(event, context):
    """Ask, on behalf of alice, who is all of it, her account on this machine included."""
    me = (*ALICE, account())
    slack = Slack("C1", base_url=f"http://{SLACK}/api/")
    decision = await_approval(
        context, {"usd": 5}, approvers=[me, BOB], requested_by=me, via=[slack, Email(), "web"]
    )
    return {"kind": decision.kind, "by": decision.by.identity}


@durable_execution
def wrong_password(event, context):
    """Ask by a mail server that does not know this password."""
    port, authority = int(os.environ["SMTP_PORT"]), os.environ["SMTP_AUTHORITY"]
    password = os.environ["WRONG_PASSWORD"]
    server = Smtp("127.0.0.1", port, "alice", password, ca_file=authority)
    return await_approval(context, "x", approvers=[ALICE], via=[Email(transport=server)]).kept()


@durable_execution
def wrong_token(event, context):
    """Ask in Slack with a token that it does not know."""
    slack = Slack("C1", token=os.environ["WRONG_TOKEN"], base_url=f"http://{SLACK}/api/")
    return await_approval(context, "x", approvers=[ALICE], via=[slack]).kept()


@durable_execution
def breaks(event, context):
    """Fail with the decision in hand."""
    decision = await_approval(context, "x", approvers=[ALICE], via=[Email()])
    raise ApprovalError(f"could not go on with {decision!r}")


def pay(usd: int, to: str):
    """Pay somebody."""
    with (HERE / "paid.txt").open("a") as file:
        file.write(f"{usd} {to}\n")
    return usd


@durable_execution
def pays(event, context):
    """Pay what alice lets it pay."""
    ways = {"approvers": [ALICE], "via": [Email()], "allow": ["approve", "reject", "edit"]}
    return require_approval(pay, **ways)(context, 100, "carol")
