"""Why a call to the Lambda service came to nothing: for reasons that may pass, or finally.

Errors are botocore's own, whichever client raised them. AWS's local runner names no code in its
answers; its HTTP status stands in for one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..errors import UsageError

_KMS = frozenset(
    {
        "KMSAccessDeniedException",
        "KMSDisabledException",
        "KMSInvalidStateException",
        "KMSNotFoundException",
    }
)
_QUERY = re.compile(r"\?\S*")


def code_of(error: Exception) -> str:
    """Return the code of the service's refusal; empty if it gave no answer."""
    return str(_details(error).get("Code") or "")


def is_transient(error: Exception) -> bool:
    """Return whether another invocation may fare better than this call did."""
    if isinstance(error, UsageError) or _is_malformed(error):
        return False
    if may_pass(error):
        return True
    # Another invocation has written since: this one is over, the next gets a token that holds.
    message = str(_details(error).get("Message") or "").lower()
    return code_of(error) not in _KMS and message.startswith("invalid checkpoint token")


def may_pass(error: Exception) -> bool:
    """Return whether the same call may fare better: no answer, too many calls, their fault."""
    if code_of(error) in _KMS:
        return False
    answer: Mapping[str, Any] = getattr(error, "response", None) or {}
    status = (answer.get("ResponseMetadata") or {}).get("HTTPStatusCode")
    return status is None or status == 429 or not 400 <= status < 500


def words_of(error: Exception) -> str:
    """Return an error's text, without the query of an address: there the checkpoint token is."""
    return _QUERY.sub("", str(error)) if not _details(error) else str(error)


def _details(error: Exception) -> Mapping[str, Any]:
    answer: Mapping[str, Any] = getattr(error, "response", None) or {}
    details: Mapping[str, Any] = answer.get("Error") or {}
    return details


def _is_malformed(error: Exception) -> bool:
    """Return whether botocore refused the request itself; it would refuse it the next time, too."""
    from botocore.exceptions import ParamValidationError  # type: ignore[import-untyped]

    return isinstance(error, ParamValidationError)
