"""Mail over SMTP. A password travels over TLS, to a host that proves its name, or not at all.

Each delivery is one connection and one attempt. What the server said decides what is next: its 4xx
and a lost connection may pass, everything else is final until somebody mends it.
"""

from __future__ import annotations

import base64
import os
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from perdure.durable.errors import UsageError

from ..errors import ChannelError
from .post import Post, quoted

if TYPE_CHECKING:
    import smtplib

Tls = Literal["starttls", "tls", "none"]
PASSWORD = "PERDURE_SMTP_PASSWORD"
URL = "PERDURE_SMTP_URL"
_SHAPE = "smtp://user@mail.example.org:587, or smtps:// for port 465"
_PORTS: dict[Tls, int] = {"starttls": 587, "tls": 465, "none": 25}


@dataclass(frozen=True)
class Smtp:
    """A mail server.

    Args:
        user: to sign in as; None where the server takes mail from this machine without.
        password: by default that of PERDURE_SMTP_PASSWORD.
        tls: "starttls" (usual on port 587), "tls" (465), or "none": then mail and link travel in
            the clear, and no user is allowed.
        ca_file: certificates to trust, in PEM, in place of the system's.
        timeout: seconds to wait for each answer.
    """

    host: str
    port: int = 587
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: Tls = "starttls"
    ca_file: str | None = None
    timeout: float = 10

    def __post_init__(self) -> None:
        self._check()
        if self.user is not None and self.password is None:
            object.__setattr__(self, "password", os.environ.get(PASSWORD))
        if (self.user is None) != (self.password is None):
            raise UsageError(
                f"Smtp: user and password go together; set {PASSWORD} or give password="
                if self.user is not None
                else "Smtp: a password without user; give user="
            )

    def _check(self) -> None:
        if not self.host or not self.host.isprintable() or " " in self.host:
            raise UsageError("Smtp: host is the name of a mail server, like mail.example.org")
        if not 0 < self.port < 65536:
            raise UsageError(f"Smtp: port is between 1 and 65535, not {self.port}")
        if self.tls not in get_args(Tls):
            raise UsageError(f'Smtp: tls is "starttls", "tls" or "none", not {self.tls!r}')
        if self.tls == "none" and self.user is not None:
            raise UsageError(
                'Smtp: a password is never sent without TLS; use tls="starttls" or tls="tls", or '
                "no user"
            )
        if self.timeout <= 0:
            raise UsageError(f"Smtp: timeout is more than 0 seconds, not {self.timeout}")

    @classmethod
    def from_url(cls, url: str) -> Smtp:
        """Return the server of an address such as `smtp://user@mail.example.org:587`.

        The password stands in it, percent-encoded, or in PERDURE_SMTP_PASSWORD. `smtps://` is TLS
        from the start; `?tls=none` no TLS; `?ca_file=` and `?timeout=` as of the class.

        Raises:
            UsageError: it is none; the text does not show it, for it may hold a password.
        """
        parts, port = _parts(url)
        options = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        tls: Any = options.pop("tls", "tls" if parts.scheme == "smtps" else "starttls")
        ca_file, timeout = options.pop("ca_file", None), options.pop("timeout", "10")
        if options or tls not in _PORTS or not timeout.replace(".", "", 1).isdigit():
            raise UsageError(
                f"an SMTP address ({_SHAPE}) takes ?tls=starttls|tls|none, ?ca_file= and ?timeout="
            )
        return cls(
            host=parts.hostname or "",
            port=port or _PORTS[tls],
            user=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            tls=tls,
            ca_file=ca_file,
            timeout=float(timeout),
        )

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> Smtp:
        """Return the server of a spec; its password comes from the environment.

        Raises:
            UsageError: the environment has no password for it.
        """
        given = os.environ.get(URL)
        here = cls.from_url(given) if given else None
        return here if here is not None and here.spec() == spec else cls(**spec)

    def spec(self) -> dict[str, Any]:
        """Return what builds this server again, without the password."""
        names = ("host", "port", "user", "tls", "ca_file", "timeout")
        return {name: getattr(self, name) for name in names}

    def deliver(self, post: Post) -> None:
        """Hand a mail to the server.

        Raises:
            ChannelError: it did not take it, or could not be reached.
        """
        import smtplib

        try:
            server = self._connected()
            try:
                self._enter(server)
                refused = server.sendmail(post.sender, [post.to], post.data)
                # It is taken by now: a goodbye that fails must not send it again.
                with suppress(OSError):
                    server.quit()
            finally:
                server.close()
        except smtplib.SMTPException as error:
            raise self._answered(error, post) from None
        except OSError as error:
            raise self._unreached(error) from None
        if refused:
            raise self._refused(refused, post)

    def _connected(self) -> smtplib.SMTP:
        import smtplib

        if self.tls == "tls":
            return smtplib.SMTP_SSL(
                self.host, self.port, timeout=self.timeout, context=self._trust()
            )
        return smtplib.SMTP(self.host, self.port, timeout=self.timeout)

    def _enter(self, server: smtplib.SMTP) -> None:
        """Encrypt and sign in."""
        server.ehlo()
        if self.tls == "starttls":
            if not server.has_extn("starttls"):
                raise self._final(
                    "offers no STARTTLS, and neither password nor mail is sent without; use "
                    'tls="tls" with its port (often 465)'
                )
            server.starttls(context=self._trust())
            server.ehlo()
        if self.user is None or self.password is None:
            return
        if not server.has_extn("auth"):
            raise self._final("takes no user here; leave user= out, or use another port")
        try:
            server.login(self.user, self.password)
        except UnicodeEncodeError:
            raise self._final("cannot be given a user or password that is not ASCII") from None

    def _trust(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise ChannelError(
                f"the certificates in ca_file {self.ca_file!r} cannot be read: "
                f"{type(error).__name__}; give a PEM file",
                final=True,
            ) from None

    def _answered(self, error: smtplib.SMTPException, post: Post) -> ChannelError:
        """Return the error for what the server answered."""
        import smtplib

        if isinstance(error, smtplib.SMTPServerDisconnected):
            return ChannelError(
                f"{self._name} closed the connection, or stopped answering; it is tried again"
            )
        if isinstance(error, smtplib.SMTPRecipientsRefused):
            return self._refused(error.recipients, post)
        if isinstance(error, smtplib.SMTPAuthenticationError):
            return self._failed(
                error.smtp_code,
                "did not accept the user and password",
                f"check them (a provider may ask for an app password) in {URL} or {PASSWORD}",
            )
        if isinstance(error, smtplib.SMTPResponseException):
            what = f"did not take the mail{self._quote(error.smtp_error)}"
            cure = "give Smtp a user and password" if error.smtp_code == 530 else _SENDER
            return self._failed(error.smtp_code, what, cure)
        return self._final("offers no way to sign in that is known here; use another port")

    def _refused(self, recipients: dict[str, tuple[int, bytes]], post: Post) -> ChannelError:
        code, said = next(iter(recipients.values()))
        what = f"refused the recipient {post.to}{self._quote(said)}"
        return self._failed(code, what, "check the address, and that the server may send there")

    def _unreached(self, error: OSError) -> ChannelError:
        """Return the error for a connection that failed."""
        if isinstance(error, ssl.SSLCertVerificationError):
            return self._final(
                f"shows a certificate that is not trusted ({error.verify_message}); nothing was "
                "sent. Use the name in its certificate, or give its authority with ca_file="
            )
        if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return ChannelError(
                f"{self._name} closed the connection, or stopped answering; it is tried again"
            )
        if isinstance(error, ssl.SSLError):
            return self._final(
                f"does not speak TLS as expected ({error.reason}); port 587 goes with "
                'tls="starttls", port 465 with tls="tls"'
            )
        return ChannelError(
            f"{self._name} cannot be reached ({type(error).__name__}); check host, port and "
            "firewall. It is tried again"
        )

    def _failed(self, code: int, what: str, cure: str) -> ChannelError:
        if 500 <= code < 600:
            return self._final(f"{what} (code {code}); {cure}")
        return ChannelError(f"{self._name} {what} (code {code}); it is tried again")

    def _final(self, what: str) -> ChannelError:
        return ChannelError(f"{self._name} {what}", final=True)

    def _quote(self, said: bytes | str) -> str:
        words = quoted(said, self._secrets())
        return f', saying "{words}"' if words else ""

    def _secrets(self) -> tuple[str, ...]:
        """Return the password as it may stand in an answer."""
        if self.user is None or self.password is None:
            return ()
        plain = f"\0{self.user}\0{self.password}"
        coded = (base64.b64encode(each.encode()).decode() for each in (plain, self.password))
        return (self.password, *coded)

    @property
    def _name(self) -> str:
        return f"mail server {self.host}:{self.port}"


_SENDER = "check that it accepts this sender (PERDURE_EMAIL_FROM)"


def _parts(url: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UsageError(f"not an SMTP address; it is like {_SHAPE}") from None
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname or parts.path.strip("/"):
        raise UsageError(f"not an SMTP address; it is like {_SHAPE}")
    return parts, port
