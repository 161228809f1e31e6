"""What is installed, and what importing it costs."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("durable", "prompts", "agents", "approvals", "console")
HEAVY = ("boto3", "botocore", "langchain_core", "slack_sdk", "rich", "typer", "pydantic")


def test_no_package_of_ours_is_importable_by_its_bare_name():
    __import__("perdure.durable")
    assert not [name for name in PACKAGES if name in sys.modules]


@pytest.mark.parametrize("use", ["", "; durable.durable_execution; durable.LocalEngine"])
def test_importing_the_core_loads_nothing_heavy(use):
    code = f"import sys; from perdure import durable{use}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(HEAVY) & set(done.stdout.split())


def test_the_wheel_holds_each_package_with_its_marker_of_types(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(tmp_path)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    sources = [
        path.relative_to(ROOT)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix in (".py", ".prompt", ".html", ".css") or path.name == "py.typed"
    ]
    assert {f"perdure/{path.as_posix()}" for path in sources} <= held
    assert {f"perdure/{package}/py.typed" for package in PACKAGES} <= held
    assert "perdure/__init__.py" not in held
