"""Where the Lambda service is and as whom to call it, as a Lambda sandbox's environment says.

Only what the environment itself holds is read. Profiles, configuration files, roles to assume,
credentials that expire: those are boto3's to see to, and then there is no target.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

_BOTO3_SETTINGS = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_CONFIG_FILE",
    "AWS_CREDENTIAL_EXPIRATION",
    "AWS_SECURITY_TOKEN",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """The keys that calls are signed with; none of them is ever shown."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    token: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Target:
    """The service's address, if the environment names one, its region, and who calls it."""

    region: str
    credentials: Credentials
    endpoint: str | None = None
    fips: bool = False
    dual_stack: bool = False

    def url(self) -> str:
        """Return the service's address: by botocore's rules for the region, if none is named."""
        if self.endpoint is not None:
            return self.endpoint.rstrip("/")
        from botocore.endpoint_provider import EndpointProvider  # type: ignore[import-untyped]
        from botocore.loaders import Loader  # type: ignore[import-untyped]

        loader = Loader()
        rules = loader.load_service_model("lambda", "endpoint-rule-set-1")
        provider = EndpointProvider(rules, loader.load_data("partitions"))
        found = provider.resolve_endpoint(
            Region=self.region, UseFIPS=self.fips, UseDualStack=self.dual_stack
        )
        return str(found.url)


def target_of(environment: Mapping[str, str]) -> Target | None:
    """Return the target that the environment describes; None if it takes boto3 to find it."""
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    access_key = environment.get("AWS_ACCESS_KEY_ID")
    secret_key = environment.get("AWS_SECRET_ACCESS_KEY")
    if not (region and access_key and secret_key) or _is_configured_elsewhere(environment):
        return None
    return Target(
        region,
        Credentials(access_key, secret_key, environment.get("AWS_SESSION_TOKEN") or None),
        environment.get("AWS_ENDPOINT_URL_LAMBDA") or environment.get("AWS_ENDPOINT_URL") or None,
        _is_set(environment, "AWS_USE_FIPS_ENDPOINT"),
        _is_set(environment, "AWS_USE_DUALSTACK_ENDPOINT"),
    )


def _is_configured_elsewhere(environment: Mapping[str, str]) -> bool:
    named = any(environment.get(name) for name in _BOTO3_SETTINGS)
    return named or os.path.exists(os.path.expanduser("~/.aws/config"))


def _is_set(environment: Mapping[str, str], name: str) -> bool:
    return environment.get(name, "").lower() == "true"
