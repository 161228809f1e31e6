"""A stack for AWS, as a SAM template: durable functions, and what people decide through.

Nothing in it depends in a circle: functions have names of their own, as parameters, so roles name
the runs they may touch without waiting for a function; and a function knows the receiver's address,
while the receiver finds a run by what is signed into a link. No secret is in it: keys are made by
Secrets Manager, Slack's are named by the ARN of a secret that exists.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import permissions
from .permissions import Statement
from .yaml_tags import GetAtt, If, Join, Ref, Sub

PREFIX = "perdure/"
_RECEIVER = "perdure.approvals.lambda_url.handler"
_RUNTIME = "python3.13"
_INVOCATION = 900
_RECEIVER_MEMORY = 1024
_LOG_DAYS = (1, 3, 5, 7, 14, 30, 60, 90)
_DAY = 86_400
_SLACK = "SlackSecretArn"
_KEYS = "ApprovalKeys"
_BUCKET = "Values"

Resource = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Function:
    """A durable function to be.

    Attributes:
        id: how its resources' logical ids begin.
        name: its name by default.
        handler: what Lambda imports and calls.
        seconds: how long a run may take in all.
    """

    id: str
    name: str
    handler: str
    seconds: float

    @property
    def parameter(self) -> str:
        """The parameter that holds its name."""
        return f"{self.id}Name"


@dataclass(frozen=True, slots=True)
class Options:
    """What a stack is to have.

    Attributes:
        approvals: a receiver of clicks, and keys to sign links with.
        slack: Slack's token and signing secret, from a secret.
        email: the address that mail is sent from.
        bedrock: models that may be asked, by id or ARN.
        bucket: a bucket for values that are too large for a checkpoint.
        invokes: functions that a handler invokes.
        policies: ARNs of policies for what the steps themselves do.
        secrets: ARNs of secrets that hold settings of the steps.
        settings: more environment variables, none of them secret.
        step_functions: whether runs report tasks of Step Functions.
        retention_days: how long an ended run's history is kept.
        memory: of each function, in MB.
        qualifier: the alias that is invoked.
        architecture: `x86_64` or `arm64`.
        code: the folder that holds the code, as the template finds it.
    """

    approvals: bool = True
    slack: bool = False
    email: str | None = None
    bedrock: tuple[str, ...] = ()
    bucket: bool = True
    invokes: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    step_functions: bool = False
    retention_days: int = 14
    memory: int = 1024
    qualifier: str = "live"
    architecture: str = "x86_64"
    code: str = "package"


def template(functions: Sequence[Function], options: Options) -> Resource:
    """Return the template of a stack with these functions."""
    resources: Resource = {}
    for function in functions:
        resources |= _durable(function, options)
    if options.approvals:
        resources |= _receiver(functions, options)
    if options.bucket:
        resources |= _bucket(functions, options.retention_days)
    if options.email:
        resources["EmailIdentity"] = _identity(options.email)
    parts = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Transform": "AWS::Serverless-2016-10-31",
        "Description": f"Durable functions: {', '.join(each.handler for each in functions)}"[:1024],
        "Parameters": _parameters(functions, options),
        "Conditions": _conditions(options),
        "Resources": resources,
        "Outputs": _outputs(functions, options),
    }
    return {name: part for name, part in parts.items() if part}


def _parameters(functions: Sequence[Function], options: Options) -> Resource:
    made: Resource = {
        each.parameter: {
            "Type": "String",
            "Default": each.name,
            "AllowedPattern": "^[A-Za-z0-9_-]{1,64}$",
            "Description": f"Name of the function that runs {each.handler}",
        }
        for each in functions
    }
    if options.approvals:
        made["BaseUrl"] = {
            "Type": "String",
            "Default": "",
            "AllowedPattern": "^(https://[^?#]+)?$",
            "Description": "Where people reach the receiver, if not at its function URL",
        }
    if options.slack:
        made[_SLACK] = {
            "Type": "String",
            "AllowedPattern": "^arn:[^:]+:(secretsmanager:[^:]+:[0-9]{12}:secret:.+|"
            "ssm:[^:]+:[0-9]{12}:parameter/.+)$",
            "Description": "ARN of a secret, or of a parameter of Systems Manager, that holds JSON "
            "with SLACK_BOT_TOKEN and SLACK_SIGNING_SECRET",
        }
    if options.email:
        made["MakeEmailIdentity"] = {
            "Type": "String",
            "Default": "true",
            "AllowedValues": ["true", "false"],
            "Description": "Set to false if the account has verified the address or its domain",
        }
    return made


def _conditions(options: Options) -> Resource:
    made: Resource = {}
    if options.approvals:
        made["HasBaseUrl"] = {"Fn::Not": [{"Fn::Equals": [Ref("BaseUrl"), ""]}]}
    if options.email:
        made["MakesEmailIdentity"] = {"Fn::Equals": [Ref("MakeEmailIdentity"), "true"]}
    return made


def _outputs(functions: Sequence[Function], options: Options) -> Resource:
    made: Resource = {
        f"{each.id}Function": {
            "Description": f"What to invoke, to run {each.handler}",
            "Value": Sub(f"${{{each.parameter}}}:{options.qualifier}"),
        }
        for each in functions
    }
    if options.approvals:
        made["ReceiverUrl"] = {
            "Description": "Where links lead; Slack's Interactivity URL is this, and "
            "slack/interactivity after it",
            "Value": GetAtt("ReceiverUrl.FunctionUrl"),
        }
    return made


def _durable(function: Function, options: Options) -> Resource:
    seconds = max(1, math.ceil(function.seconds))
    properties = {
        "FunctionName": Ref(function.parameter),
        "Handler": function.handler,
        **_code(options, options.memory),
        "Timeout": _INVOCATION,
        "DurableConfig": {
            "ExecutionTimeout": seconds,
            "RetentionPeriodInDays": options.retention_days,
        },
        "AutoPublishAlias": options.qualifier,
        "AutoPublishAliasAllProperties": True,
        "Role": GetAtt(f"{function.id}Role.Arn"),
        "LoggingConfig": {"LogGroup": Ref(f"{function.id}Logs")},
        **_environment(_settings(options)),
    }
    return {
        f"{function.id}Function": _resource("AWS::Serverless::Function", properties),
        f"{function.id}Role": _role(_permissions(function, options), options.policies),
        f"{function.id}Logs": _logs(options.retention_days),
    }


def _permissions(function: Function, options: Options) -> list[Statement]:
    stated = [
        permissions.logging_to(f"{function.id}Logs"),
        permissions.running(function.parameter, withdrawing=options.approvals),
    ]
    if options.bucket:
        stated.append(permissions.objects(_BUCKET, PREFIX, write=True))
    stated += _reading(options) + permissions.existing_secrets(options.secrets)
    if options.email:
        stated.append(permissions.mailing(options.email))
    for number, model in enumerate(options.bedrock, 1):
        stated += permissions.models(number, model)
    if options.invokes:
        stated.append(permissions.invoking(options.invokes))
    if options.step_functions:
        stated.append(permissions.telling_step_functions())
    return stated


def _settings(options: Options) -> Resource:
    made = _shared_settings(options, options.secrets) | dict(options.settings)
    if options.approvals:
        made["PERDURE_BASE_URL"] = If(
            "HasBaseUrl", Ref("BaseUrl"), GetAtt("ReceiverUrl.FunctionUrl")
        )
    if options.email:
        made |= {"PERDURE_EMAIL_FROM": options.email, "PERDURE_SES_REGION": Ref("AWS::Region")}
    return made


def _shared_settings(options: Options, more: Sequence[str] = ()) -> Resource:
    made: Resource = {}
    if options.bucket:
        made |= {"PERDURE_S3_BUCKET": Ref(_BUCKET), "PERDURE_S3_PREFIX": PREFIX}
    keys = [Ref(_KEYS)] if options.approvals else []
    slack = [Ref(_SLACK)] if options.slack else []
    arns: tuple[Any, ...] = (*keys, *slack, *more)
    if arns:
        made["PERDURE_SECRETS_ARN"] = arns[0] if len(arns) == 1 else Join(",", arns)
    return made


def _reading(options: Options) -> list[Statement]:
    """Return what it takes to read the secrets."""
    stated = [permissions.secret(Ref(_KEYS))] if options.approvals else []
    return [*stated, permissions.secret_or_parameter(Ref(_SLACK))] if options.slack else stated


def _receiver(functions: Sequence[Function], options: Options) -> Resource:
    stated = [
        permissions.logging_to("ReceiverLogs"),
        permissions.deciding(each.parameter for each in functions),
        *_reading(options),
    ]
    if options.bucket:
        stated.append(permissions.objects(_BUCKET, PREFIX, write=False))
    settings = _shared_settings(options)
    settings["PERDURE_BASE_URL"] = If("HasBaseUrl", Ref("BaseUrl"), Ref("AWS::NoValue"))
    properties = {
        "Handler": _RECEIVER,
        **_code(options, _RECEIVER_MEMORY),
        "Timeout": 30,
        "Role": GetAtt("ReceiverRole.Arn"),
        "LoggingConfig": {"LogGroup": Ref("ReceiverLogs")},
        **_environment(settings),
    }
    return {
        "Receiver": _resource("AWS::Serverless::Function", properties),
        "ReceiverRole": _role(stated),
        "ReceiverLogs": _logs(options.retention_days),
        "ReceiverUrl": _resource(
            "AWS::Lambda::Url",
            {"AuthType": "NONE", "TargetFunctionArn": GetAtt("Receiver.Arn")},
        ),
        **_public("Receiver"),
        _KEYS: _keys(),
    }


def _public(function: str) -> Resource:
    """Let everybody ask the URL of a function: both are needed, and nothing but the URL is open."""
    shared = {"FunctionName": Ref(function), "Principal": "*"}
    return {
        f"{function}UrlIsPublic": _resource(
            "AWS::Lambda::Permission",
            {"Action": "lambda:InvokeFunctionUrl", "FunctionUrlAuthType": "NONE", **shared},
        ),
        f"{function}IsInvokedByUrl": _resource(
            "AWS::Lambda::Permission",
            {"Action": "lambda:InvokeFunction", "InvokedViaFunctionUrl": True, **shared},
        ),
    }


def _keys() -> Resource:
    """Return the key that links are signed with: 64 random letters and digits."""
    properties = {
        "Description": "Keys that sign the links of approvals, the newest last",
        "GenerateSecretString": {
            "SecretStringTemplate": "{}",
            "GenerateStringKey": "PERDURE_APPROVAL_KEYS",
            "PasswordLength": 64,
            "ExcludePunctuation": True,
        },
    }
    # A key that is replaced is kept: with it, the links that are out can be made to work again.
    return _resource("AWS::SecretsManager::Secret", properties, ends="Delete", replaced="Retain")


def _bucket(functions: Sequence[Function], retention: int) -> Resource:
    """Return a private bucket that keeps a value for longer than any run can ask for it."""
    days = math.ceil(max(each.seconds for each in functions) / _DAY) + retention + 1
    # CloudFormation cannot delete a bucket that holds anything.
    bucket = _resource(
        "AWS::S3::Bucket",
        {
            "BucketEncryption": {
                "ServerSideEncryptionConfiguration": [
                    {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
                ]
            },
            "PublicAccessBlockConfiguration": {
                "BlockPublicAcls": True,
                "BlockPublicPolicy": True,
                "IgnorePublicAcls": True,
                "RestrictPublicBuckets": True,
            },
            "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
            "LifecycleConfiguration": {
                "Rules": [
                    {"Id": "AfterTheRun", "Status": "Enabled", "ExpirationInDays": days},
                ]
            },
        },
        ends="Retain",
    )
    return {_BUCKET: bucket}


def _identity(address: str) -> Resource:
    made = _resource("AWS::SES::EmailIdentity", {"EmailIdentity": address})
    return {**made, "Condition": "MakesEmailIdentity"}


def _role(statements: list[Statement], policies: Sequence[str] = ()) -> Resource:
    properties: Resource = {
        "AssumeRolePolicyDocument": _document(
            {
                "Effect": "Allow",
                "Principal": {"Service": "lambda.amazonaws.com"},
                "Action": "sts:AssumeRole",
            }
        ),
        "Policies": [{"PolicyName": "perdure", "PolicyDocument": _document(*statements)}],
    }
    if policies:
        properties["ManagedPolicyArns"] = list(policies)
    return _resource("AWS::IAM::Role", properties)


def _document(*statements: Statement) -> Resource:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _logs(retention: int) -> Resource:
    days = next(days for days in _LOG_DAYS if days >= retention)
    return _resource("AWS::Logs::LogGroup", {"RetentionInDays": days}, ends="Delete")


def _code(options: Options, memory: int) -> Resource:
    return {
        "Runtime": _RUNTIME,
        "Architectures": [options.architecture],
        "CodeUri": options.code,
        "MemorySize": memory,
    }


def _environment(variables: Resource) -> Resource:
    return {"Environment": {"Variables": variables}} if variables else {}


def _resource(
    kind: str, properties: Resource, ends: str | None = None, replaced: str | None = None
) -> Resource:
    """Return a resource, and what becomes of it with the stack, or when it is replaced."""
    kept = {"DeletionPolicy": ends, "UpdateReplacePolicy": replaced or ends} if ends else {}
    return {"Type": kind, **kept, "Properties": properties}
