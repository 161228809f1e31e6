"""AWS by boto3: one client for each service, made when a step first needs it.

`AGAIN` is the retry policy of the steps that use them: what may pass is tried again for minutes,
suspended meanwhile; what a document or a permission is the cause of is not.
"""

import json
from functools import cache
from typing import Any


@cache
def client(service: str) -> Any:
    """Return the client of a service; what it is asked may be asked again at no cost.

    Bedrock and SES are not among them: perdure speaks to those itself, one attempt at a time.
    """
    import boto3
    from botocore.config import Config

    retries = {"mode": "standard", "total_max_attempts": 5}
    config = Config(retries=retries, connect_timeout=5, read_timeout=60, max_pool_connections=32)
    return boto3.Session().client(service, config=config)


def may_pass(error: BaseException) -> bool:
    """Return whether AWS may well answer the same request later."""
    from botocore.exceptions import ClientError, ConnectionError, HTTPClientError

    if isinstance(error, ClientError):
        status = error.response["ResponseMetadata"].get("HTTPStatusCode", 0)
        return status >= 500 or status == 429 or "Throttl" in error.response["Error"]["Code"]
    return isinstance(error, ConnectionError | HTTPClientError | Unfinished)


class Unfinished(Exception):
    """AWS did a part of what it was asked, and wants to be asked later for the rest."""


AGAIN = {
    "max_attempts": 6,
    "initial_delay": 5,
    "backoff_rate": 3,
    "max_delay": 300,
    "retry_on": may_pass,
}


def read_json(bucket: str, key: str) -> Any:
    """Return what an object of JSON holds."""
    return json.load(client("s3").get_object(Bucket=bucket, Key=key)["Body"])


def write_json(bucket: str, key: str, value: Any) -> str:
    """Write an object of JSON; return its address."""
    body = json.dumps(value, ensure_ascii=False, indent=2).encode()
    client("s3").put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json")
    return f"s3://{bucket}/{key}"
