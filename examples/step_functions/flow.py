"""What a state machine of Step Functions calls, and what it starts and waits for.

`state_machine.json` has a claim sorted (`triage`: seconds, so it is called and waited for) and
settled (`settle`: days, since a person is asked, so it is started with the task's token and sends
that back at its end). Without a token both run here as well:

    perdure run examples/step_functions/flow.py:settle --id claim-1
"""

import getpass
import json

from perdure.approvals import await_approval
from perdure.durable import Duration, RetryPolicy, durable_execution

PATIENT = RetryPolicy(max_attempts=8, initial_delay=2)
SAMPLE = {"id": "claim-1", "amount": 1200, "via": ["web"]}


@durable_execution(timeout=Duration.from_minutes(10))
def triage(event, context):
    amount = context.step("read_amount", read_amount, event or SAMPLE)
    return {"amount": amount, "needs_approval": amount > 500}


@durable_execution(timeout=Duration.from_days(8))
def settle(event, context):
    claim = context.step("read_claim", read_claim, event)
    token = claim.get("task_token")
    try:
        result = settled(context, claim)
    except Exception as error:
        kind = getattr(error, "error_type", type(error).__name__)
        context.step("report_failure", report_failure, token, kind, str(error), retry=PATIENT)
        raise
    context.step("report", report, token, result, retry=PATIENT)
    return result


def settled(context, claim):
    decision = await_approval(
        context,
        {"claim": claim["id"], "amount": claim["amount"]},
        title=f"Pay {claim['amount']}?",
        approvers=claim["approvers"],
        via=claim["via"],
        timeout=Duration.from_days(7),
    )
    if not decision.approved:
        return {"paid": False}
    return {"paid": True, "receipt": context.step("pay", pay, claim)}


def read_claim(event):
    return event or {**SAMPLE, "approvers": [f"user:{getpass.getuser()}"]}


def read_amount(claim):
    return float(claim["amount"])


def pay(claim):
    return f"{claim['id']}: {claim['amount']} paid"


def report(token, result):
    told(token, "send_task_success", output=json.dumps(result))


def report_failure(token, kind, text):
    told(token, "send_task_failure", error=kind[:256], cause=text[:32_768])


def told(token, call, **said):
    """Tell Step Functions, once: a task that is over was told before, or waits no more."""
    if token:
        import boto3

        client = boto3.client("stepfunctions")
        try:
            getattr(client, call)(taskToken=token, **said)
        except client.exceptions.TaskTimedOut:
            print("the task is over")
