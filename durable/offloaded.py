"""Recorded texts that are kept outside of the journal: what stands in their place.

Such a text is a tagged object of the codec, which escapes any dict of a handler that looks like
one. It names the object in S3 with its size and digest. What outsiders send (callbacks) is never
taken for one.
"""

from __future__ import annotations

MARK = '{"$perdure": "s3", '


def is_offloaded(payload: str) -> bool:
    """Return whether a recorded text only says where the text is kept."""
    return payload.startswith(MARK)


def text_of(payload: str) -> str:
    """Return a recorded text: itself, or what it refers to.

    Raises:
        PayloadUnavailableError: it is not there, may not be read, or is not what was kept.
        ServiceError: for reasons that may pass, it could not be read.
    """
    if not is_offloaded(payload):
        return payload
    from .aws.offload import fetch

    return fetch(payload)
