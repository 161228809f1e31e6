"""Over SMTP: what is delivered, what is tried again, and that no password is ever given away."""

from __future__ import annotations

import logging
import socket
import threading

import pytest

from perdure.approvals.errors import ChannelError
from perdure.approvals.mail import Email, Smtp
from perdure.durable import UsageError

from .asked import notice, request, tokens_in
from .smtp_server import HOST, PASSWORD, USER, body, free_port, serving

SENDER = "approvals@example.org"
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not:UserWarning")


def failure(email: Email, office) -> ChannelError:
    """Return the error of a request that cannot be sent; it names no secret."""
    with pytest.raises(ChannelError) as caught:
        email.send(notice(office, request()))
    error: BaseException | None = caught.value
    while error is not None:
        assert PASSWORD not in str(error)
        assert "v1~" not in str(error)
        error = None if error.__suppress_context__ else error.__context__
    return caught.value


def test_a_mail_goes_encrypted_and_signed_in_to_one_recipient(server, office):
    Email(SENDER, server.smtp()).send(notice(office, request()))
    assert server.desk.to == [["alice@example.org"]]
    assert server.desk.encrypted == [True]
    assert server.desk.passwords == [PASSWORD.encode()]


def test_tls_from_the_start_works_too(tmp_path, office):
    with serving(tmp_path, tls="tls") as server:
        Email(SENDER, server.smtp(tls="tls")).send(notice(office, request()))
        assert len(server.desk.mails) == 1


def test_a_server_that_wants_no_user_and_offers_no_tls_is_used_when_asked_for(tmp_path, office):
    with serving(tmp_path, tls="none", auth=False) as server:
        plain = Smtp(HOST, server.port, tls="none")
        Email(SENDER, plain).send(notice(office, request()))
        assert len(server.desk.mails) == 1


def test_a_temporary_refusal_may_be_tried_again_and_then_delivers_once(server, office):
    server.desk.answers = ["451 try later"]
    email = Email(SENDER, server.smtp())
    error = failure(email, office)
    assert not error.final
    assert "451" in str(error)
    assert "try later" in str(error)
    email.send(notice(office, request(), attempt=2))
    assert (server.desk.offered, len(server.desk.mails)) == (2, 1)


def test_a_permanent_refusal_is_final(server, office):
    server.desk.answers = ["554 no such sender"]
    error = failure(Email(SENDER, server.smtp()), office)
    assert error.final
    assert "554" in str(error)
    assert "no such sender" in str(error)


@pytest.mark.parametrize("goodbye", ["", "500 what", "421 too long"])
def test_a_goodbye_that_fails_does_not_send_the_mail_again(server, office, goodbye):
    server.desk.goodbye = goodbye
    Email(SENDER, server.smtp()).send(notice(office, request()))
    assert server.desk.offered == 1


def test_a_connection_lost_on_the_way_may_be_tried_again(server, office):
    server.desk.answers = ["drop"]
    error = failure(Email(SENDER, server.smtp()), office)
    assert not error.final
    assert "closed the connection" in str(error)


def test_a_certificate_nobody_vouches_for_stops_it_before_the_password(server, office):
    error = failure(Email(SENDER, server.smtp(ca_file=None)), office)
    assert error.final
    assert "certificate that is not trusted" in str(error)
    assert "ca_file" in str(error)
    assert server.desk.passwords == []
    assert server.desk.offered == 0


def test_a_certificate_for_another_name_stops_it_before_the_password(tmp_path, office):
    with serving(tmp_path, names=("mail.example.org",)) as server:
        error = failure(Email(SENDER, server.smtp()), office)
        assert error.final
        assert "127.0.0.1" in str(error)
        assert server.desk.passwords == []


def test_an_untrusted_certificate_stops_tls_from_the_start_too(tmp_path, office):
    with serving(tmp_path, tls="tls") as server:
        error = failure(Email(SENDER, server.smtp(tls="tls", ca_file=None)), office)
        assert error.final
        assert server.desk.passwords == []


