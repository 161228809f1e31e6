"""`deploy`: writes the template by which `sam deploy` puts a file's handlers on AWS Lambda.

The handlers are loaded as `run` loads them, so what a stack runs is what ran here.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perdure.durable.errors import UsageError
from perdure.durable.handler import Handler

from .loader import Loaded, load
from .screen import say, stderr
from .stack import Function, Options, template
from .yaml_tags import dump

STDOUT = "-"
_NAME = 64
_ALIAS = re.compile(r"(?!\d+$)[A-Za-z0-9_-]{1,128}")
_STACK = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,127}")
_ADDRESS = re.compile(r"[A-Za-z0-9.!#%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_MODEL = re.compile(r"arn:[a-z-]+:bedrock:[A-Za-z0-9:._/-]+|[a-z0-9][A-Za-z0-9.:_-]+")
_FUNCTION = re.compile(r"[A-Za-z0-9_-]{1,64}")
_POLICY = re.compile(r"arn:[a-z-]+:iam::(aws|\d{12}):policy/[\w+=,.@/-]+")
_SECRET = re.compile(
    r"arn:[a-z-]+:(secretsmanager:[a-z0-9-]+:\d{12}:secret:|ssm:[a-z0-9-]+:\d{12}:parameter/).+"
)
_VARIABLE = re.compile(r"(?!AWS_|LAMBDA_)[A-Za-z][A-Za-z0-9_]+")
_SECRET_NAME = re.compile(r"PERDURE_APPROVAL_KEYS|.*(TOKEN|SECRET|PASSWORD|API_KEY)", re.IGNORECASE)
_ARCHITECTURES = ("x86_64", "arm64")


@dataclass(frozen=True, slots=True)
class Writing:
    """Where a template goes.

    Attributes:
        output: a file, or `-` for standard output.
        force: whether to write over a file.
        stack: the stack's name in the command that is shown.
    """

    output: str
    force: bool
    stack: str | None


def deploy(target: str, options: Options, writing: Writing, template_only: bool) -> None:
    """Write the template of these handlers, and say what to do with it.

    Raises:
        UsageError: there is no handler, an option cannot be meant, or the file is there.
    """
    loaded, name = load(target)
    _check(options, writing)
    stack = writing.stack or _plain(Path(loaded.where).stem).strip("-") or "perdure"
    command = _command(stack, writing.output, options.slack)
    if not template_only:
        raise UsageError(
            "perdure writes the template, and deploying it is done by SAM's command line: add "
            f"--template-only, and then: {command}"
        )
    functions = _functions(loaded, name)
    text = _header(command) + dump(template(functions, options))
    if writing.output == STDOUT:
        sys.stdout.write(text)
        return
    _write(Path(writing.output), text, writing.force)
    _tell(functions, options, writing.output, command)


def settings_of(given: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Return the environment variables that `--env` gives.

    Raises:
        UsageError: one is no NAME=VALUE, or seems to be secret; its value is not in the text.
    """
    made: dict[str, str] = {}
    for each in given:
        name, sign, value = each.partition("=")
        if not sign or not _VARIABLE.fullmatch(name):
            raise UsageError("--env is NAME=VALUE, and no name of AWS's own, like AWS_REGION")
        if _SECRET_NAME.fullmatch(name):
            raise UsageError(
                f"--env {name} would stand in the template for all to read: keep it in a secret, "
                "as JSON, and give its ARN with --secret"
            )
        made[name] = value
    return tuple(made.items())


def _check(options: Options, writing: Writing) -> None:
    if not options.approvals and (options.slack or options.email):
        channel = "--slack" if options.slack else "--email"
        raise UsageError(f"{channel} is a way to ask people: leave --no-approvals out")
    if options.architecture not in _ARCHITECTURES:
        raise UsageError(
            f"--architecture is {' or '.join(_ARCHITECTURES)}, not {options.architecture!r}"
        )
    _match("--qualifier", [options.qualifier], _ALIAS, "an alias, like live, and no version")
    _match("--email", [options.email or "a@x.org"], _ADDRESS, "an address, like a@example.org")
    _match("--bedrock", options.bedrock, _MODEL, "a model's or an inference profile's id or ARN")
    _match("--invoke", options.invokes, _FUNCTION, "a function's name, without its alias")
    _match("--policy", options.policies, _POLICY, "the ARN of an IAM policy")
    _match("--secret", options.secrets, _SECRET, "the ARN of a secret or of a parameter")
    _match("--stack-name", [writing.stack or "x"], _STACK, "letters, digits and hyphens")


def _match(option: str, given: Iterable[str], pattern: re.Pattern[str], wanted: str) -> None:
    for text in given:
        if not pattern.fullmatch(text):
            raise UsageError(f"{option} is {wanted}; this is none: {text!r}")


def _functions(loaded: Loaded, name: str) -> list[Function]:
    """Return the functions to deploy: of the handler that was named, or of all."""
    module = _module(loaded.where)
    made: list[Function] = []
    for attribute, handler in _chosen(loaded, name).items():
        number = "" if not made else str(len(made) + 1)
        taken = {each.id.casefold() for each in made} | {each.name for each in made}
        id, function = _id(module, attribute), _plain(f"{module}-{attribute}")[:_NAME]
        if id.casefold() in taken or function in taken:
            id, function = id + number, f"{function[: _NAME - len(number) - 1]}-{number}"
        made.append(Function(id, function, f"{module}.{attribute}", handler.timeout))
    return made


def _chosen(loaded: Loaded, name: str) -> dict[str, Handler[Any]]:
    if not name and loaded.handlers:
        return dict(list(loaded.handlers.items())[: loaded.own or None])
    chosen = loaded.pick(name)
    return {key: each for key, each in loaded.handlers.items() if each is chosen}


def _module(where: str) -> str:
    """Return the name by which Lambda imports what was loaded."""
    path = Path(where)
    if not path.is_file():
        return where
    if "." in path.stem or re.search(r"\s", path.stem):
        raise UsageError(f"Lambda cannot import {path.name}: no dot or space, but the one of .py")
    return path.stem


def _id(module: str, attribute: str) -> str:
    """Return how logical ids begin: letters and digits only."""
    words = re.split(r"[^A-Za-z0-9]+", f"{module} {attribute}")
    return "".join(word[:1].upper() + word[1:] for word in words)[:100] or "Handler"


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-") or "handler"


def _header(command: str) -> str:
    return (
        "# Written by `perdure deploy`; write it again rather than edit it. Deploy it with\n"
        f"#   {command}\n"
    )


def _command(stack: str, file: str, slack: bool) -> str:
    words = ["sam", "deploy", "--template-file", "template.yaml" if file == STDOUT else file]
    words += ["--stack-name", stack, "--capabilities", "CAPABILITY_IAM", "--resolve-s3"]
    if slack:
        words += ["--parameter-overrides", "SlackSecretArn=ARN"]
    return shlex.join(words)


def _write(path: Path, text: str, force: bool) -> None:
    """Write a file that takes its name when it is whole."""
    try:
        descriptor, made = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(made).chmod(0o644)
        if force:
            Path(made).replace(path)
        else:
            os.link(made, path)
    except FileExistsError:
        raise UsageError(f"{path} is there already; --force writes over it") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        Path(made).unlink(missing_ok=True)


def _tell(functions: Sequence[Function], options: Options, file: str, command: str) -> None:
    console = stderr()
    say(console, f"written to {file}", "bold")
    for each in functions:
        say(console, f"  {each.name}:{options.qualifier} runs {each.handler}")
    say(console, f"with the code in {options.code}/, beside the template, deploy it with", "dim")
    say(console, f"  {command}")
