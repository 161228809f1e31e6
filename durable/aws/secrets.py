"""Settings that nobody is to read in a function's configuration: taken from secrets at its start.

`PERDURE_SECRETS_ARN` names one or more of them, separated by commas: in Secrets Manager, or
parameters of Systems Manager. Each is a JSON object of texts, and becomes environment variables of
this process, once, before anything else is read. What the environment has already stays.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import MutableMapping
from typing import Any

from ..errors import UsageError
from .refusals import code_of

VARIABLE = "PERDURE_SECRETS_ARN"
_lock = threading.Lock()
_taken: set[str] = set()


def take_secrets(environment: MutableMapping[str, str] | None = None) -> None:
    """Put what the named secrets hold into the environment, unless that was done before.

    Raises:
        UsageError: one cannot be read, or is no object of texts; no value is in the text.
    """
    into = os.environ if environment is None else environment
    named = into.get(VARIABLE, "").split(",")
    with _lock:
        for arn in (each.strip() for each in named):
            if arn and arn not in _taken:
                for name, text in _texts(arn).items():
                    into.setdefault(name, text)
                _taken.add(arn)


def forget_secrets() -> None:
    """Have the secrets read again; what they have put into the environment stays there."""
    with _lock:
        _taken.clear()


def _texts(arn: str) -> dict[str, str]:
    try:
        held = json.loads(_read(arn))
    except ValueError:
        held = None
    if not isinstance(held, dict):
        raise UsageError(f"the secret {arn} is no JSON object of texts")
    for name, text in held.items():
        if not isinstance(text, str) or not name or "=" in name or "\0" in name + text:
            raise UsageError(f"in the secret {arn}, {name!r} is no text that a variable can hold")
    return held


def _read(arn: str) -> str:
    """Return what a secret holds.

    Raises:
        UsageError: it cannot be read.
    """
    import boto3  # type: ignore[import-untyped]

    try:
        if ":ssm:" in arn:
            name = arn.partition(":parameter")[2]
            answer: Any = (
                boto3.Session().client("ssm").get_parameter(Name=name, WithDecryption=True)
            )
            return str(answer["Parameter"]["Value"])
        answer = boto3.Session().client("secretsmanager").get_secret_value(SecretId=arn)
        return str(answer.get("SecretString", ""))
    except Exception as error:
        told = code_of(error) or type(error).__name__
        raise UsageError(
            f"the secret {arn} of {VARIABLE} could not be read: {told}. The function's role needs "
            "secretsmanager:GetSecretValue or ssm:GetParameter for it"
        ) from None