def test_a_wrong_password_is_final_and_not_shown(server, office):
    wrong = server.smtp(password=f"{PASSWORD}x")
    error = failure(Email(SENDER, wrong), office)
    assert error.final
    assert "535" in str(error)
    assert "PERDURE_SMTP_PASSWORD" in str(error)


def test_a_password_that_smtp_cannot_carry_is_refused_without_showing_it(server, office):
    error = failure(Email(SENDER, server.smtp(password="pässwörd")), office)
    assert error.final
    assert "ASCII" in str(error)
    assert "ss" not in str(error).replace("password", "")


@pytest.mark.parametrize("user", [USER, None])
def test_without_starttls_neither_password_nor_mail_is_sent(tmp_path, office, user):
    with serving(tmp_path, tls="none") as server:
        smtp = server.smtp(user=user, password=PASSWORD if user else None)
        error = failure(Email(SENDER, smtp), office)
        assert error.final
        assert "STARTTLS" in str(error)
        assert server.desk.passwords == []
        assert server.desk.offered == 0


def test_a_server_that_wants_a_user_says_so(server, office):
    error = failure(Email(SENDER, server.smtp(user=None, password=None)), office)
    assert error.final
    assert "user" in str(error)


def test_a_server_that_takes_no_user_says_so(server, office):
    server.desk.offers_auth = False
    error = failure(Email(SENDER, server.smtp()), office)
    assert error.final
    assert "takes no user" in str(error)


def test_a_server_whose_ways_to_sign_in_are_unknown_says_so(tmp_path, office):
    with serving(tmp_path, auth=False) as server:
        error = failure(Email(SENDER, server.smtp()), office)
    assert error.final
    assert "no way to sign in" in str(error)


def test_a_refused_recipient_is_an_error_and_the_other_still_gets_a_mail(server, office):
    server.desk.refused = {"alice@example.org": "550 5.1.1 no such mailbox"}
    asked = request(approvers=["alice@example.org", "carol@example.org"])
    email = Email(SENDER, server.smtp())
    alice, carol = (notice(office, asked, to=(each,)) for each in asked.policy.approvers)
    with pytest.raises(ChannelError, match="refused the recipient alice.*no such mailbox") as found:
        email.send(alice)
    assert found.value.final
    email.send(carol)
    assert server.desk.to == [["carol@example.org"]]


def test_a_mailbox_that_is_full_for_now_is_tried_again(server, office):
    server.desk.refused = {"alice@example.org": "452 4.2.2 mailbox full"}
    assert not failure(Email(SENDER, server.smtp()), office).final


def test_a_server_that_repeats_the_link_or_the_password_is_not_quoted(server, office):
    sent = notice(office, request())
    server.desk.answers = [f"554 bad link {sent.link()}", f"554 {PASSWORD} is no mail"]
    email = Email(SENDER, server.smtp())
    for _ in range(2):
        with pytest.raises(ChannelError, match="554") as caught:
            email.send(sent)
        assert sent.token()[:20] not in str(caught.value)
        assert PASSWORD not in str(caught.value)


def test_nobody_at_the_port_may_be_tried_again_and_names_what_to_check(office):
    smtp = Smtp(HOST, free_port(), user=USER, password=PASSWORD)
    error = failure(Email(SENDER, smtp), office)
    assert not error.final
    assert "ConnectionRefusedError" in str(error)


def test_a_server_that_never_answers_is_given_up(office):
    with socket.create_server((HOST, 0)) as silent:
        port = silent.getsockname()[1]
        error = failure(Email(SENDER, Smtp(HOST, port, timeout=0.2)), office)
    assert not error.final
    assert "stopped answering" in str(error)


def test_tls_from_the_start_on_a_starttls_port_says_which_port_goes_with_what(server, office):
    error = failure(Email(SENDER, server.smtp(tls="tls")), office)
    assert error.final
    assert 'port 465 with tls="tls"' in str(error)


def test_a_missing_ca_file_is_named(server, office):
    error = failure(Email(SENDER, server.smtp(ca_file="/nowhere/ca.pem")), office)
    assert error.final
    assert "/nowhere/ca.pem" in str(error)


