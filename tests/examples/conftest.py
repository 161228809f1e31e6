"""The document pipeline's AWS: moto's server, Bedrock and Textract, with their settings."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from ..approvals.mail import moto_server
from ..approvals.mail.moto_server import Moto
from .document_stage import ALICE, MODEL, Bedrock, Reader, Stage, Textract, module

KEY = "a-key-for-tests-of-at-least-32-bytes"


@pytest.fixture(scope="session")
def moto_process() -> Iterator[Moto]:
    with moto_server.serving() as running:
        yield running


@pytest.fixture(scope="session")
def bedrock_server() -> Iterator[Bedrock]:
    # One for all: a model of a name keeps its client, and with it the address, in a process.
    bedrock = Bedrock()
    with bedrock.server:
        yield bedrock


@pytest.fixture
def bedrock(bedrock_server: Bedrock) -> Bedrock:
    bedrock_server.reader = Reader()
    bedrock_server.since = bedrock_server.server.count
    return bedrock_server


@pytest.fixture
def stage(moto_process: Moto, bedrock: Bedrock, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """AWS with a bucket, what is known of two parties, and a sender of mail."""
    for name in [each for each in os.environ if each.startswith(("PERDURE_", "DOCUMENTS_"))]:
        monkeypatch.delenv(name)
    moto_process.reset()
    demo = module("demo")
    settings = {
        "AWS_ENDPOINT_URL": moto_process.url,
        "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": bedrock.server.url,
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_DEFAULT_REGION": "us-west-2",
        "AWS_REGION": "us-west-2",
        "DOCUMENTS_MODEL": MODEL,
        "DOCUMENTS_TABLE": demo.TABLE,
        "DOCUMENTS_APPROVERS": ALICE,
        "DOCUMENTS_VIA": "email",
        "PERDURE_EMAIL_FROM": demo.SENDER,
        "PERDURE_SES_REGION": "us-west-2",
        "PERDURE_APPROVAL_KEYS": KEY,
        "PERDURE_BASE_URL": "https://approvals.example.org",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    module("services").client.cache_clear()
    demo.prepare()
    return Stage(moto_process)


@pytest.fixture
def textract(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Textract]:
    server = Textract()
    monkeypatch.setenv("AWS_ENDPOINT_URL_TEXTRACT", server.url)
    module("services").client.cache_clear()
    yield server
    server.close()
