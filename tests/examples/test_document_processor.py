"""The document processor: what its plain functions give, and the whole of it on the engine."""

import email
import importlib.util
import json
import socket
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import policy
from email.message import EmailMessage
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from perdure.agents import ledger
from perdure.agents.testing import ScriptedModel
from perdure.durable import Execution, ExecutionFailedError, LocalEngine
from perdure.prompts import check_folder

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "document_processor.py"
SHIPPED = ["contract", "invoice", "minutes"]


@pytest.fixture(scope="module")
def processor() -> ModuleType:
    """The example, loaded by its path as the command line does."""
    spec = importlib.util.spec_from_file_location("document_processor", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PERDURE_SMTP_URL", raising=False)
    monkeypatch.delenv("PERDURE_EXAMPLE_FIXED", raising=False)


@pytest.fixture
def in_step(processor: ModuleType, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What `current_step()` gives, for calling a step's function outside a run."""
    step = SimpleNamespace(execution_id="doc-1", attempt=1, idempotency_key="doc-1/notify")
    monkeypatch.setattr(processor, "current_step", lambda: step)
    return step


def one_line(text: str) -> str:
    return " ".join(text.split())


def request_of(processor: ModuleType, out: Path, **fields: Any) -> Any:
    return processor.read_request({"document_id": "contract", "out": str(out), **fields})


def entities(processor: ModuleType, **named: list[str]) -> Any:
    """Entities as a model gives them, empty where nothing is said."""
    nothing: dict[str, list[str]] = {kind: [] for kind in processor.Entities.model_fields}
    return processor.Entities(**nothing | named)


def notify(processor: ModuleType, request: Any) -> tuple[dict[str, Any], EmailMessage]:
    """Run the last step on some entities; give its result and the message it wrote."""
    found = entities(processor, organisations=["Ostrel Lifts AG"], amounts=["GBP 18,240.00"])
    summary = "The buyer shall pay GBP 18,240.00 for each quarterly delivery."
    result = processor.notify(request, processor.enrich(found, request.out), summary)
    message = email.message_from_bytes(Path(result["file"]).read_bytes(), policy=policy.default)
    return result, message


def calls(out: Path) -> list[tuple[str, str]]:
    """The steps in calls.log, each with how it ended."""
    lines = (out / "calls.log").read_text().splitlines()
    return [(line.split()[1], line.rsplit("  ", 1)[1]) for line in lines]


def recorded(run: Execution, name: str) -> Any:
    """What a step of a run returned."""
    return json.loads(run.operations()[name].payload or "null")


@contextmanager
def engine_at(processor: ModuleType, folder: Path) -> Iterator[LocalEngine]:
    with LocalEngine(folder / "j.db", handlers=[processor.handler]) as engine:
        yield engine


class Mailbox:
    """What a mail server was handed."""

    def __init__(self) -> None:
        self.envelopes: list[Any] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.envelopes.append(envelope)
        return "250 OK"


@pytest.fixture
def mail_server() -> Any:
    """A real mail server on a free port: its address and its mailbox."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mailbox = Mailbox()
    controller = Controller(mailbox, hostname="127.0.0.1", port=port)
    controller.start()
    yield SimpleNamespace(url=f"smtp://127.0.0.1:{port}", mailbox=mailbox)
    controller.stop()


# extract_text


@pytest.mark.parametrize(
    ("doc_id", "words"),
    [
        ("contract", "24 tonnes of stone-ground wheat flour"),
        ("minutes", "the overhaul carries no guarantee"),
        ("invoice", "The meters carry a guarantee of three years."),
    ],
)
def test_text_comes_out_of_all_three_formats(
    processor: ModuleType, doc_id: str, words: str
) -> None:
    assert words in one_line(processor.extract_text(doc_id))


def test_a_path_names_a_document_too(processor: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "note.TXT").write_text("Five words make a sentence.")
    assert processor.extract_text(str(tmp_path / "note.TXT")) == "Five words make a sentence."


def test_an_unknown_document_lists_those_there_are(processor: ModuleType) -> None:
    with pytest.raises(FileNotFoundError, match=r"'atlas'; .*contract, invoice, minutes"):
        processor.extract_text("atlas")


def test_an_unreadable_suffix_lists_the_readable_ones(
    processor: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "note.docx").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"'\.docx'; readable: \.txt, \.md, \.pdf"):
        processor.extract_text(str(tmp_path / "note.docx"))


def test_a_file_that_is_not_utf8_is_named(processor: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"note\.txt is not UTF-8 text"):
        processor.extract_text(str(tmp_path / "note.txt"))


def test_an_empty_document_is_refused(processor: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text(" \n")
    with pytest.raises(ValueError, match="holds no text"):
        processor.extract_text(str(tmp_path / "note.txt"))


def test_a_missing_pypdf_says_how_to_install_it(
    processor: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pypdf", None)
    with pytest.raises(RuntimeError, match=r"invoice\.pdf .*pip install 'perdure\[pdf\]'"):
        processor.extract_text("invoice")


# extract_entities


@pytest.fixture(scope="module")
def finished(
    processor: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], SimpleNamespace]:
    """A finished run of a shipped document: its result, and what `enrich` made of its entities."""

    @cache
    def run_of(doc_id: str) -> SimpleNamespace:
        folder = tmp_path_factory.mktemp(doc_id)
        with engine_at(processor, folder) as engine:
            run = engine.start(processor.handler, {"document_id": doc_id, "out": str(folder)})
            result = run.result(timeout=30)
            enriched = recorded(run, "enrich")
        return SimpleNamespace(summary=result["summary"], **enriched)

    return run_of


def test_the_entities_of_the_contract_are_found(
    finished: Callable[[str], SimpleNamespace],
) -> None:
    contract = finished("contract")
    assert contract.organisations == [
        "Quillmoss Mills Ltd",
        "Tarnbrook Bakery Cooperative",
        "Ostrel Haulage GmbH",
    ]
    assert contract.people == []
    assert contract.dates == ["2 March 2026", "16 February 2026", "31 December 2026"]
    assert contract.amounts == ["18240.00 GBP", "350.00 GBP"]
    assert contract.emails == ["accounts@tarnbrook.example", "contracts@quillmoss.example"]
    assert len(contract.companies) == 3


def test_the_entities_of_the_minutes_and_the_invoice_are_found(
    finished: Callable[[str], SimpleNamespace],
) -> None:
    minutes, invoice = finished("minutes"), finished("invoice")
    assert minutes.organisations == [
        "Ferrowick Housing Association",
        "Ostrel Lifts AG",
        "Pellbridge Repairs Ltd",
    ]
    assert minutes.dates == ["2026-04-14", "1 June 2026", "30 April 2026", "14 July 2026"]
    assert minutes.amounts[-2:] == ["6850.00 CHF", "3120 EUR"]
    assert invoice.organisations == ["Vellamoor Instruments Inc", "Tarnbrook Bakery Cooperative"]
    assert invoice.amounts == ["1480.00 USD", "620.00 USD", "85.50 USD", "2185.50 USD"]


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("$5", "5 USD"),
        ("£1,000,000.50", "1000000.50 GBP"),
        ("12.50 €", "12.50 EUR"),
        ("EUR 30", "30 EUR"),
        ("18240.00 GBP", "18240.00 GBP"),
    ],
)
def test_amounts_are_read_as_they_are_written(
    processor: ModuleType, written: str, plain: str
) -> None:
    assert entities(processor, amounts=[written]).amounts == [plain]


@pytest.mark.parametrize("written", ["EUR 1.240,00", "about 5 EUR", "3 euros", "350", "2 %", "EUR"])
def test_an_amount_that_could_be_misread_is_refused(processor: ModuleType, written: str) -> None:
    with pytest.raises(ValueError, match="amounts"):
        entities(processor, amounts=[written])


def test_a_model_that_writes_an_amount_otherwise_is_asked_again(
    processor: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [
        {"tool": "Entities", "args": {**entities(processor).model_dump(), "amounts": [amount]}}
        for amount in ("about 3,120 euros", "3,120 EUR")
    ]
    model = ScriptedModel([*answers, "The lift is repaired."])
    monkeypatch.setattr(processor, "resolve", lambda name: SimpleNamespace(chat=model))
    with engine_at(processor, tmp_path) as engine:
        run = engine.start(processor.handler, {"document_id": "minutes", "out": str(tmp_path)})
        assert run.result(timeout=30)["summary"] == "The lift is repaired."
        assert recorded(run, "enrich")["amounts"] == ["3120 EUR"]
        assert ledger(run).totals.calls == 3
    assert "amounts.0" in model.requests[1].messages[-1]["content"]
    assert calls(tmp_path)[1:3] == [("extract_entities", "done")] * 2


# enrich


def test_companies_and_rates_come_from_the_register(processor: ModuleType, tmp_path: Path) -> None:
    found = entities(
        processor,
        organisations=["Ferrowick Housing Association", "Pellbridge Repairs Ltd"],
        amounts=["CHF 6,850.00", "900 JPY"],
    )
    enriched = processor.enrich(found, tmp_path)
    assert [company["number"] for company in enriched["companies"]] == ["IE-058812"]
    assert enriched["euros"] == {"6850.00 CHF": "7135.42"}
    assert enriched["amounts"] == ["6850.00 CHF", "900 JPY"]


def test_the_register_is_built_once_and_whole(processor: ModuleType, tmp_path: Path) -> None:
    processor.open_register(tmp_path).close()
    (built,) = tmp_path.iterdir()
    before = built.stat().st_mtime_ns
    register = processor.open_register(tmp_path)
    assert (built.stat().st_mtime_ns, list(tmp_path.iterdir())) == (before, [built])
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        register.execute("DELETE FROM company")
    register.close()


# summarize


@pytest.mark.parametrize("doc_id", SHIPPED)
def test_each_sentence_of_an_offline_summary_stands_in_the_text(
    processor: ModuleType, finished: Callable[[str], SimpleNamespace], doc_id: str
) -> None:
    text = one_line(processor.extract_text(doc_id))
    summary = finished(doc_id).summary.splitlines()
    assert len(summary) == 3
    assert all(sentence in text for sentence in summary)
    assert sorted(summary, key=text.index) == summary


def test_the_prompts_break_no_rule() -> None:
    assert check_folder(EXAMPLE.parent / "prompts") == []


# notify


def test_the_notice_is_a_message_a_mail_program_can_read(
    processor: ModuleType, tmp_path: Path, in_step: SimpleNamespace
) -> None:
    request = request_of(processor, tmp_path, user_email="treasurer@example.org")
    result, message = notify(processor, request)
    assert result["sent"] is False
    assert message["To"] == "treasurer@example.org"
    assert not message.defects
    body = message.get_content()
    assert "The buyer shall pay GBP 18,240.00" in one_line(body)
    assert "18240.00 GBP is 22800.00 EUR" in body


def test_a_notice_sent_again_bears_the_same_message_id(
    processor: ModuleType, tmp_path: Path, in_step: SimpleNamespace
) -> None:
    request = request_of(processor, tmp_path)
    first, again = notify(processor, request), notify(processor, request)
    in_step.idempotency_key = "doc-2/notify"
    other = notify(processor, request)
    assert first[0]["file"] == again[0]["file"]
    assert first[1]["Message-ID"] == again[1]["Message-ID"] != other[1]["Message-ID"]


@pytest.mark.parametrize("by", ["input", "environment"])
def test_a_mail_server_gets_the_notice(
    processor: ModuleType,
    tmp_path: Path,
    in_step: SimpleNamespace,
    mail_server: Any,
    monkeypatch: pytest.MonkeyPatch,
    by: str,
) -> None:
    if by == "environment":
        monkeypatch.setenv("PERDURE_SMTP_URL", mail_server.url)
    fields = {"smtp": mail_server.url} if by == "input" else {}
    result, written = notify(processor, request_of(processor, tmp_path, **fields))
    (envelope,) = mail_server.mailbox.envelopes
    received = email.message_from_bytes(envelope.content, policy=policy.default)
    assert result["sent"] is True
    assert envelope.rcpt_tos == ["reader@example.com"]
    assert received["Message-ID"] == written["Message-ID"]
    assert one_line(received.get_content()) == one_line(written.get_content())


def test_a_password_is_not_sent_without_tls(
    processor: ModuleType, tmp_path: Path, in_step: SimpleNamespace, mail_server: Any
) -> None:
    address = mail_server.url.replace("//", "//user:secret@")
    with pytest.raises(Exception, match="STARTTLS extension not supported"):
        notify(processor, request_of(processor, tmp_path, smtp=address))
    assert mail_server.mailbox.envelopes == []


def test_another_kind_of_mail_address_is_refused(
    processor: ModuleType, tmp_path: Path, in_step: SimpleNamespace
) -> None:
    with pytest.raises(ValueError, match="smtp://host:port"):
        notify(processor, request_of(processor, tmp_path, smtp="localhost:25"))


# The input


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({}, r"document_id: Field required.*contract, invoice, minutes"),
        ([], r"input: .*valid dictionary"),
        ({"document_id": "contract", "fail-at": "notify"}, r"fail-at: Extra inputs"),
        ({"document_id": "contract", "fail_at": "sumarize"}, r"fail_at: .*'summarize'"),
        ({"document_id": "contract", "slow": -1}, r"slow"),
        ({"document_id": "contract", "budget_usd": -1}, r"budget_usd"),
    ],
)
def test_a_wrong_input_is_told_what_is_wrong(processor: ModuleType, event: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        processor.read_request(event)


@pytest.mark.parametrize(("slow", "seconds"), [(True, 3), (False, 0), (1, 1), (0.5, 0.5), (7, 7)])
def test_slow_is_a_switch_or_a_number_of_seconds(
    processor: ModuleType,
    tmp_path: Path,
    in_step: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    slow: bool | float,
    seconds: float,
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(processor.time, "sleep", slept.append)
    request = request_of(processor, tmp_path, slow=slow)
    processor.perform(request, processor.extract_text, "contract")
    assert slept == [seconds]
    processor.Watched(request, "summarize").invoke("Be brief.")
    assert slept[1] == seconds


# The whole handler

STEPS = ["extract_text", "extract_entities", "enrich", "summarize", "notify"]


@pytest.mark.parametrize("doc_id", SHIPPED)
def test_the_five_operations_run_once_each(
    processor: ModuleType, tmp_path: Path, doc_id: str
) -> None:
    event = {"document_id": doc_id, "out": str(tmp_path / "out")}
    with engine_at(processor, tmp_path) as engine:
        result = engine.start(processor.handler, event, id="doc-1").result(timeout=30)
        again = engine.start(processor.handler, event, id="doc-1").result(timeout=30)
    assert result == again
    assert (result["status"], result["doc_id"]) == ("complete", doc_id)
    assert Path(result["notice"]["file"]).is_file()
    assert calls(tmp_path / "out") == [(name, "done") for name in STEPS]


@pytest.mark.parametrize("failing", STEPS)
def test_a_run_that_failed_goes_on_where_it_stopped(
    processor: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    monkeypatch.setitem(processor.RETRY, "initial_delay", 0)
    event = {"document_id": "minutes", "fail_at": failing, "out": str(tmp_path / "out")}
    with engine_at(processor, tmp_path) as engine:
        run = engine.start(processor.handler, event, id="doc-1")
        with pytest.raises(ExecutionFailedError, match=f"asked to fail at '{failing}'"):
            run.result(timeout=30)
        monkeypatch.setenv("PERDURE_EXAMPLE_FIXED", "1")
        assert engine.resume("doc-1").result(timeout=30)["status"] == "complete"
    tries = 3 if failing in ("extract_entities", "summarize") else 1
    at = STEPS.index(failing)
    assert calls(tmp_path / "out") == [
        *((name, "done") for name in STEPS[:at]),
        *[(failing, "failed: AskedToFail")] * tries,
        *((name, "done") for name in STEPS[at:]),
    ]


def test_the_model_is_asked_twice_and_not_again_when_the_run_is_resumed(
    processor: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = {"document_id": "contract", "fail_at": "notify", "out": str(tmp_path / "out")}
    with engine_at(processor, tmp_path) as engine:
        run = engine.start(processor.handler, event, id="doc-1")
        with pytest.raises(ExecutionFailedError):
            run.result(timeout=30)
        paid = ledger(run)
    monkeypatch.setenv("PERDURE_EXAMPLE_FIXED", "1")
    monkeypatch.setattr(processor, "resolve", None)  # whoever makes a model now fails
    with engine_at(processor, tmp_path) as engine:
        run = engine.resume("doc-1")
        run.result(timeout=30)
        after = ledger(run)
    assert list(paid.by_step) == list(after.by_step) == ["extract_entities", "summarize"]
    assert paid.totals.calls == after.totals.calls == 2
    assert paid.totals.usd == after.totals.usd > 0
    assert after.totals.saved_calls > paid.totals.saved_calls
    assert after.sources == ["simulated"]


def test_a_model_call_that_failed_before_it_was_sent_costs_nothing(
    processor: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(processor.RETRY, "initial_delay", 0)
    event = {"document_id": "invoice", "fail_at": "extract_entities", "out": str(tmp_path)}
    with engine_at(processor, tmp_path) as engine:
        run = engine.start(processor.handler, event)
        with pytest.raises(ExecutionFailedError):
            run.result(timeout=30)
        totals = ledger(run).totals
    assert (totals.free, totals.attempts) == (3, 0)


def test_a_budget_asks_before_it_is_broken(processor: ModuleType, tmp_path: Path) -> None:
    event = {"document_id": "contract", "budget_usd": 0.001, "out": str(tmp_path)}
    with engine_at(processor, tmp_path) as engine:
        run = engine.start(processor.handler, event)
        wait_until(lambda: "budget" in run.operations())
        assert calls(tmp_path) == [("extract_text", "done")]
        engine.send(run.id, "budget", {"usd": 0.5})
        assert run.result(timeout=30)["status"] == "complete"
        assert ledger(run).totals.calls == 2


def wait_until(happened: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
