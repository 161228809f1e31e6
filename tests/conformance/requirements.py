"""The requirement files: where they are, and one of them as data.

They are read from the folder `PERDURE_CONFORMANCE` names, else from `shared/conformance` beside the
repository; the project holds no copy.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .matcher import Bindings, fill, variables

FOLDER = Path(
    os.environ.get("PERDURE_CONFORMANCE") or Path(__file__).parents[3] / "shared" / "conformance"
)
SUITES = {"1": "step", "2": "wait", "3": "child", "7": "wait_for_callback", "9": "map"}
PROSE = {"description", "handler", "invocations", "async", "optional", "DefaultRetryParameters"}
KNOWN = {
    "AsyncInvoke",
    "CallbackActions",
    "ExpectedExecutionHistory",
    "ExpectedLogs",
    "ExpectedResult",
    "Input",
    "Variables",
}


@dataclass(frozen=True, slots=True)
class Requirement:
    """One requirement, its variables filled in wherever they are known beforehand."""

    id: str
    event: Any
    history: list[dict[str, Any]]
    result: dict[str, Any] | None
    actions: list[dict[str, Any]]
    logs: list[dict[str, Any]]
    bound: Bindings = field(default_factory=dict)


def path_of(id: str) -> Path:
    return FOLDER / SUITES[id.partition("-")[0]] / f"{id}.yaml"


def ids_on_file() -> set[str]:
    return {file.stem for suite in SUITES.values() for file in (FOLDER / suite).glob("*.yaml")}


def load(id: str) -> Requirement:
    text = yaml.safe_load(path_of(id).read_text(encoding="utf-8"))
    if unknown := set(text) - KNOWN - PROSE:
        raise NotImplementedError(f"requirement {id} uses unknown keys: {sorted(unknown)}")
    bound = variables(text.get("Variables"), seed=id)
    return Requirement(
        id=id,
        event=fill(text["Input"], bound),
        history=text["ExpectedExecutionHistory"],
        result=fill(text.get("ExpectedResult"), bound),
        actions=fill(text.get("CallbackActions", []), bound),
        logs=text.get("ExpectedLogs", []),
        bound=bound,
    )
