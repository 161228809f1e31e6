"""The template that `deploy` writes: it passes cfn-lint, allows little and holds no secret."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from perdure.approvals import office
from perdure.approvals.mail import channel
from perdure.console.stack import Function, Options, template
from perdure.console.yaml_tags import dump
from perdure.durable.aws import offload, secrets

from .stacks import Template, found_by_cfn_lint, pairwise, read, roles, statements, without_sam

PROFILE = "us.anthropic.claude-sonnet-4-20250514-v1:0"
MODEL = "amazon.nova-lite-v1:0"
OWN = "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/abc123"
POLICY = "arn:aws:iam::123456789012:policy/read-documents"
SECRET = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:openai-AbCdEf"
PARAMETER = "arn:aws:ssm:eu-west-1:123456789012:parameter/settings"
ONE = Function("FlowHandler", "flow-handler", "flow.handler", 600)
TWO = Function("FlowOther", "flow-other", "flow.other", 31_622_400)
ASKING: dict[str, dict[str, Any]] = {
    "none": {"approvals": False},
    "page": {},
    "slack": {"slack": True},
    "mail": {"email": "a@example.org"},
    "both": {"slack": True, "email": "a@example.org"},
}
ALLOWED = {
    "WriteLogs": {"logs:CreateLogStream", "logs:PutLogEvents"},
    "KeepItsRuns": {
        "lambda:CheckpointDurableExecution",
        "lambda:GetDurableExecutionState",
        "lambda:SendDurableExecutionCallbackFailure",
    },
    "DecideRuns": {
        "lambda:SendDurableExecutionCallbackSuccess",
        "lambda:GetDurableExecutionHistory",
    },
    "KeepLargeValues": {"s3:GetObject", "s3:PutObject"},
    "ReadKeys": {"secretsmanager:GetSecretValue"},
    "ReadSecrets": {"secretsmanager:GetSecretValue"},
    "ReadParameters": {"ssm:GetParameter"},
    "ReadSlack": {"secretsmanager:GetSecretValue", "ssm:GetParameter"},
    "SendMail": {"ses:SendEmail", "ses:SendRawEmail"},
    "AskModel": {"bedrock:InvokeModel", "bedrock:InvokeModelWithResponseStream"},
    "InvokeFunctions": {"lambda:InvokeFunction"},
    "ReportTask": {"states:SendTaskSuccess", "states:SendTaskFailure"},
}
EVERYTHING = Options(
    slack=True,
    email="a@example.org",
    bedrock=(PROFILE, MODEL, OWN),
    invokes=("other",),
    policies=(POLICY,),
    secrets=(SECRET,),
    step_functions=True,
)


def templates() -> list[Template]:
    """Templates of options that meet each other in pairs."""
    combined = pairwise(
        {
            "functions": [[ONE], [ONE, TWO]],
            "asking": list(ASKING),
            "bedrock": [(), (MODEL,), (PROFILE,), (OWN, MODEL)],
            "bucket": [True, False],
            "invokes": [(), ("other",)],
            "policies": [(), (POLICY,)],
            "secrets": [(), (SECRET,), (PARAMETER, SECRET)],
            "settings": [(), (("MODEL", "x"), ("EMPTY", ""))],
            "step_functions": [True, False],
            "architecture": ["x86_64", "arm64"],
            "retention_days": [1, 90],
        }
    )
    made = []
    for each in combined:
        functions, asking = each.pop("functions"), each.pop("asking")
        made.append(template(functions, Options(**ASKING[asking], **each)))
    return made


def everything(options: Options = EVERYTHING) -> Template:
    return read(dump(template([ONE, TWO], options)))


def deployed(shell: Any, *words: str, **more: Any) -> Template:
    """The template that the command writes."""
    done = shell("deploy", *words, "--template-only", "--output", "-", **more)
    return read(done.stdout)


def functions_of(template: Template) -> dict[str, dict[str, Any]]:
    return {
        name: each["Properties"]
        for name, each in template["Resources"].items()
        if each["Type"] == "AWS::Serverless::Function"
    }


def test_each_combination_of_options_passes_cfn_lint(tmp_path: Path) -> None:
    made = templates()
    assert len(made) >= 20
    files = []
    for number, each in enumerate(made):
        sam, plain = tmp_path / f"{number}.yaml", tmp_path / f"{number}.json"
        text = dump(each)
        sam.write_text(text)
        plain.write_text(json.dumps(without_sam(read(text))))
        files += [sam, plain]
    assert found_by_cfn_lint(files).strip() == ""


def test_cfn_lint_would_find_a_mistake(tmp_path: Path) -> None:
    broken = everything()
    broken["Resources"]["FlowHandlerFunction"]["Properties"]["DurableConfig"] = {}
    file = tmp_path / "broken.json"
    file.write_text(json.dumps(broken))
    assert "ExecutionTimeout" in found_by_cfn_lint([file])


def test_the_file_that_the_command_writes_passes_cfn_lint(perdure: Any) -> None:
    perdure("deploy", "flow.py", "--template-only", "--slack", "--email", "a@example.org")
    assert found_by_cfn_lint([perdure.folder / "template.yaml"]).strip() == ""


def test_no_role_may_do_more_than_it_does() -> None:
    made = everything()
    for role in roles(made):
        for each in statements(made, role):
            assert each["Effect"] == "Allow"
            sid = re.sub(r"\d+(ByProfile)?$", "", each["Sid"])
            assert set(each["Action"]) <= ALLOWED[sid]
            assert not [action for action in each["Action"] if "*" in action]


def test_only_what_aws_knows_no_resource_for_names_them_all() -> None:
    made = everything()
    open_ = [
        each["Sid"]
        for role in roles(made)
        for each in statements(made, role)
        if "*" in each["Resource"]
    ]
    assert open_ == ["ReportTask", "ReportTask"]


def test_a_model_behind_a_profile_is_asked_through_the_profile_alone() -> None:
    made = everything(Options(bedrock=(PROFILE,)))
    stated = {each["Sid"]: each for each in statements(made, "FlowHandlerRole")}
    through = stated["AskModel1ByProfile"]["Condition"]["StringEquals"]
    assert [through["bedrock:InferenceProfileArn"]] == stated["AskModel1"]["Resource"]


def test_permissions_on_runs_match_runs_and_not_the_bare_function() -> None:
    made = everything()
    for role, sid, names in (
        ("FlowHandlerRole", "KeepItsRuns", ["FlowHandlerName"]),
        ("FlowOtherRole", "KeepItsRuns", ["FlowOtherName"]),
        ("ReceiverRole", "DecideRuns", ["FlowHandlerName", "FlowOtherName"]),
    ):
        (stated,) = [each for each in statements(made, role) if each["Sid"] == sid]
        ends = [f":function:${{{name}}}:*" for name in names]
        resources = [each["Fn::Sub"] for each in stated["Resource"]]
        assert all(map(str.endswith, resources, ends))
        assert len(resources) == len(ends)


def test_a_handler_that_asks_nobody_may_neither_read_a_secret_nor_close_a_callback() -> None:
    made = everything(Options(approvals=False, bucket=False))
    assert [each["Sid"] for each in statements(made, "FlowHandlerRole")] == [
        "WriteLogs",
        "KeepItsRuns",
    ]
    assert "CallbackFailure" not in json.dumps(made)
    assert "Receiver" not in json.dumps(made)
    assert "Environment" not in functions_of(made)["FlowHandlerFunction"]


def test_the_url_of_the_receiver_is_open_by_both_permissions_and_nothing_else_is() -> None:
    resources = everything()["Resources"]
    (url,) = [each for each in resources.values() if each["Type"] == "AWS::Lambda::Url"]
    assert url["Properties"]["AuthType"] == "NONE"
    opened = {
        each["Properties"]["Action"]: each["Properties"]
        for each in resources.values()
        if each["Type"] == "AWS::Lambda::Permission"
    }
    assert set(opened) == {"lambda:InvokeFunctionUrl", "lambda:InvokeFunction"}
    assert opened["lambda:InvokeFunction"]["InvokedViaFunctionUrl"] is True
    assert opened["lambda:InvokeFunctionUrl"]["FunctionUrlAuthType"] == "NONE"
    assert all(each["FunctionName"] == {"Ref": "Receiver"} for each in opened.values())


def test_a_function_finds_the_receiver_the_bucket_and_the_secrets() -> None:
    made = everything()
    variables = functions_of(made)["FlowHandlerFunction"]["Environment"]["Variables"]
    here = {"Fn::GetAtt": ["ReceiverUrl", "FunctionUrl"]}
    assert variables["PERDURE_BASE_URL"] == {"Fn::If": ["HasBaseUrl", {"Ref": "BaseUrl"}, here]}
    assert variables["PERDURE_S3_BUCKET"] == {"Ref": "Values"}
    arns = [{"Ref": "ApprovalKeys"}, {"Ref": "SlackSecretArn"}]
    assert variables["PERDURE_SECRETS_ARN"] == {"Fn::Join": [",", [*arns, SECRET]]}
    assert variables["PERDURE_EMAIL_FROM"] == "a@example.org"
    receiver = functions_of(made)["Receiver"]["Environment"]["Variables"]
    assert receiver["PERDURE_SECRETS_ARN"] == {"Fn::Join": [",", arns]}
    assert "PERDURE_EMAIL_FROM" not in receiver


def test_the_bucket_is_private_and_keeps_a_value_longer_than_a_run_is_remembered() -> None:
    (bucket,) = [
        each
        for each in everything(Options(retention_days=30))["Resources"].values()
        if each["Type"] == "AWS::S3::Bucket"
    ]
    properties = bucket["Properties"]
    assert all(properties["PublicAccessBlockConfiguration"].values())
    assert properties["BucketEncryption"]
    (rule,) = properties["LifecycleConfiguration"]["Rules"]
    assert rule["ExpirationInDays"] > 366 + 30
    assert bucket["DeletionPolicy"] == "Retain"


def test_logs_are_kept_as_long_as_the_history() -> None:
    for days in (1, 14, 15, 61, 90):
        made = everything(Options(retention_days=days))["Resources"]
        logs = [each for each in made.values() if each["Type"] == "AWS::Logs::LogGroup"]
        assert len(logs) == 3
        assert all(each["Properties"]["RetentionInDays"] >= days for each in logs)


def test_no_secret_of_the_environment_is_in_the_template(perdure: Any) -> None:
    canary = "canary-0123456789-0123456789-0123456789"
    names = (
        "PERDURE_APPROVAL_KEYS",
        "SLACK_BOT_TOKEN",
        "SLACK_SIGNING_SECRET",
        "SLACK_APP_TOKEN",
        "PERDURE_SMTP_PASSWORD",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
    )
    words = ("flow.py", "--template-only", "--slack", "--email", "a@example.org")
    done = perdure("deploy", *words, **dict.fromkeys(names, canary))
    text = (perdure.folder / "template.yaml").read_text()
    assert canary not in text + done.stdout + done.stderr
    key = read(text)["Resources"]["ApprovalKeys"]["Properties"]
    assert "SecretString" not in key
    assert key["GenerateSecretString"]["PasswordLength"] >= 32


def test_a_secret_given_as_a_setting_is_refused_and_not_repeated(perdure: Any) -> None:
    for name in ("SLACK_BOT_TOKEN", "PERDURE_APPROVAL_KEYS", "OPENAI_API_KEY", "db_password"):
        words = ("flow.py", "--template-only", "--env", f"{name}=canary")
        done = perdure("deploy", *words, code=2)
        assert f"--env {name} would stand in the template" in done.stderr
        assert "canary" not in done.stderr
    assert not (perdure.folder / "template.yaml").exists()


def test_settings_of_the_steps_reach_the_function_alone(perdure: Any) -> None:
    made = deployed(perdure, "flow.py:asks", "--env", "MODEL=a=b", "--env", "MODEL=c=d")
    functions = functions_of(made)
    assert functions["FlowAsksFunction"]["Environment"]["Variables"]["MODEL"] == "c=d"
    assert "MODEL" not in functions["Receiver"]["Environment"]["Variables"]


def test_each_handler_of_a_file_becomes_a_function(perdure: Any) -> None:
    made = deployed(perdure, "flow.py", "--no-approvals")
    handlers = {each["Handler"] for each in functions_of(made).values()}
    assert handlers == {"flow.handler", "flow.asks", "flow.fails", "flow.naps"}
    names = [each["Default"] for each in made["Parameters"].values()]
    assert names == ["flow-handler", "flow-asks", "flow-fails", "flow-naps"]


def test_the_handler_that_is_named_becomes_the_only_one(perdure: Any) -> None:
    made = deployed(perdure, "flow.py:asks", "--no-approvals")
    assert [each["Handler"] for each in functions_of(made).values()] == ["flow.asks"]


def test_a_function_is_configured_as_its_handler_says(perdure: Any) -> None:
    perdure.write(
        "timed.py",
        "from perdure.durable import Duration, durable_execution\n"
        "@durable_execution(timeout=Duration.from_hours(2), name='a name')\n"
        "def work(event, context):\n    return 1\n",
    )
    words = ("--retention-days", "7", "--memory", "512", "--qualifier", "prod")
    made = deployed(perdure, "timed.py:a name", *words, "--architecture", "arm64", "--code", "out")
    function = functions_of(made)["TimedWorkFunction"]
    assert function["Handler"] == "timed.work"
    assert function["DurableConfig"] == {"ExecutionTimeout": 7200, "RetentionPeriodInDays": 7}
    assert function["AutoPublishAlias"] == "prod"
    assert (function["MemorySize"], function["Timeout"]) == (512, 900)
    assert (function["Runtime"], function["Architectures"]) == ("python3.13", ["arm64"])
    assert function["CodeUri"] == "out"


@pytest.mark.parametrize("target", ["flow.py", "deep.flows"])
def test_lambda_finds_the_handlers_that_the_template_names(perdure: Any, target: str) -> None:
    perdure.write("deep/__init__.py", "")
    perdure.write("deep/flows.py", (perdure.folder / "flow.py").read_text())
    made = deployed(perdure, target, "--no-approvals")
    for each in functions_of(made).values():
        assert is_handler(each["Handler"], perdure.folder)


def test_lambda_finds_the_receiver_that_the_template_names(tmp_path: Path) -> None:
    assert is_handler(functions_of(everything())["Receiver"]["Handler"], tmp_path)


def test_each_setting_of_the_template_is_one_that_is_read() -> None:
    made = functions_of(everything()).values()
    assert {name for each in made for name in each["Environment"]["Variables"]} == {
        offload.BUCKET,
        offload.PREFIX,
        secrets.VARIABLE,
        office.VARIABLE,
        channel.FROM,
        channel.REGION,
    }


def is_handler(handler: str, folder: Path) -> bool:
    """Whether Lambda, started in this folder, could call it."""
    module, _, name = handler.rpartition(".")
    code = (
        f"import importlib; print(callable(getattr(importlib.import_module({module!r}), {name!r})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip() == "True"


def test_handlers_whose_names_differ_little_get_functions_of_their_own(perdure: Any) -> None:
    body = "@durable_execution(name='n{}')\ndef {}(event, context):\n    return 1\n"
    names = ("a_b", "aB", "a__b", "é", "ö")
    bodies = "".join(body.format(number, name) for number, name in enumerate(names))
    perdure.write("odd.py", f"from perdure.durable import durable_execution\n{bodies}")
    made = deployed(perdure, "odd.py", "--no-approvals")
    functions = functions_of(made)
    assert {each["Handler"] for each in functions.values()} == {f"odd.{name}" for name in names}
    assert len({each["Default"] for each in made["Parameters"].values()}) == len(names)


def test_a_template_that_is_there_is_kept_unless_told_otherwise(perdure: Any) -> None:
    file = perdure.write("template.yaml", "mine")
    said = perdure("deploy", "flow.py", "--template-only", code=2).stderr
    assert said == "error: template.yaml is there already; --force writes over it\n"
    assert file.read_text() == "mine"
    perdure("deploy", "flow.py", "--template-only", "--force")
    assert "AWS::Serverless::Function" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert [each for each in os.listdir(perdure.folder) if each.startswith(".template")] == []


def test_what_is_written_says_how_to_deploy_it(perdure: Any) -> None:
    done = perdure("deploy", "flow.py:asks", "--template-only", "--stack-name", "mine")
    command = (
        "sam deploy --template-file template.yaml --stack-name mine "
        "--capabilities CAPABILITY_IAM --resolve-s3"
    )
    assert command in done.stderr
    assert "flow-asks:live runs flow.asks" in done.stderr
    assert f"#   {command}\n" in (perdure.folder / "template.yaml").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["flow.py"], "add --template-only, and then: sam deploy --template-file template.yaml"),
        (["nofile.py"], "nofile.py does not exist"),
        (["flow.py:nobody"], "no handler 'nobody'; it has handler, asks, fails, naps"),
        (["empty.py"], "empty.py holds no handler: decorate a function"),
        (["a.b.py"], "Lambda cannot import a.b.py"),
        (["flow.py", "--slack", "--no-approvals"], "--slack is a way to ask people"),
        (["flow.py", "--no-approvals", "--email", "a@x.org"], "--email is a way to ask people"),
        (["flow.py", "--email", "alice"], "--email is an address, like a@example.org; this is"),
        (["flow.py", "--email", "a@x.org${AWS::Region}"], "--email is an address"),
        (["flow.py", "--bedrock", "*"], "--bedrock is a model's or an inference profile's id"),
        (["flow.py", "--invoke", "f:live"], "--invoke is a function's name, without its alias"),
        (["flow.py", "--secret", "*"], "--secret is the ARN of a secret or of a parameter"),
        (["flow.py", "--env", "MODEL"], "--env is NAME=VALUE"),
        (["flow.py", "--env", "AWS_REGION=x"], "--env is NAME=VALUE, and no name of AWS's own"),
        (["flow.py", "--policy", "*"], "--policy is the ARN of an IAM policy"),
        (["flow.py", "--qualifier", "3"], "--qualifier is an alias, like live, and no version"),
        (["flow.py", "--qualifier", "$LATEST"], "--qualifier is an alias"),
        (["flow.py", "--architecture", "mips"], "--architecture is x86_64 or arm64, not 'mips'"),
        (["flow.py", "--stack-name", "a b"], "--stack-name is letters, digits and hyphens"),
        (["flow.py", "--retention-days", "91"], "--retention-days"),
        (["flow.py", "--memory", "64"], "--memory"),
        (["flow.py", "--output", "none/template.yaml"], "cannot be written: No such file"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(shared: Any, words: list[str], said: str) -> None:
    shared.write("empty.py", "")
    shared.write("a.b.py", (shared.folder / "flow.py").read_text())
    more = [] if words == ["flow.py"] else ["--template-only"]
    done = shared("deploy", *words, *more, code=2)
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(shared.folder.glob("*.yaml"))
