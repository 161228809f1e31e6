"""AWS's local runner, shared with the tests of the engine that it holds to its word."""

from ..durable.aws.conftest import aws, aws_session, local_runner  # noqa: F401
