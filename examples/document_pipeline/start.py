"""Starts a run for each document that an S3 event tells of; the same event twice starts nothing.

An event comes from S3 itself, from EventBridge, or in messages of SQS that hold either. The name of
a run is made of bucket, key and version (or ETag, where the bucket keeps no versions), and a name
is started once, whichever way its event came. On AWS this file is the function that is notified,
`start.on_aws`, with `DOCUMENTS_FUNCTION` naming the durable function by its alias or version. On
one machine:

    python examples/document_pipeline/start.py event.json
    perdure serve examples/document_pipeline/pipeline.py
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

from reading import SUFFIXES, Place, version_of
from services import client

FUNCTION = "DOCUMENTS_FUNCTION"
PREFIX = "DOCUMENTS_PREFIX"
SHAPES = "an event of S3 has Records of S3 or SQS, or is one of EventBridge"
Start = Callable[[str, dict[str, Any]], bool]
"""Starts a run of this name with this input; tells whether one of that name was there already.

Lambda takes the same start again without a word, as the same run: there it is never known.
"""


def documents_in(event: Any) -> Iterator[Place]:
    """Return the documents that an event says were created, each once.

    Folders, other kinds of file, deletions, S3's test event and what the pipeline files itself are
    none.

    Raises:
        ValueError: it is no event of S3.
    """
    yield from dict.fromkeys(filter(wanted, told_by(event)))


def told_by(event: Any) -> Iterator[Place]:
    """Return the objects that an event says were created, in whatever it came."""
    match event:
        case {"Event": "s3:TestEvent"}:
            return
        case {"source": "aws.s3", "detail-type": "Object Created", "detail": detail}:
            told = detail["object"]
            key, version = told["key"], told.get("version-id")
            yield place_of(detail["bucket"]["name"], key, version, told.get("etag"))
        case {"source": "aws.s3"}:
            return
        case {"Records": list(records)}:
            for record in records:
                yield from told_by_record(record)
        case _:
            raise ValueError(f"{SHAPES}; this is neither")


def told_by_record(record: Any) -> Iterator[Place]:
    """Return the objects that one record tells of: itself, or by the message it holds."""
    match record:
        case {"eventSource": "aws:sqs", "body": body}:
            yield from told_by(json.loads(body))
        case {"eventSource": "aws:s3", "eventName": str(what), "s3": s3}:
            if what.startswith("ObjectCreated:"):
                told = s3["object"]
                key = unquote_plus(told["key"])  # EventBridge has it as it is
                yield place_of(s3["bucket"]["name"], key, told.get("versionId"), told.get("eTag"))
        case {"eventSource": source}:
            raise ValueError(f"a record of {source!r} is none of S3")
        case _:
            raise ValueError(f"{SHAPES}; a record of this one is none")


def place_of(bucket: str, key: str, version: str | None, etag: str | None) -> Place:
    """Return a place, spelled the same whoever tells of it."""
    return Place(
        bucket=bucket,
        key=key,
        version_id=version_of(version),
        etag=(etag or "").strip('"') or None,
    )


def wanted(place: Place) -> bool:
    """Return whether an object is a document, and none that the pipeline filed itself."""
    own = os.environ.get(PREFIX) or "processed/"
    return place.suffix in SUFFIXES and not place.key.startswith(own)


def messages_in(event: Any) -> list[Any]:
    """Return the parts of an event that fail apart: messages of SQS one by one."""
    records = event.get("Records") if isinstance(event, dict) else None
    if not isinstance(records, list) or len(records) < 2:
        return [event]
    return [{**event, "Records": [record]} for record in records]


def start_all(event: Any, start: Start) -> dict[str, bool]:
    """Start a run for each document of an event; say of each whether it is new.

    Raises:
        ExceptionGroup: some could not be started. The others were; the event may come again.
    """
    done: dict[str, bool] = {}
    failures: list[Exception] = []
    for message in messages_in(event):
        try:
            places = list(documents_in(message))
        except (KeyError, TypeError, ValueError) as error:
            failures.append(error)
            continue
        for place in places:
            if place.id in done:
                continue
            try:
                done[place.id] = start(place.id, place.model_dump(exclude_none=True))
            except Exception as error:
                failures.append(error)
    if failures:
        raise ExceptionGroup(f"{len(failures)} could not be started", failures)
    return done


def on_aws(event: Any, context: Any) -> dict[str, bool]:
    """Handle an event as a Lambda function; what could not be started makes it come again."""
    return start_all(event, invoke)


def invoke(name: str, payload: dict[str, Any]) -> bool:
    """Start a run of the durable function."""
    function = os.environ.get(FUNCTION)
    if not function:
        raise RuntimeError(f"set {FUNCTION} to the durable function, with its alias or version")
    calls = client("lambda")
    try:
        calls.invoke(
            FunctionName=function,
            InvocationType="Event",
            DurableExecutionName=name,
            Payload=json.dumps(payload, sort_keys=True).encode(),
        )
    except calls.exceptions.DurableExecutionAlreadyStartedException:
        return False
    return True


def in_journal(engine: Any) -> Start:
    """Return what starts runs on an embedded engine."""
    from pipeline import handler

    from perdure.durable import ExecutionConflictError, ExecutionNotFoundError

    def start(name: str, payload: dict[str, Any]) -> bool:
        try:
            engine.get(name)
        except ExecutionNotFoundError:
            pass
        else:
            return False
        try:
            engine.start(handler, payload, id=name)
        except ExecutionConflictError:
            return False
        return True

    return start


def main() -> None:
    """Start the runs of an event in a file, or from standard input, in a journal."""
    from perdure.durable import LocalEngine

    parser = argparse.ArgumentParser(description="Start a run for each document of an S3 event.")
    parser.add_argument("event", help="the file of the event's JSON; - for standard input")
    parser.add_argument("--journal", type=Path, default=Path(".perdure/journal.db"))
    given = parser.parse_args()
    try:
        event = json.loads(
            sys.stdin.read() if given.event == "-" else Path(given.event).read_text()
        )
        found = list(documents_in(event))
    except (OSError, ValueError) as error:
        sys.exit(f"{given.event}: {error}")
    if not found:
        print("the event tells of no document")
        return
    engine = LocalEngine(given.journal)
    try:
        for name, new in start_all(event, in_journal(engine)).items():
            print(f"{name}: {'started' if new else 'is there already'}")
    finally:
        engine.close()


if __name__ == "__main__":
    main()
