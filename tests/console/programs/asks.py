"""Handlers that ask people, run by the tests as a user's file."""

import os

from pydantic import BaseModel

from perdure.approvals import Slack, await_approval
from perdure.approvals.people import account
from perdure.durable import Duration, durable_execution


class Limit(BaseModel):
    limit: int


def told(decision):
    value = decision.subject if decision.approved else decision.value
    return {"kind": decision.kind, "by": decision.by.identity, "value": value}


@durable_execution
def report(event, context):
    text = context.step("write", lambda: "The report \x1b[2J says <b>yes</b>")
    allow = ("approve", "reject", "edit")
    title = "Publish the report?"
    return told(await_approval(context, text, title=title, approvers=account(), allow=allow))


@durable_execution
def pays(event, context):
    who = [account(), "user:alice"]
    return told(await_approval(context, {"usd": 5}, approvers=who, requested_by=account()))


@durable_execution
def others(event, context):
    return told(await_approval(context, {"usd": 5}, approvers="user:alice"))


@durable_execution
def hurry(event, context):
    return told(await_approval(context, {"usd": 5}, approvers=account(), timeout=1))


@durable_execution
def pages(event, context):
    def ask(scope, page):
        return told(await_approval(scope, page, "look", approvers=account()))

    return list(context.map("pages", ["one", "two"], ask))


@durable_execution
def limits(event, context):
    decision = await_approval(
        context, "How much?", approvers=account(), allow=["respond"], form=Limit
    )
    return decision.answer.limit


@durable_execution
def danger(event, context):
    return told(await_approval(context, "Delete all", approvers=account(), confirm="delete"))


@durable_execution
def votes(event, context):
    who = [account(), "user:alice", "user:bob"]
    return told(await_approval(context, "Release", approvers=who, required=2))


@durable_execution
def waits(event, context):
    return {"got": context.wait(duration=Duration.from_days(7), name="await_approval")}


@durable_execution
def slack(event, context):
    channel = Slack("C1", base_url=os.environ["FAKE_SLACK"])
    return told(await_approval(context, "Pay", approvers="slack:T1:U1", via=channel))
