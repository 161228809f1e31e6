"""Starts a run for each document that an S3 event tells of; the same event twice starts nothing.

The name of a run is made of bucket, key and version (or ETag, where the bucket keeps no versions),
and a name is started once. On AWS this file is the function that S3 notifies, `start.on_aws`, with
`DOCUMENTS_FUNCTION` naming the durable function by its alias or version. On one machine:

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
Start = Callable[[str, dict[str, Any]], bool]
"""Starts a run of this name with this input; tells whether it is a new one."""


def documents_in(event: Any) -> Iterator[Place]:
    """Return the documents that an S3 event says were created, each once.

    Folders, other kinds of file, deletions, S3's test event and what the pipeline files itself are
    none.

    Raises:
        ValueError: it is no event of S3.
    """
    if isinstance(event, dict) and event.get("Event") == "s3:TestEvent":
        return
    records = event.get("Records") if isinstance(event, dict) else None
    if not isinstance(records, list):
        raise ValueError("an event of S3 has Records; this one has none")
    yield from dict.fromkeys(place for record in records if (place := document_of(record)))


def document_of(record: Any) -> Place | None:
    """Return the document that one record tells of."""
    if record.get("eventSource") != "aws:s3":
        raise ValueError(f"a record of {record.get('eventSource')!r} is none of S3")
    if not record.get("eventName", "").startswith("ObjectCreated:"):
        return None
    told = record["s3"]["object"]
    key = unquote_plus(told["key"])
    place = Place(
        bucket=record["s3"]["bucket"]["name"],
        key=key,
        version_id=version_of(told.get("versionId")),
        etag=told.get("eTag", "").strip('"') or None,
    )
    own = os.environ.get(PREFIX) or "processed/"
    return place if place.suffix in SUFFIXES and not key.startswith(own) else None


def start_all(event: Any, start: Start) -> dict[str, bool]:
    """Start a run for each document of an event; say which are new.

    Raises:
        ExceptionGroup: some could not be started. The others were; the event may come again.
    """
    done: dict[str, bool] = {}
    failures: list[Exception] = []
    for place in documents_in(event):
        try:
            done[place.id] = start(place.id, place.model_dump(exclude_none=True))
        except Exception as error:
            failures.append(error)
    if failures:
        raise ExceptionGroup(f"{len(failures)} runs could not be started", failures)
    return done


def on_aws(event: Any, context: Any) -> dict[str, bool]:
    """Handle a notification of S3 as a Lambda function."""
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
