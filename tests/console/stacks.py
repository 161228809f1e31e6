"""What tests of templates need: read one, check one as cfn-lint does, and combine options."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

Template = dict[str, Any]


class _Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms as their long ones."""


def _long_form(loader: _Loader, tag: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.SequenceNode):
        value: Any = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_scalar(node)  # type: ignore[arg-type]
    if tag == "GetAtt":
        value = value.split(".", 1)
    return {"Ref" if tag == "Ref" else f"Fn::{tag}": value}


_Loader.add_multi_constructor("!", _long_form)


def read(text: str) -> Template:
    """Return a template, its short forms made long."""
    loaded: Template = yaml.load(text, Loader=_Loader)
    return loaded


def found_by_cfn_lint(files: Sequence[Path]) -> str:
    """Return all that cfn-lint has to say: errors, warnings and remarks."""
    lint = "import sys; from cfnlint.runner import main; sys.exit(main())"
    command = [sys.executable, "-c", lint, "--include-checks", "I", "--", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    return done.stdout + done.stderr


def without_sam(template: Template) -> Template:
    """Return what is left for CloudFormation alone, of which cfn-lint checks more than of SAM."""
    plain: Template = json.loads(json.dumps(template))
    del plain["Transform"]
    for resource in plain["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Type"] = "AWS::Lambda::Function"
            properties = resource["Properties"]
            code = {"S3Bucket": "bucket", "S3Key": properties.pop("CodeUri")}
            for name in ("AutoPublishAlias", "AutoPublishAliasAllProperties"):
                properties.pop(name, None)
            properties["Code"] = code
    return plain


def statements(template: Template, role: str) -> Iterator[dict[str, Any]]:
    """Yield what a role states."""
    for policy in template["Resources"][role]["Properties"]["Policies"]:
        yield from policy["PolicyDocument"]["Statement"]


def roles(template: Template) -> list[str]:
    return [
        name for name, each in template["Resources"].items() if each["Type"] == "AWS::IAM::Role"
    ]


def pairwise(axes: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return combinations in which each two values of two axes meet at least once."""
    names = list(axes)
    everything = [dict(zip(names, each, strict=True)) for each in itertools.product(*axes.values())]
    held = [
        set(itertools.combinations([(name, repr(one[name])) for name in names], 2))
        for one in everything
    ]
    missing = set().union(*held)
    chosen: list[dict[str, Any]] = []
    while missing:
        best = max(range(len(held)), key=lambda number: len(held[number] & missing))
        chosen.append(dict(everything[best]))
        missing -= held[best]
    return chosen
