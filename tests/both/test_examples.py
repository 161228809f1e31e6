"""Each file of `examples/` runs on both engines as it stands: the same result, the same operations.

On the embedded engine in this process; on AWS each invocation is a process of its own that imports
the file as Lambda does. What asks a person is decided as the command line decides it.
"""

from __future__ import annotations

import importlib.util
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from perdure.approvals.callbacks import Standing
from perdure.approvals.journal import LocalCallbacks
from perdure.approvals.lambda_callbacks import LambdaCallbacks
from perdure.approvals.office import Office
from perdure.approvals.people import Principal
from perdure.approvals.voting import cast, claims_of
from perdure.durable import Handler, LambdaEngine, Limits, LocalEngine

from ..durable.aws.front import Front
from ..durable.aws.stage import PATIENCE, serving
from ..durable.aws.worlds import AwsWorld
from .functions import in_sandboxes
from .stages import Fared, Run, differences

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
WHO = "user:alice"
CLAIM = {"id": "c1", "amount": 900.0, "approvers": [WHO], "via": ["web"]}
STRUCTURE = ("id", "type", "subtype", "status", "attempt", "error")
ELSEWHERE = {"document_pipeline/pipeline.py"}
"""What needs S3 and mail: run on both engines by `tests/examples/test_document_pipeline.py`."""

Case = tuple[str, str, Callable[[Path], Any], bool]
CASES: list[Case] = [
    ("document_processor.py", "handler", lambda out: {"document": "contract", "out": out}, False),
    (
        "research_report.py",
        "handler",
        lambda out: {"max_tasks": 3, "out": out, "approvers": [WHO]},
        True,
    ),
    ("step_functions/flow.py", "triage", lambda out: CLAIM, False),
    ("step_functions/flow.py", "settle", lambda out: CLAIM, True),
]


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_APPROVAL_KEYS", "a-key-for-tests-of-at-least-32-bytes")
    for name in ("PERDURE_EXAMPLE_FIXED", "PERDURE_SMTP_URL"):
        monkeypatch.delenv(name, raising=False)


@cache
def loaded(file: str, attribute: str) -> Handler[Any]:
    """Return a handler of a file of the examples."""
    path = EXAMPLES / file
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    handler: Handler[Any] = getattr(module, attribute)
    return handler


@contextmanager
def locally(file: str, attribute: str, folder: Path) -> Iterator[LocalEngine]:
    handlers = [loaded(file, attribute)]
    with LocalEngine(folder / "journal.db", handlers, limits=Limits.aws()) as engine:
        yield engine


@contextmanager
def on_aws(world: AwsWorld, file: str, attribute: str) -> Iterator[LambdaEngine]:
    with serving(in_sandboxes(world, EXAMPLES / file, attribute)) as function:
        front = Front(world.runner, function.url)
        try:
            yield LambdaEngine(f"{Path(file).stem}-{attribute}:live", endpoint_url=front.url)
        finally:
            front.close()
        assert function.failures == []


def decide(engine: Any, callbacks: Any) -> None:
    """Approve, as alice, the one thing that is asked."""
    deadline = time.monotonic() + PATIENCE
    while not (open_ := callbacks.inbox().entries):
        assert time.monotonic() < deadline, "nobody was asked"
        time.sleep(0.05)
    [standing] = open_
    assert isinstance(standing, Standing)
    claims = claims_of(standing, [WHO])
    assert claims is not None
    by = Principal(identity=WHO, assurance="cli")
    outcome = cast(
        Office.at(engine.home),
        callbacks,
        claims,
        action="approve",
        by=by,
        approver=WHO,
        channel="terminal",
    )
    assert outcome.kind == "recorded"


def told(fared: Fared, run: Run, out: Path) -> Any:
    """Return a result without what is the run's own: its folder, its id, a key made of both."""
    arn = getattr(run.execution, "arn", run.execution.id)
    text = json.dumps(fared.value).replace(str(out), "OUT")
    text = re.sub(r"-[0-9a-f]{16}\.eml", "-KEY.eml", text)
    return json.loads(text.replace(arn.rpartition("/")[2], "RUN"))


@pytest.mark.parametrize(
    ("file", "attribute", "event", "asks"),
    CASES,
    ids=[f"{file}:{name}" for file, name, *_ in CASES],
)
def test_an_example_fares_alike_on_both_engines(
    aws: AwsWorld,
    tmp_path: Path,
    file: str,
    attribute: str,
    event: Callable[[Any], Any],
    asks: bool,
) -> None:
    fares: list[Fared] = []
    results: list[Any] = []
    with locally(file, attribute, tmp_path) as local, on_aws(aws, file, attribute) as remote:
        places: list[tuple[Any, Any]] = [
            (local, LocalCallbacks(local)),
            (remote, LambdaCallbacks(remote.api)),
        ]
        for engine, callbacks in places:
            out = tmp_path / type(engine).__name__
            out.mkdir()
            handler = loaded(file, attribute)
            run = Run(engine, engine.start(handler, event(str(out)), "the-only-one"))
            if asks:
                decide(engine, callbacks)
            fares.append(run.fared())
            results.append(told(fares[-1], run, out))

    assert fares[0].error is None
    assert results[0] == results[1]
    assert results[0]
    assert not [each for each in differences(*fares, STRUCTURE) if not each.startswith("result:")]


def test_every_handler_of_the_examples_is_among_them() -> None:
    found = {
        (str(file.relative_to(EXAMPLES)), name)
        for file in EXAMPLES.rglob("*.py")
        for name in re.findall(
            r"^@durable_execution.*\n(?:async )?def (\w+)", file.read_text(), re.M
        )
    }
    mine = {(file, attribute) for file, attribute, *_ in CASES}
    assert {each for each in found if each[0] not in ELSEWHERE} == mine
    assert {file for file, _ in found} >= ELSEWHERE
