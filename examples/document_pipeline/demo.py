"""The whole pipeline on this machine, with no account: S3, DynamoDB and SES are moto's server.

    python examples/document_pipeline/demo.py

A contract of three pages arrives in a bucket. The run waits for you with a mail, whose link is
printed; once you have decided, what was filed is shown. `--yes` presses the button itself. The
model is the offline stand-in, which extracts sentences and does not reason; `--model bedrock:...`
asks a real one, with the credentials of your environment, and is billed.
"""

import argparse
import email
import email.policy
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sample import KNOWN, PAGES, event_of, pdf_of

BUCKET, TABLE, KEY = "documents", "counterparties", "inbox/supply agreement.pdf"
SENDER, APPROVER = "approvals@example.org", "alice@example.org"
SERVICES = ("S3", "DYNAMODB", "SESV2", "TEXTRACT")
LINK = re.compile(r"https?://\S+/review")
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description="A document, from its arrival to its release.")
    parser.add_argument("--yes", action="store_true", help="approve, instead of waiting for you")
    parser.add_argument("--model", default="offline", help="as of `llm`; offline by default")
    given = parser.parse_args()
    missing = [name for name in ("moto", "flask") if find_spec(name) is None]
    if missing:
        sys.exit(f"the demo needs {' and '.join(missing)}: pip install 'moto[server,ses]>=5.1'")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="perdure-demo-")))
        url = stack.enter_context(moto())
        configure(url, given.model)
        demonstrate(stack, folder, url, given.yes)


def demonstrate(stack: ExitStack, folder: Path, url: str, yes: bool) -> None:
    """Have a document arrive, and follow it to the end."""
    from pipeline import handler
    from start import in_journal, start_all

    from perdure.durable import LocalEngine

    event = prepare()
    engine = stack.enter_context(LocalEngine(folder / "journal.db", [handler]))
    stack.enter_context(pages(engine))
    (name,) = start_all(event, in_journal(engine))
    again = start_all(event, in_journal(engine))
    print(f"run        {name}")
    print(f"           the event came twice, and started {sum(again.values())} more")
    run = engine.get(name)
    if asks(run):
        link = show_mail(url)
        if yes:
            press(link)
        else:
            print("\nopen the link and decide; Ctrl-C ends the demo")
    show(run.result(timeout=None))


def asks(run: Any) -> bool:
    """Wait until a run ends, or asks somebody; say whether it asks."""
    from perdure.durable import Suspended
    from perdure.durable.hold import held_by

    while True:
        try:
            run.settle(timeout=600)
        except Suspended:
            held = held_by(run.operations())
            if held is not None and held.error is not None:
                sys.exit(f"held       {held.error.type}: {held.error.message}")
            if any(each.callback_id for each in run.waiting_for()):
                return True
            time.sleep(0.2)
        else:
            return False


@contextmanager
def moto() -> Iterator[str]:
    """Run moto's server meanwhile."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(url, process)
            yield url
        finally:
            process.terminate()


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    """Return once the server answers."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            DIRECT.open(f"{url}/moto-api/data.json", timeout=10).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    sys.exit("moto's server did not come up; try: python -m moto.server")


def configure(url: str, model: str) -> None:
    """Tell this process where everything is; Bedrock, if it is asked, is the real one."""
    os.environ |= {f"AWS_ENDPOINT_URL_{service}": url for service in SERVICES}
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        if model == "offline":
            os.environ[name] = "none"
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    os.environ |= {
        "PERDURE_SES_REGION": os.environ["AWS_DEFAULT_REGION"],
        "PERDURE_EMAIL_FROM": SENDER,
        "DOCUMENTS_MODEL": model,
        "DOCUMENTS_TABLE": TABLE,
        "DOCUMENTS_APPROVERS": APPROVER,
        "DOCUMENTS_VIA": "email",
    }
    os.environ.pop("PERDURE_SMTP_URL", None)


def prepare() -> dict[str, Any]:
    """Make bucket, table and sender, put a document there, and return what S3 tells of it."""
    import boto3

    s3, table, ses = (boto3.client(each) for each in ("s3", "dynamodb", "sesv2"))
    region = s3.meta.region_name
    place = {} if region == "us-east-1" else {"LocationConstraint": region}
    s3.create_bucket(Bucket=BUCKET, **({"CreateBucketConfiguration": place} if place else {}))
    table.create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "name", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "name", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    for name, risk in KNOWN.items():
        table.put_item(TableName=TABLE, Item={"name": {"S": name}, "risk": {"S": risk}})
    ses.create_email_identity(EmailIdentity=SENDER)
    put = s3.put_object(Bucket=BUCKET, Key=KEY, Body=pdf_of(PAGES))
    print(f"document   s3://{BUCKET}/{KEY}, {len(PAGES)} pages")
    return event_of(BUCKET, KEY, put["ETag"].strip('"'))


@contextmanager
def pages(engine: Any) -> Iterator[None]:
    """Serve the pages that links in mails lead to."""
    from perdure.approvals.journal import LocalCallbacks
    from perdure.approvals.office import Office
    from perdure.approvals.receiver import Receiver
    from perdure.console.web import app_of, listen, serve_on

    listener = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    os.environ["PERDURE_BASE_URL"] = url
    receiver = Receiver(Office.at(engine.home, engine.clock, url), LocalCallbacks(engine))
    with serve_on(app_of(receiver, url), listener):
        yield


def show_mail(url: str) -> str:
    """Print the last mail that SES was given, and return the link in it."""
    with DIRECT.open(f"{url}/moto-api/data.json", timeout=10) as answer:
        sent = json.load(answer)["ses"]["RawMessage"][-1]["raw_data"]
    mail = email.message_from_string(sent, policy=email.policy.default)
    body = mail.get_body(("plain",))
    text = body.get_content() if body is not None else ""
    print(f"mail       to {mail['To']}: {mail['Subject']}\n")
    print("\n".join(f"    {line}" for line in text.splitlines()))
    link = LINK.search(text)
    assert link is not None, "the mail has no link"
    return link[0]


def press(link: str) -> None:
    """Press the button that approves, as a browser without scripts would."""
    form = urllib.parse.urlencode({"decision": "approve", "comment": "from the demo"}).encode()
    with DIRECT.open(link, form, timeout=10) as answer:
        print(f"\napproved   the page answered {answer.status}")


def show(outcome: dict[str, Any]) -> None:
    """Print what was filed."""
    from services import read_json

    for name in ("result", "ledger"):
        bucket, _, key = outcome[name].removeprefix("s3://").partition("/")
        found = read_json(bucket, key)
        found = found if name == "result" else found["totals"]
        print(f"\n{name:<10} {outcome[name]}")
        print(json.dumps(found, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
