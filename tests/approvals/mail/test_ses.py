"""Over Amazon SES: one request, raw MIME, nothing tracked, and errors that say what to mend."""

from __future__ import annotations

import logging
import socket
import threading
from contextlib import contextmanager
from urllib.parse import unquote

import pytest

from perdure.approvals.errors import ChannelError
from perdure.approvals.mail import Email, Ses

from .asked import ID, notice, request, tokens_in
from .moto_server import REGION
from .smtp_server import HOST, body, free_port, read

SENDER = "approvals@example.org"


@pytest.fixture
def ses(moto) -> Ses:
    """A service that knows the sender."""
    transport = moto.ses()
    transport.client().create_email_identity(EmailIdentity=SENDER)
    return transport


def sent_by(transport: Ses) -> list[dict]:
    """Return a list that fills with the requests to send, as JSON text, from now on."""
    seen: list[dict] = []
    events = transport.client().meta.events
    events.register("before-send.sesv2.SendEmail", lambda request, **_: seen.append(request))
    return seen


def test_a_mail_arrives_whole_with_text_and_html_and_one_recipient(moto, ses, office):
    sent = notice(office, request())
    Email(SENDER, ses).send(sent)
    (mail,) = moto.raw_mails()
    assert mail["source"] == SENDER
    assert set(mail["destinations"]) == {"alice@example.org"}  # moto adds those of the header
    message = read(mail["raw_data"].encode())
    assert message["To"] == "alice@example.org"
    assert message["Message-ID"].startswith(f"<{ID}.1@")
    for kind in ("plain", "html"):
        assert tokens_in(body(message, kind)) == {sent.token()}


def test_links_and_opens_are_not_tracked_and_the_mail_can_be_found_by_its_approval(ses, office):
    seen = sent_by(ses)
    Email(SENDER, ses).send(notice(office, request()))
    (asked,) = seen
    text = asked.body.decode()
    assert '"ClickTrackingEnabled": "DISABLED"' in text
    assert '"OpenTrackingEnabled": "DISABLED"' in text
    assert f'"Name": "approval", "Value": "{ID}"' in text
    assert "v1~" not in unquote(asked.url)


def test_the_links_say_themselves_that_they_are_not_to_be_tracked(moto, ses, office):
    Email(SENDER, ses).send(notice(office, request()))
    html = body(read(moto.raw_mails()[0]["raw_data"].encode()), "html")
    assert html.count("<a ") == html.count("ses:no-track") == 1


def test_an_older_model_of_the_service_is_not_asked_for_what_it_does_not_know(moto, ses, office):
    shape = ses.client().meta.service_model.operation_model("SendEmail").input_shape
    del shape.members["ConfigurationOverrides"]
    seen = sent_by(ses)
    Email(SENDER, ses).send(notice(office, request()))
    assert "ConfigurationOverrides" not in seen[0].body.decode()
    assert len(moto.raw_mails()) == 1


def test_a_configuration_set_is_named(moto, office):
    transport = moto.ses(configuration_set="approvals")
    transport.client().create_email_identity(EmailIdentity=SENDER)
    seen = sent_by(transport)
    Email(SENDER, transport).send(notice(office, request()))
    assert '"ConfigurationSetName": "approvals"' in seen[0].body.decode()


def test_a_sender_that_is_not_verified_is_final_and_says_what_to_do(moto, office):
    with pytest.raises(ChannelError, match="MessageRejected.*verify the sender") as caught:
        Email(SENDER, moto.ses()).send(notice(office, request()))
    assert caught.value.final
    assert moto.raw_mails() == []


@contextmanager
def answering(status: str, code: str, message: str):
    """Run a server that gives every request one answer; yields its URL and what it saw."""
    text = f'{{"message": "{message}"}}'
    answer = (
        f"HTTP/1.1 {status}\r\nx-amzn-ErrorType: {code}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n{text}"
    )
    seen: list[int] = []

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                seen.append(1)
                _read(client)
                if status:
                    client.sendall(answer.encode())

    with socket.create_server((HOST, 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield f"http://{HOST}:{listener.getsockname()[1]}", seen
        finally:
            listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def _read(client: socket.socket) -> None:
    """Read one request to its end."""
    head = b""
    while b"\r\n\r\n" not in head:
        head += client.recv(65536)
    head, _, rest = head.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length")
    )
    while len(rest) < length:
        rest += client.recv(65536)


@pytest.mark.parametrize(
    ("status", "code", "final"),
    [
        ("429 Too Many", "TooManyRequestsException", False),
        ("400 Bad", "LimitExceededException", False),
        ("500 Error", "InternalFailure", False),
        ("503 Busy", "ServiceUnavailable", False),
        ("", "the connection is closed without an answer", False),
        ("400 Bad", "MessageRejected", True),
        ("400 Bad", "AccountSuspendedException", True),
        ("400 Bad", "SendingPausedException", True),
        ("400 Bad", "MailFromDomainNotVerifiedException", True),
        ("404 Not Found", "NotFoundException", True),
        ("403 No", "AccessDeniedException", True),
        ("403 No", "InvalidClientTokenId", True),
    ],
)
def test_each_failure_is_one_request_and_is_passing_or_final(moto, office, status, code, final):
    said = "about canary-access-key in Authorization"
    with answering(status, code, said) as (url, seen):
        email = Email(SENDER, Ses(REGION, url))
        with pytest.raises(ChannelError) as caught:
            email.send(notice(office, request()))
    assert caught.value.final == final
    assert len(seen) == 1
    if "No" in status and "Not" not in status:
        assert "canary" not in str(caught.value)


def test_a_service_that_repeats_the_link_is_not_quoted(moto, office):
    sent = notice(office, request())
    said = f"bad link {sent.link()}"
    with (
        answering("400 Bad", "MessageRejected", said) as (url, _),
        pytest.raises(ChannelError, match="bad link") as caught,
    ):
        Email(SENDER, Ses(REGION, url)).send(sent)
    assert sent.token()[:20] not in str(caught.value)


def test_nobody_at_the_address_may_be_tried_again(moto, office):
    with pytest.raises(ChannelError, match="EndpointConnectionError") as caught:
        Email(SENDER, Ses(REGION, f"http://{HOST}:{free_port()}")).send(notice(office, request()))
    assert not caught.value.final


def test_no_credentials_and_no_region_are_final_and_say_what_to_give(moto, office, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(ChannelError, match="credentials") as caught:
        Email(SENDER, moto.ses()).send(notice(office, request()))
    assert caught.value.final
    with pytest.raises(ChannelError, match="AWS_REGION") as caught:
        Email(SENDER, Ses()).send(notice(office, request()))
    assert caught.value.final


def test_an_address_that_is_none_is_final(moto, office):
    with pytest.raises(ChannelError) as caught:
        Email(SENDER, Ses(REGION, "no address")).send(notice(office, request()))
    assert caught.value.final


def test_nothing_of_a_delivery_is_logged(moto, ses, office, caplog, capfd):
    caplog.set_level(logging.INFO)
    sent = notice(office, request())
    Email(SENDER, ses).send(sent)
    seen = caplog.text + "".join(capfd.readouterr())
    assert sent.token()[:20] not in seen
    assert "canary" not in seen
