"""Settings from secrets: read once, before all else, from moto's Secrets Manager and SSM."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from perdure.durable import UsageError, durable_execution
from perdure.durable.aws.secrets import forget_secrets, take_secrets

from ...waiting import until
from .stage import CREDENTIALS

CANARY = "canary-of-a-secret"


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"

    def up() -> bool:
        try:
            urllib.request.urlopen(f"{url}/moto-api/data.json", timeout=5).close()
        except OSError:
            return False
        return True

    until(up, "moto's server", 60)
    yield url
    process.terminate()
    process.wait(10)


@pytest.fixture
def aws_at(moto: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """This process as a sandbox that has moto for AWS."""
    import boto3

    for name, text in (CREDENTIALS | {"AWS_ENDPOINT_URL": moto}).items():
        monkeypatch.setenv(name, text)
    forget_secrets()
    yield boto3
    forget_secrets()


def secret(boto3: Any, name: str, held: Any) -> str:
    text = held if isinstance(held, str) else json.dumps(held)
    return str(boto3.client("secretsmanager").create_secret(Name=name, SecretString=text)["ARN"])


def test_the_keys_of_secrets_become_variables(aws_at: Any) -> None:
    first = secret(aws_at, "first", {"A_TOKEN": "t", "KEPT": "other"})
    second = secret(aws_at, "second", {"B_TOKEN": "u"})
    environment = {"PERDURE_SECRETS_ARN": f"{first}, {second}", "KEPT": "as it was"}

    take_secrets(environment)

    assert (environment["A_TOKEN"], environment["B_TOKEN"]) == ("t", "u")
    assert environment["KEPT"] == "as it was"


def test_a_parameter_of_systems_manager_is_one_too(aws_at: Any) -> None:
    ssm = aws_at.client("ssm")
    ssm.put_parameter(Name="/perdure/keys", Value='{"C_TOKEN": "v"}', Type="SecureString")
    arn = ssm.get_parameter(Name="/perdure/keys")["Parameter"]["ARN"]
    environment = {"PERDURE_SECRETS_ARN": arn}

    take_secrets(environment)

    assert environment["C_TOKEN"] == "v"


def test_a_secret_is_read_once(aws_at: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    arn = secret(aws_at, "once", {"D_TOKEN": "w"})
    take_secrets({"PERDURE_SECRETS_ARN": arn})
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")

    take_secrets({"PERDURE_SECRETS_ARN": arn})


@pytest.mark.parametrize(
    "held", [CANARY, f'["{CANARY}"]', {"N": {"x": CANARY}}, {"A=B": CANARY}, {"N": f"{CANARY}\0"}]
)
def test_what_is_no_object_of_texts_is_refused_without_its_value(aws_at: Any, held: Any) -> None:
    arn = secret(aws_at, f"bad-{id(held)}", held)

    with pytest.raises(UsageError, match=arn) as caught:
        take_secrets({"PERDURE_SECRETS_ARN": arn})

    assert CANARY not in str(caught.value)


def test_a_secret_that_is_not_there_is_named_with_the_cure(aws_at: Any) -> None:
    arn = "arn:aws:secretsmanager:us-west-2:123456789012:secret:none-AbCdEf"

    with pytest.raises(UsageError, match="ResourceNotFoundException") as caught:
        take_secrets({"PERDURE_SECRETS_ARN": arn})

    assert "secretsmanager:GetSecretValue" in str(caught.value)


def test_an_invocation_takes_them_before_the_handler_runs(
    aws_at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    @durable_execution(name="reads")
    def reads(event: Any, context: Any) -> Any:
        return os.environ["E_TOKEN"]

    monkeypatch.setenv("PERDURE_SECRETS_ARN", secret(aws_at, "invoked", {"E_TOKEN": "x"}))
    monkeypatch.setenv("E_TOKEN", "")
    monkeypatch.delenv("E_TOKEN")
    execution = {
        "Id": "run-1",
        "Type": "EXECUTION",
        "Status": "STARTED",
        "StartTimestamp": 1,
        "ExecutionDetails": {"InputPayload": "null"},
    }
    event = {
        "DurableExecutionArn": "arn/run-1",
        "CheckpointToken": "t",
        "InitialExecutionState": {"Operations": [execution], "NextMarker": ""},
    }

    assert reads(event, None) == {"Status": "SUCCEEDED", "Result": '"x"'}


def test_an_invocation_whose_secret_cannot_be_read_is_made_again(
    aws_at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    @durable_execution(name="never-runs")
    def never_runs(event: Any, context: Any) -> Any:
        raise AssertionError

    arn = "arn:aws:secretsmanager:us-west-2:123456789012:secret:none-AbCdEf"
    monkeypatch.setenv("PERDURE_SECRETS_ARN", arn)

    with pytest.raises(UsageError, match="could not be read"):
        never_runs({"DurableExecutionArn": "arn/run-1"}, None)
