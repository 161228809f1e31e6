"""Values too large for a checkpoint, in S3: put there before the checkpoint that refers to them.

With `PERDURE_S3_BUCKET` set, a large result is an object `<PERDURE_S3_PREFIX><execution>/<sha256>`
(the prefix is `perdure/` by default), and what is recorded is a reference with its size and digest.
The key is made of the content, so to put a value twice changes nothing. It is read when the handler
asks for it, checked against its digest, and remembered while the process lives. What models are
asked goes to `<execution>/prompts/`, named by `<execution>/notes/<operation>`. Nothing here ever
deletes: give the bucket a lifecycle rule that is longer than the retention of the executions.
boto3's client is made when first needed.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypeVar

from ..errors import PayloadUnavailableError, UsageError
from ..gates import Link
from ..offloaded import MARK
from .refusals import is_transient, words_of
from .service import ServiceError

T = TypeVar("T")
R = TypeVar("R")
BUCKET = "PERDURE_S3_BUCKET"
PREFIX = "PERDURE_S3_PREFIX"
AT_ONCE = 8
"""How many objects are put side by side."""
REMEMBERED = 64 * 1024 * 1024
"""Characters of values that were read and are kept in memory."""


class NotKeptError(ServiceError):
    """A large value could not be put into S3; what refers to it was not written either."""


@dataclass(frozen=True, slots=True)
class Store:
    """Where large values go."""

    bucket: str
    prefix: str = "perdure/"

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Store | None:
        """Return the store that the environment names, if it names one."""
        bucket = environment.get(BUCKET)
        if not bucket:
            return None
        return cls(bucket, environment.get(PREFIX, cls("").prefix))

    def put(self, execution: str, texts: Sequence[str]) -> list[str]:
        """Put texts, and return what refers to each.

        Raises:
            NotKeptError: one of them could not be put.
        """
        return _each(lambda text: self._put_text(execution, text), texts)

    def put_links(self, execution: str, links: Sequence[Link]) -> None:
        """Put links of chains, by their hashes: what a model was asked, for people to look at.

        Raises:
            ServiceError: one of them could not be put.
        """

        def put(link: Link) -> None:
            before = link.before.hex() if link.before is not None else None
            content = json.dumps({"before": before, "text": link.text})
            self._put(self._link_key(execution, link.hash.hex()), content.encode())

        _each(put, links)

    def put_note(self, execution: str, operation: str, note: str) -> None:
        """Put what a gate recorded with the start of an operation; it names the prompt.

        Raises:
            ServiceError: it could not be put.
        """
        self._put(f"{self.prefix}{execution}/notes/{operation}", note.encode())

    def note(self, execution: str, operation: str) -> str | None:
        """Return what a gate recorded with the last start of an operation, if it is kept.

        Raises:
            ServiceError: for reasons that may pass, it could not be read.
        """
        try:
            return _get(self.bucket, f"{self.prefix}{execution}/notes/{operation}").decode()
        except PayloadUnavailableError:
            return None

    def texts(self, execution: str, last: str) -> list[str]:
        """Return the texts of a chain, named by its last link in hex; [] if not kept.

        Raises:
            ServiceError: for reasons that may pass, they could not be read.
        """
        found: list[str] = []
        before: str | None = last
        try:
            while before is not None:
                link = json.loads(_get(self.bucket, self._link_key(execution, before)))
                found.append(link["text"])
                before = link["before"]
        except PayloadUnavailableError:
            return []
        return found[::-1]

    def _link_key(self, execution: str, hash: str) -> str:
        return f"{self.prefix}{execution}/prompts/{hash}"

    def _put_text(self, execution: str, text: str) -> str:
        content = text.encode()
        digest = sha256(content).hexdigest()
        key = f"{self.prefix}{execution}/{digest}"
        self._put(key, content)
        kept = {"bucket": self.bucket, "key": key, "size": len(content), "sha256": digest}
        return MARK + json.dumps(kept)[1:]

    def _put(self, key: str, content: bytes) -> None:
        try:
            _client().put_object(
                Bucket=self.bucket, Key=key, Body=content, ContentType="application/json"
            )
        except Exception as error:
            told = (
                f"a value of {len(content):,} bytes was not kept as {_where(self.bucket, key)}: "
                f"{words_of(error)}. The function's role needs s3:PutObject there, and "
                f"{BUCKET} a bucket that exists"
            )
            raise NotKeptError(told, transient=is_transient(error)) from error


def fetch(reference: str) -> str:
    """Return the text that a reference stands for.

    Raises:
        PayloadUnavailableError: it is not there, may not be read, or is not what was kept.
        ServiceError: for reasons that may pass, it could not be read.
    """
    try:
        kept = json.loads(reference)
        bucket, key, size, digest = (
            str(kept[name]) for name in ("bucket", "key", "size", "sha256")
        )
    except (ValueError, KeyError, TypeError):
        raise PayloadUnavailableError("a reference to a value in S3 is damaged") from None
    if (known := _remembered.get(digest)) is not None:
        return known
    content = _get(bucket, key)
    if str(len(content)) != size or sha256(content).hexdigest() != digest:
        raise PayloadUnavailableError(
            f"{_where(bucket, key)} is not what was kept there: {len(content):,} bytes of another "
            "digest. Restore the object (its former version, if the bucket has versions)"
        )
    text = content.decode()
    _remembered.add(digest, text)
    return text


def forget_client() -> None:
    """Have the next large value make its client anew, and forget the values that were read."""
    global _made  # noqa: PLW0603
    with _lock:
        _made = None
    _remembered.clear()


def _each(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    if len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(AT_ONCE, "perdure-s3") as pool:
        return list(pool.map(work, items))


def _get(bucket: str, key: str) -> bytes:
    try:
        return bytes(_client().get_object(Bucket=bucket, Key=key)["Body"].read())
    except Exception as error:
        told = f"{_where(bucket, key)} could not be read: {words_of(error)}"
        if is_transient(error):
            raise ServiceError(told, transient=True) from error
        raise PayloadUnavailableError(
            f"{told}. It is a recorded value of this run: restore the object, or give the "
            "function's role s3:GetObject there"
        ) from error


def _where(bucket: str, key: str) -> str:
    return f"s3://{bucket}/{key}"


class _Remembered:
    """The values that were read last, as many as fit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._texts: OrderedDict[str, str] = OrderedDict()
        self._size = 0

    def get(self, digest: str) -> str | None:
        with self._lock:
            if digest in self._texts:
                self._texts.move_to_end(digest)
            return self._texts.get(digest)

    def add(self, digest: str, text: str) -> None:
        with self._lock:
            if digest in self._texts:
                return
            self._texts[digest] = text
            self._size += len(text)
            while self._size > REMEMBERED:
                self._size -= len(self._texts.popitem(last=False)[1])

    def clear(self) -> None:
        with self._lock:
            self._texts.clear()
            self._size = 0


_remembered = _Remembered()
_lock = threading.Lock()
_made: Any = None


def _client() -> Any:
    global _made  # noqa: PLW0603
    with _lock:
        if _made is None:
            _made = _make()
        return _made


def _make() -> Any:
    try:
        import boto3  # type: ignore[import-untyped]
        from botocore.config import Config  # type: ignore[import-untyped]
    except ImportError as error:
        raise UsageError(f"{BUCKET} is set, and boto3 cannot be loaded: {error}") from None
    # To put the same content under the same key again is safe.
    retries = {"mode": "standard", "total_max_attempts": 4}
    config = Config(connect_timeout=5, read_timeout=50, retries=retries)
    return boto3.Session().client("s3", config=config)
