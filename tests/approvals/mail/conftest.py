"""A mail server, and Amazon SES, for the tests of mail."""

from __future__ import annotations

import os

import pytest

from . import moto_server, smtp_server
from .tray import Tray


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith("PERDURE_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def server(tmp_path):
    """A mail server that wants STARTTLS and a user."""
    with smtp_server.serving(tmp_path) as running:
        yield running


@pytest.fixture(scope="session")
def _moto():
    with moto_server.serving() as running:
        yield running


@pytest.fixture
def moto(_moto, monkeypatch):
    """Amazon SES with nothing verified and nothing sent."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "canary-access-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret-key")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    _moto.reset()
    return _moto


@pytest.fixture
def tray() -> Tray:
    """Where the mails of a test lie."""
    return Tray()
