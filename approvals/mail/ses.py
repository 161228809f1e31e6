"""Mail over Amazon SES, as raw MIME, with the tracking of links and opens switched off.

Each delivery is one request: botocore's own retries are off, the step's policy is the only one.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import Any

from ..errors import ChannelError
from .post import Post, quoted

_MAKING = threading.Lock()
_UNTRACKED = {"Tracking": {"ClickTrackingEnabled": "DISABLED", "OpenTrackingEnabled": "DISABLED"}}
_PASSING = {"TooManyRequestsException", "LimitExceededException", "ThrottlingException"}
_CURES = {
    "MessageRejected": "verify the sender, and in the sandbox the recipient, in this region",
    "MailFromDomainNotVerifiedException": "verify the MAIL FROM domain",
    "SendingPausedException": "sending is paused; resume it in the SES console",
    "AccountSuspendedException": "the account may not send; see the SES console",
    "NotFoundException": "check configuration_set and region",
    "BadRequestException": "check sender and configuration_set",
}
_CREDENTIALS = "check the AWS credentials, and that they allow ses:SendEmail and ses:SendRawEmail"


@dataclass(frozen=True)
class Ses:
    """Amazon SES, with the credentials that boto3 finds.

    Args:
        region: by default that of the environment.
        endpoint_url: another address of the service.
        configuration_set: of the account; links and opens are not tracked, whatever it says.
    """

    region: str | None = None
    endpoint_url: str | None = None
    configuration_set: str | None = None
    _made: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> Ses:
        """Return the service of a spec."""
        return cls(**spec)

    def spec(self) -> dict[str, Any]:
        """Return what builds this service again."""
        names = ("region", "endpoint_url", "configuration_set")
        return {name: getattr(self, name) for name in names}

    def deliver(self, post: Post) -> None:
        """Hand a mail to SES.

        Raises:
            ChannelError: it did not take it, or could not be asked.
        """
        from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

        try:
            client = self.client()
            client.send_email(**self._asked(client, post))
        except ClientError as error:
            raise _answered(error) from None
        except (BotoCoreError, ValueError) as error:
            raise _unasked(error) from None

    def client(self) -> Any:
        """Return the boto3 client, made once, by whichever thread is first."""
        with _MAKING:
            if not self._made:
                self._made.append(self._make())
            return self._made[0]

    def _make(self) -> Any:
        import boto3  # type: ignore[import-untyped]
        from botocore.config import Config  # type: ignore[import-untyped]

        config = Config(
            connect_timeout=5,
            read_timeout=30,
            retries={"total_max_attempts": 1, "mode": "standard"},
        )
        return boto3.Session().client(
            "sesv2", region_name=self.region, endpoint_url=self.endpoint_url, config=config
        )

    def _asked(self, client: Any, post: Post) -> dict[str, Any]:
        asked: dict[str, Any] = {
            "FromEmailAddress": post.sender,
            "Destination": {"ToAddresses": [post.to]},
            "Content": {"Raw": {"Data": post.data}},
            "EmailTags": [
                {"Name": "approval", "Value": re.sub(r"[^A-Za-z0-9_-]", "-", post.approval)[:256]}
            ],
        }
        if self.configuration_set is not None:
            asked["ConfigurationSetName"] = self.configuration_set
        # An older botocore refuses what its model does not know; the links say `ses:no-track`, too.
        known = client.meta.service_model.operation_model("SendEmail").input_shape.members
        if "ConfigurationOverrides" in known:
            asked["ConfigurationOverrides"] = _UNTRACKED
        return asked


def _answered(error: Any) -> ChannelError:
    """Return the error for what SES answered."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _PASSING or status >= 500 or status == 429:
        return ChannelError(f"SES did not take the mail ({code}); it is tried again")
    if code in _CURES:
        said = quoted(str(error.response["Error"].get("Message", "")))
        return ChannelError(
            f'SES did not take the mail ({code}), saying "{said}"; {_CURES[code]}', final=True
        )
    # What is said about credentials may repeat parts of them.
    return ChannelError(f"SES did not take the mail ({code}); {_CREDENTIALS}", final=True)


def _unasked(error: Exception) -> ChannelError:
    """Return the error for a request that was not answered, or could not be made."""
    from botocore import exceptions  # type: ignore[import-untyped]

    name = type(error).__name__
    if isinstance(error, exceptions.ConnectionError | exceptions.HTTPClientError):
        return ChannelError(f"SES could not be asked ({name}); it is tried again")
    if isinstance(error, exceptions.NoRegionError):
        return ChannelError("SES: no region; give Ses(region=) or AWS_REGION", final=True)
    return ChannelError(f"SES could not be asked ({name}); {_CREDENTIALS}", final=True)
