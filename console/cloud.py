"""The command that leads to AWS, as a group of the command line: `deploy`."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import example

commands = typer.Typer()
_APPROVALS, _LARGE, _ALLOWED, _FUNCTION = "Approvals", "Large values", "What it may do", "Function"


@commands.command(epilog=example("perdure deploy flow.py --template-only --slack"))
def deploy(
    target: Annotated[
        str,
        typer.Argument(
            metavar="FILE[:HANDLER]",
            help="As for `run`; if no handler is named, each becomes a function.",
        ),
    ],
    template_only: Annotated[
        bool, typer.Option("--template-only", help="Write the template, for `sam deploy`.")
    ] = False,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Where to; - is standard output.")
    ] = "template.yaml",
    force: Annotated[bool, typer.Option("--force", help="Write over a file.")] = False,
    stack_name: Annotated[
        str | None,
        typer.Option("--stack-name", metavar="NAME", help="For the command that is printed."),
    ] = None,
    code: Annotated[
        str,
        typer.Option("--code", metavar="DIR", help="The packaged code, seen from the template."),
    ] = "package",
    approvals: Annotated[
        bool,
        typer.Option(
            "--approvals/--no-approvals",
            help="A function URL on which people decide, and the keys of its links.",
            rich_help_panel=_APPROVALS,
        ),
    ] = True,
    slack: Annotated[
        bool,
        typer.Option(
            "--slack",
            help="Ask in Slack; its token and signing secret are in a secret that you name.",
            rich_help_panel=_APPROVALS,
        ),
    ] = False,
    email: Annotated[
        str | None,
        typer.Option(
            "--email",
            metavar="ADDRESS",
            help="Ask by mail from this address, over SES.",
            rich_help_panel=_APPROVALS,
        ),
    ] = None,
    bucket: Annotated[
        bool,
        typer.Option(
            "--bucket/--no-bucket",
            help="A bucket for what is too large for a checkpoint.",
            rich_help_panel=_LARGE,
        ),
    ] = True,
    bedrock: Annotated[
        list[str] | None,
        typer.Option(
            "--bedrock",
            metavar="MODEL",
            help="Ask this model or inference profile; repeatable.",
            rich_help_panel=_ALLOWED,
        ),
    ] = None,
    invoke: Annotated[
        list[str] | None,
        typer.Option(
            "--invoke",
            metavar="FUNCTION",
            help="Invoke this function; repeatable.",
            rich_help_panel=_ALLOWED,
        ),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            metavar="ARN",
            help="What this IAM policy allows, for your own steps; repeatable.",
            rich_help_panel=_ALLOWED,
        ),
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            "--secret",
            metavar="ARN",
            help="Take settings, like API keys, from this secret in JSON; repeatable.",
            rich_help_panel=_ALLOWED,
        ),
    ] = None,
    step_functions: Annotated[
        bool,
        typer.Option(
            "--step-functions",
            help="Report to Step Functions that its task is done.",
            rich_help_panel=_ALLOWED,
        ),
    ] = False,
    env: Annotated[
        list[str] | None,
        typer.Option(
            "--env",
            metavar="NAME=VALUE",
            help="An environment variable that is no secret; repeatable.",
            rich_help_panel=_FUNCTION,
        ),
    ] = None,
    retention_days: Annotated[
        int,
        typer.Option(
            "--retention-days",
            min=1,
            max=90,
            metavar="N",
            help="How long the history of an ended run is kept.",
            rich_help_panel=_FUNCTION,
        ),
    ] = 14,
    memory: Annotated[
        int,
        typer.Option(
            "--memory", min=128, max=10_240, metavar="MB", rich_help_panel=_FUNCTION, help="Memory."
        ),
    ] = 1024,
    qualifier: Annotated[
        str,
        typer.Option(
            "--qualifier",
            metavar="ALIAS",
            help="The alias that is invoked.",
            rich_help_panel=_FUNCTION,
        ),
    ] = "live",
    architecture: Annotated[
        str,
        typer.Option(
            "--architecture", metavar="NAME", help="x86_64 or arm64.", rich_help_panel=_FUNCTION
        ),
    ] = "x86_64",
) -> None:
    """Write a SAM template that runs a file's handlers as durable functions on AWS Lambda.

    The code is packaged as docs/deploy.md says, and the template deployed by `sam deploy`.
    """
    from .deploying import Writing, settings_of
    from .deploying import deploy as deploy_it
    from .stack import Options

    options = Options(
        approvals=approvals,
        slack=slack,
        email=email,
        bedrock=tuple(each.removeprefix("bedrock:") for each in bedrock or ()),
        bucket=bucket,
        invokes=tuple(invoke or ()),
        policies=tuple(policy or ()),
        secrets=tuple(secret or ()),
        settings=settings_of(env or ()),
        step_functions=step_functions,
        retention_days=retention_days,
        memory=memory,
        qualifier=qualifier,
        architecture=architecture,
        code=code,
    )
    deploy_it(target, options, Writing(output, force, stack_name), template_only)
