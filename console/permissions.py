"""What each role of a deployment may do: the calls it makes, on the resources it makes them on.

A name of a function is given as CloudFormation resolves it, so that a role needs nothing of the
function it belongs to, and the function can need the role.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .yaml_tags import GetAtt, Sub

Statement = dict[str, Any]
_OWN = ("lambda:CheckpointDurableExecution", "lambda:GetDurableExecutionState")
_READ_SECRET, _READ_PARAMETER = "secretsmanager:GetSecretValue", "ssm:GetParameter"
_ACCOUNT = "${AWS::Region}:${AWS::AccountId}"
_LAMBDA = f"arn:${{AWS::Partition}}:lambda:{_ACCOUNT}"
_BEDROCK = "arn:${AWS::Partition}:bedrock"
_CROSS_REGION = frozenset({"us", "us-gov", "eu", "apac", "jp", "au", "ca", "global"})
"""How the ids of Bedrock's own inference profiles begin."""


def allow(sid: str, actions: Iterable[str], *resources: Any, **more: Any) -> Statement:
    """Return a statement that allows these actions on these resources."""
    stated = {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": list(resources)}
    return stated | more


def logging_to(group: str) -> Statement:
    """Allow to write to a log group, which the template makes."""
    return allow("WriteLogs", ("logs:CreateLogStream", "logs:PutLogEvents"), GetAtt(f"{group}.Arn"))


def executions_of(name: str) -> Sub:
    """Return the ARN of all runs of a function, whose name is this parameter.

    The service checks against the ARN of a run, `function:NAME:VERSION/durable-execution/...`,
    which the bare ARN of the function does not match.
    """
    return Sub(f"{_LAMBDA}:function:${{{name}}}:*")


def running(name: str, withdrawing: bool) -> Statement:
    """Allow a durable function to keep its own runs, and to close callbacks nobody waits for."""
    close = ("lambda:SendDurableExecutionCallbackFailure",) if withdrawing else ()
    return allow("KeepItsRuns", (*_OWN, *close), executions_of(name))


def deciding(names: Iterable[str]) -> Statement:
    """Allow to answer the callbacks of these functions' runs, and to read what was asked."""
    actions = ("lambda:SendDurableExecutionCallbackSuccess", "lambda:GetDurableExecutionHistory")
    return allow("DecideRuns", actions, *map(executions_of, names))


def objects(bucket: str, prefix: str, *, write: bool) -> Statement:
    """Allow to read, and to write, values below a prefix of a bucket."""
    actions = ("s3:GetObject", "s3:PutObject") if write else ("s3:GetObject",)
    return allow("KeepLargeValues", actions, Sub(f"${{{bucket}.Arn}}/{prefix}*"))


def secret(arn: Any) -> Statement:
    """Allow to read a secret of the template's."""
    return allow("ReadKeys", (_READ_SECRET,), arn)


def secret_or_parameter(arn: Any) -> Statement:
    """Allow to read a secret that is named when the stack is made, whichever service has it."""
    return allow("ReadSlack", (_READ_SECRET, _READ_PARAMETER), arn)


def existing_secrets(arns: Sequence[str]) -> list[Statement]:
    """Allow to read these secrets, each by the call of the service that has it."""
    parameters = [arn for arn in arns if ":ssm:" in arn]
    secrets = [arn for arn in arns if ":ssm:" not in arn]
    made = [("ReadSecrets", _READ_SECRET, secrets), ("ReadParameters", _READ_PARAMETER, parameters)]
    return [allow(sid, (action,), *some) for sid, action, some in made if some]


def mailing(identity: str) -> Statement:
    """Allow to send mail as this identity; a mail with parts takes both actions."""
    arn = Sub(f"arn:${{AWS::Partition}}:ses:{_ACCOUNT}:identity/{identity}")
    return allow("SendMail", ("ses:SendEmail", "ses:SendRawEmail"), arn)


def invoking(functions: Sequence[str]) -> Statement:
    """Allow to invoke these functions, by whatever version or alias."""
    arns = (Sub(f"{_LAMBDA}:function:{name}:*") for name in functions)
    return allow("InvokeFunctions", ("lambda:InvokeFunction",), *arns)


def telling_step_functions() -> Statement:
    """Allow to report a task of Step Functions.

    IAM knows no resource for these two actions: who holds a task's token may report that task.
    """
    return allow("ReportTask", ("states:SendTaskSuccess", "states:SendTaskFailure"), "*")


def models(number: int, given: str) -> list[Statement]:
    """Allow to ask one model of Bedrock, or an inference profile and the models behind it."""
    sid = f"AskModel{number}"
    actions = ("bedrock:InvokeModel", "bedrock:InvokeModelWithResponseStream")
    if given.startswith("arn:"):
        return [allow(sid, actions, given)]
    prefix, _, model = given.partition(".")
    if prefix not in _CROSS_REGION:
        return [allow(sid, actions, Sub(f"{_BEDROCK}:${{AWS::Region}}::foundation-model/{given}"))]
    profile = Sub(f"{_BEDROCK}:{_ACCOUNT}:inference-profile/{given}")
    return [
        allow(sid, actions, profile),
        # The profile sends a request to a region of its choice; only through it are they allowed.
        allow(
            f"{sid}ByProfile",
            actions,
            Sub(f"{_BEDROCK}:*::foundation-model/{model}"),
            Condition={"StringEquals": {"bedrock:InferenceProfileArn": profile}},
        ),
    ]