def test_a_server_that_breaks_off_while_encrypting_may_be_tried_again(office):
    def answer(listener: socket.socket) -> None:
        client, _ = listener.accept()
        with client:
            client.sendall(b"220 hello\r\n")
            client.recv(1000)
            client.sendall(b"250-me\r\n250 STARTTLS\r\n")
            client.recv(1000)
            client.sendall(b"220 go\r\n")

    with socket.create_server((HOST, 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        smtp = Smtp(HOST, listener.getsockname()[1], timeout=5)
        error = failure(Email(SENDER, smtp), office)
        thread.join()
    assert not error.final


def test_nothing_of_a_delivery_is_logged(server, office, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    sent = notice(office, request())
    Email(SENDER, server.smtp()).send(sent)
    server.desk.answers = ["451 later"]
    with pytest.raises(ChannelError):
        Email(SENDER, server.smtp()).send(sent)
    ours = [each.getMessage() for each in caplog.records if each.name.startswith("perdure")]
    seen = "\n".join([*ours, *capfd.readouterr()])
    assert PASSWORD not in seen
    assert sent.token()[:20] not in seen
    assert tokens_in(body(server.desk.messages[0], "plain")) == {sent.token()}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"tls": "none", "user": USER, "password": PASSWORD}, "never sent without TLS"),
        ({"user": USER}, "PERDURE_SMTP_PASSWORD"),
        ({"password": PASSWORD}, "without user"),
        ({"tls": "ssl"}, "starttls"),
        ({"port": 0}, "port"),
        ({"timeout": 0}, "timeout"),
        ({"host": ""}, "host"),
        ({"host": "a\r\nb"}, "host"),
    ],
)
def test_what_cannot_work_is_refused_at_once_by_name(arguments, why, monkeypatch):
    monkeypatch.delenv("PERDURE_SMTP_PASSWORD", raising=False)
    with pytest.raises(UsageError, match=why) as caught:
        Smtp(**{"host": HOST, **arguments})
    assert PASSWORD not in str(caught.value)


def test_a_password_stands_in_no_repr_and_no_spec():
    smtp = Smtp(HOST, user=USER, password=PASSWORD)
    assert PASSWORD not in repr(smtp)
    assert PASSWORD not in repr(Email(SENDER, smtp))
    assert PASSWORD not in str(Email(SENDER, smtp).spec())


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://mail.example.org", Smtp("mail.example.org")),
        (
            "smtp://alice%40example.org:p%2Fw%40@mail.example.org:2525",
            Smtp("mail.example.org", 2525, "alice@example.org", "p/w@"),
        ),
        ("smtps://a:b@mail.example.org", Smtp("mail.example.org", 465, "a", "b", "tls")),
        ("smtp://127.0.0.1:1025?tls=none", Smtp("127.0.0.1", 1025, tls="none")),
        (
            "smtp://mail.example.org?ca_file=/etc/ca.pem&timeout=3",
            Smtp("mail.example.org", ca_file="/etc/ca.pem", timeout=3),
        ),
    ],
)
def test_an_address_names_a_server(url, expected):
    assert Smtp.from_url(url) == expected


def test_the_password_of_an_address_may_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("PERDURE_SMTP_PASSWORD", PASSWORD)
    assert Smtp.from_url("smtp://alice@mail.example.org").password == PASSWORD


@pytest.mark.parametrize(
    "url",
    [
        "http://alice:hush@mail.example.org",
        "smtp://alice:hush@mail.example.org:port",
        "smtp://alice:hush@",
        "smtp://alice:hush@mail.example.org?tls=none",
        "smtp://alice:hush@mail.example.org?tls=maybe",
        "smtp://alice:hush@mail.example.org?speed=high",
        "smtp://alice:hush@mail.example.org?timeout=hush",
        "smtp://alice:hush@mail.example.org/hush",
        "smtp://alice:hush@[::1",
        "hush",
    ],
)
def test_a_bad_address_is_refused_without_showing_its_password(url):
    with pytest.raises(UsageError) as caught:
        Smtp.from_url(url)
    assert "hush" not in str(caught.value)
