"""One invocation of a Lambda durable function: the event in, one pass or more, the output out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ..clock import SystemClock
from ..errors import InvocationEnded, PayloadUnavailableError, UsageError
from ..failures import error_object
from ..handler import Handler
from ..host import Host
from ..invocation import conclude
from ..session import Ending, Failed, Pending
from .offload import NotKeptError
from .service import LambdaService, ServiceError
from .session import AwsSession
from .wire import output

_HOST = Host(256)
"""The threads of this process; Lambda keeps them from one invocation to the next. It allows 1,024;
branches that run side by side are written in one call, so there are few calls where many run."""
_CLOCK = SystemClock()


def handle(handler: Handler[Any], event: Any, context: Any) -> dict[str, Any]:
    """Handle one invocation by the Lambda service, and return what it is answered with.

    Raises:
        UsageError: it is not an invocation of a durable function, or a secret that the function's
            settings name could not be read.
        ServiceError: for reasons that may pass, the service could not be written to; Lambda
            invokes again.
    """
    if not isinstance(event, Mapping) or "DurableExecutionArn" not in event:
        raise UsageError(
            f"{handler.name!r} was called with an event that is not a durable invocation: it has "
            "no DurableExecutionArn. Use handler.run(event) or configure DurableConfig on the "
            "Lambda function, and invoke a version or alias of it"
        )
    if "PERDURE_SECRETS_ARN" in os.environ:
        from .secrets import take_secrets

        take_secrets()
    try:
        session = AwsSession.open(
            LambdaService.of_process(), _CLOCK, event, holding=handler.hold_on_failure
        )
        try:
            return _handle(handler, session)
        finally:
            session.close()
    except ServiceError as error:
        if error.transient:
            raise
        return output(Failed(error_object(error)))
    except (UsageError, PayloadUnavailableError) as error:
        # Settings that cannot be meant; what a resume needs to know and S3 does not give.
        return output(Failed(error_object(error)))


def _handle(handler: Handler[Any], session: AwsSession) -> dict[str, Any]:
    try:
        ending = _conclude(handler, session)
        while isinstance(ending, Pending) and session.goes_on(ending):
            ending = _conclude(handler, session)
    except NotKeptError as error:
        if error.transient or not handler.hold_on_failure:
            raise
        with suppress(InvocationEnded):
            session.hold(error_object(error))
        ending = Pending()
    except InvocationEnded:
        ending = Pending()
    if session.revoked:
        ending = Pending()
    return output(session.sent(ending), concluded=session.concluded, room=session.limits.error)


def _conclude(handler: Handler[Any], session: AwsSession) -> Ending:
    session.take_up()
    return conclude(session, handler, _CLOCK, _HOST, session.begun)
