"""The codec keeps a value faithfully, type included, or refuses it by name, place and cure."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import types
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from contextlib import suppress
from dataclasses import InitVar, dataclass, field, fields, is_dataclass, make_dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, IntFlag, StrEnum
from functools import cached_property
from math import inf, nan
from pathlib import Path, PurePosixPath, PureWindowsPath
from threading import Lock
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, RootModel, field_validator
from pydantic.dataclasses import dataclass as pydantic_dataclass

from perdure.durable.codec import MAX_DEPTH, Codec, arguments_digest
from perdure.durable.errors import SerializationError
from perdure.durable.leaves import leaf_readers

STEP = "step 'extract'"
T = TypeVar("T")


class Color(Enum):
    RED = (255, 0, 0)
    BLUE = (0, 0, 255)
    ROUGE = RED


class Size(StrEnum):
    SMALL = "s"


class Level(IntEnum):
    LOW = 1


class Shop:
    class Kind(Enum):
        BOOKS = "books"


class Access(IntFlag):
    READ = 1
    WRITE = 2


@dataclass(frozen=True, slots=True)
class Point:
    x: Any
    y: Any = 0


@dataclass(eq=False)
class Order:
    lines: Any
    factor: InitVar[int] = 2
    total: int = field(init=False, default=0)

    def __post_init__(self, factor: int) -> None:
        self.total += factor

    @cached_property
    def label(self) -> str:
        return "order"


@pydantic_dataclass
class Checked:
    n: int


class Envelope(BaseModel):
    content: Any
    label: str = "none"


class Line(BaseModel):
    model_config = ConfigDict(extra="allow", use_enum_values=True)

    sku: str = Field(alias="SKU")
    at: datetime
    price: Decimal = Decimal("1.00")
    size: Size | None = None
    note: str = None  # type: ignore[assignment]


class Invoice(BaseModel):
    lines: list[Line]
    by: dict[str, Point] = {}


class Names(RootModel[list[str]]):
    pass


class Box(BaseModel, Generic[T]):
    item: T


class Secretive(BaseModel):
    name: str
    key: str = Field(default="none", exclude=True)
    _calls: int = PrivateAttr(default=0)
    _cache: dict[str, int] = PrivateAttr(default_factory=dict)


class Shouting(BaseModel):
    text: str

    @field_validator("text")
    @classmethod
    def louder(cls, text: str) -> str:
        return text + "!"


Pair = namedtuple("Pair", "a b")


class Text(str):
    __slots__ = ()


class Number(int):
    pass


@pytest.fixture
def codec() -> Codec:
    return Codec(__name__)


def replayed(value: Any, returns: Any = None) -> Any:
    """Return what replay gives for `value`; the first pass gives the same."""
    codec = Codec(__name__)
    text, copy = codec.roundtrip(value, where=STEP, returns=returns)
    again = codec.decode(text, where=STEP, returns=returns)
    assert identical(again, copy)
    assert codec.encode(again, where=STEP, returns=returns) == text
    return again


def refusal(value: Any, returns: Any = None, codec: Codec | None = None) -> str:
    with pytest.raises(SerializationError) as caught:
        (codec or Codec(__name__)).encode(value, where=STEP, returns=returns)
    return str(caught.value)


def misfit(text: str, returns: Any = None, codec: Codec | None = None) -> str:
    with pytest.raises(SerializationError) as caught:
        (codec or Codec(__name__)).decode(text, where=STEP, returns=returns)
    return str(caught.value)


def record(kind: str, **parts: Any) -> str:
    return json.dumps({"$perdure": kind, **parts})


def identical(one: Any, two: Any) -> bool:
    """Tell whether two values are equal with their types at every depth, NaN equal to NaN."""
    if type(one) is not type(two):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(identical, one, two))
    if isinstance(one, set | frozenset):
        rest = list(two)
        for each in one:
            twin = next((i for i, other in enumerate(rest) if identical(each, other)), None)
            if twin is None:
                return False
            del rest[twin]
        return not rest
    if isinstance(one, dict):
        return identical(list(one.items()), list(two.items()))
    if isinstance(one, BaseModel):
        return identical(state(one), state(two))
    if is_dataclass(one):
        names = [each.name for each in fields(one)]
        return all(identical(getattr(one, name), getattr(two, name)) for name in names)
    if isinstance(one, datetime | time):
        zones = identical(type(one.tzinfo), type(two.tzinfo))
        return repr(one) == repr(two) and zones and one.fold == two.fold
    if isinstance(one, float | Decimal):
        return repr(one) == repr(two)
    return bool(one == two)


def state(model: BaseModel) -> Any:
    held = {name: model.__dict__[name] for name in type(model).model_fields}
    hidden = (model.__pydantic_extra__, model.__pydantic_private__, model.model_fields_set)
    return held, *hidden


def placed(module: str, cls: Any) -> Any:
    """Give a class the module it would have if it stood there."""
    cls.__module__ = module
    return cls


def install(monkeypatch: pytest.MonkeyPatch, name: str, source: str) -> types.ModuleType:
    """Put a module of the user's in place, or a newer version of it."""
    module = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(source, module.__dict__)
    return module


# What plain JSON holds


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -7,
        10**100,
        0.1,
        -0.0,
        1e300,
        "",
        'é 😀 \u2028 \x00 "',
        [],
        {},
        [1, [2.5, None], {"a": {"b": [False]}}],
        {"z": 1, "a": "tag: $perdure"},
    ],
)
def test_what_plain_json_holds_is_kept_as_exactly_that_json(codec: Codec, value: Any) -> None:
    assert codec.encode(value, where=STEP) == json.dumps(value, ensure_ascii=False)
    assert identical(replayed(value), value)


def test_the_caller_gets_a_copy_so_that_changing_it_changes_no_record(codec: Codec) -> None:
    value = {"items": [1]}
    _, copy = codec.roundtrip(value, where=STEP)
    assert copy == value
    assert copy is not value
    assert copy["items"] is not value["items"]


# What plain JSON lacks


BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    "value",
    [
        (),
        (1, (2,)),
        {1, 2},
        set(),
        frozenset({"a", (1, "b")}),
        nan,
        [inf, -inf],
        b"",
        b"\x00\xff",
        date.max,
        datetime(1, 1, 1),
        datetime(2026, 11, 24, 10, 0, 0, 1, tzinfo=UTC),
        datetime(2026, 10, 25, 2, 30, fold=1),
        datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1),
        datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1), "CET")),
        datetime(2026, 1, 1, tzinfo=timezone(timedelta(0), "\ud800")),
        datetime(2026, 1, 1, tzinfo=timezone(-timedelta(hours=1, microseconds=1))),
        time(1, 2, 3, tzinfo=BERLIN),
        time(1, 2, tzinfo=timezone(timedelta(hours=5, minutes=30)), fold=1),
        timedelta(-1, 3, 4),
        timedelta.max,
        Decimal("1.00"),
        Decimal("-0E+5"),
        Decimal("sNaN12"),
        UUID(int=7),
        Path("/tmp/é\udcff"),
        PurePosixPath("a/../b"),
        PureWindowsPath("C:\\a\\b"),
        "\ud800 and \ud83d\ude00, not 😀",
        {"\udfff": 1},
        {1: "int", "1": "str", None: 0, (1, 2): 3, 2.5: 4},
        {date.min: {1: {2}}},
        Color.RED,
        Color.ROUGE,
        Size.SMALL,
        Level.LOW,
        Access.READ | Access.WRITE,
        Access(0),
        {Size.SMALL: Level.LOW},
        Shop.Kind.BOOKS,
        Point(1, (2, nan)),
        {Point(1), Point(2)},
        Checked(n=3),
    ],
    ids=lambda each: type(each).__name__,
)
def test_what_json_lacks_comes_back_with_its_type(value: Any) -> None:
    for shape in (value, [value], {"deep": [{"er": (value,)}]}):
        assert identical(replayed(shape), shape)


def test_a_datetime_that_pydantic_parsed_keeps_its_kind_of_time_zone() -> None:
    line = Line.model_validate({"SKU": "a", "at": "2026-11-24T10:00:00+02:00"})
    assert identical(replayed(line.at), line.at)


@pytest.mark.parametrize(
    "value",
    [
        {"$perdure": "tuple", "value": [1]},
        {"$perdure": None},
        {"$perdure": {"$perdure": "set", "value": []}, "class": "os:system"},
        [{"a": {"$perdure": "dict", "value": [[1, 2]]}}],
        ["$perdure", {"a": '"$perdure"'}],
    ],
)
def test_a_dict_of_the_user_that_looks_like_a_tag_survives(value: Any) -> None:
    assert identical(replayed(value), value)


def test_equal_sets_have_one_text_whatever_their_order(codec: Codec) -> None:
    one, two = {8, 0, "a", (1,)}, {(1,), "a", 0, 8}
    assert codec.encode(one, where=STEP) == codec.encode(two, where=STEP)


# What is refused


@pytest.mark.parametrize(
    ("value", "cure"),
    [
        (1j, ".real and .imag"),
        (OrderedDict(a=1), "dict(...)"),
        (defaultdict(list), "dict(...)"),
        (Counter("aa"), "dict(...)"),
        (Pair(1, 2), "._asdict()"),
        (Text("x"), "str(...)"),
        (Number(1), "int(...)"),
        (bytearray(b"x"), "bytes(...)"),
        (range(3), "list(...)"),
        (deque([1]), "list(...)"),
        (iter([1]), "list(...)"),
        ({"a": 1}.values(), "list(...)"),
        (types.MappingProxyType({}), "dict(...)"),
        (ValueError("x"), "raise it"),
        (object(), "serdes="),
        (len, "serdes="),
        (Point, "serdes="),
        (10**5000, "hex(...)"),
        (datetime(2026, 1, 1, tzinfo=timezone(timedelta(microseconds=1))), "ISO 8601"),
        (pydantic.HttpUrl("https://a.example"), "str(...)"),
        (datetime(2026, 1, 1, tzinfo=type("Zone", (type(BERLIN),), {})("UTC")), "zoneinfo"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_what_cannot_be_kept_is_refused_by_step_type_place_and_cure(value: Any, cure: str) -> None:
    message = refusal({"items": [0, (value,)]})
    assert message.startswith("step 'extract': result['items'][1][0] is of type ")
    assert type(value).__name__ in message
    assert cure in message


def test_the_place_of_a_refused_value_is_named_through_fields_and_keys() -> None:
    assert "result['items'][3].y['b'].content " in refusal(
        {"items": [0, 1, 2, Point(1, {"b": Envelope(content=object())})]}
    )
    assert "<key 1j>" in refusal({1j: 1})
    assert "result{'x'}" in refusal({Text("x")})


def test_a_key_whose_repr_fails_is_refused_all_the_same() -> None:
    class Mute:
        def __repr__(self) -> str:
            raise RuntimeError

    assert "Mute" in refusal({Mute(): 1})


@pytest.mark.parametrize("wrap", [lambda x: [x], lambda x: (x,), lambda x: {"a": x}, Point])
def test_what_is_nested_without_end_is_refused(wrap: Any) -> None:
    value: Any = None
    for _ in range(MAX_DEPTH + 1):
        value = wrap(value)
    assert "deep" in refusal(value)
    for _ in range(5000):
        value = wrap(value)
    assert "deep" in refusal(value)


@pytest.mark.parametrize("wrap", [lambda x: [x], lambda x: (x,), lambda x: {"a": x}, Point])
def test_what_is_nested_as_deeply_as_allowed_comes_back(wrap: Any) -> None:
    value: Any = None
    for _ in range(MAX_DEPTH):
        value = wrap(value)
    assert identical(replayed(value), value)


def test_what_contains_itself_is_refused() -> None:
    loop: list[Any] = [1]
    loop.append({"again": loop})
    assert "contains itself" in refusal(loop)
    envelope = Envelope(content=None)
    envelope.content = [envelope]
    assert "contains itself" in refusal(envelope)


def test_a_step_close_to_the_end_of_the_stack_gets_a_clear_error(codec: Codec) -> None:
    value: Any = None
    for _ in range(MAX_DEPTH):
        value = (value,)
    text = codec.encode(value, where=STEP)

    def dive(frames: int, call: Any) -> None:
        if frames:
            dive(frames - 1, call)
        else:
            call()

    deep = sys.getrecursionlimit() - len(inspect.stack(0)) - 80
    with pytest.raises(SerializationError, match="nested too deeply"):
        dive(deep, lambda: codec.encode(value, where=STEP))
    with pytest.raises(SerializationError, match="recursion"):
        dive(deep, lambda: codec.decode(text, where=STEP))


# Enums, dataclasses, models


def test_a_model_comes_back_with_alias_extras_unset_fields_and_nested_types() -> None:
    given = {"SKU": "a", "at": "2026-11-24T10:00:00Z", "size": "s", "origin": (1, {2}), "x": b"x"}
    line = Line.model_validate(given)
    invoice = Invoice(lines=[line], by={"a": Point(1)})
    copy = replayed(invoice)
    assert identical(copy, invoice)
    assert copy.lines[0].model_fields_set == {"sku", "at", "size", "origin", "x"}
    assert copy.model_dump(exclude_unset=True) == invoice.model_dump(exclude_unset=True)


def test_a_recorded_default_wins_over_a_changed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    source = "from pydantic import BaseModel\nclass Job(BaseModel):\n    size: int = {}"
    codec = Codec("shop")
    old = install(monkeypatch, "shop", source.format(1)).Job()
    text = codec.encode(old, where=STEP)
    install(monkeypatch, "shop", source.format(2))
    assert codec.decode(text, where=STEP).size == 1


def test_a_root_model_comes_back() -> None:
    assert identical(replayed(Names(["a", "b"])), Names(["a", "b"]))


def test_a_wrong_value_that_a_model_was_given_unchecked_is_refused() -> None:
    assert "does not survive a round trip" in refusal(Envelope.model_construct(content=1, label=2))
    assert "content" in refusal(Envelope.model_construct(label="x"))


def test_a_model_whose_validator_changes_its_own_output_is_refused() -> None:
    message = refusal({"a": [Shouting(text="x")]})
    assert "result['a'][0] is model" in message
    assert "does not survive a round trip" in message
    assert "'text'" in message


def test_excluded_fields_and_private_attributes_that_would_be_lost_are_refused() -> None:
    assert identical(replayed(Secretive(name="a")), Secretive(name="a"))
    assert "key" in refusal([Secretive(name="a", key="secret")])
    model = Secretive(name="a")
    model._calls = 1
    message = refusal({"m": model})
    assert "result['m'] is model" in message
    assert "(_calls)" in message


def test_an_excluded_secret_never_reaches_the_text(codec: Codec) -> None:
    assert "key" not in codec.encode(Secretive(name="a", key="none"), where=STEP)


def test_a_parametrised_model_is_found_through_returns_and_else_refused() -> None:
    assert identical(replayed([Box[int](item=1)], returns=list[Box[int]]), [Box[int](item=1)])
    assert identical(replayed(Box(item=1)), Box(item=1))
    assert "returns=Box[int]" in refusal(Box[int](item=1))


def test_a_dataclass_comes_back_without_running_its_init_again() -> None:
    order = Order([1], factor=5)
    assert order.label == "order"
    copy = replayed(order)
    assert (copy.lines, copy.total) == ([1], 5)


def test_a_dataclass_with_state_beside_its_fields_is_refused() -> None:
    order = Order([1])
    order.lock = Lock()  # type: ignore[attr-defined]
    assert "'lock' is not a field" in refusal(order)


def test_a_dataclass_that_is_an_exception_or_lacks_a_field_is_refused() -> None:
    failure = make_dataclass("Failure", ["x"], bases=(Exception,))
    assert "not safe" in refusal(failure(1), returns=failure)
    order = Order([1])
    del order.lines
    assert "lines" in refusal(order)


# Finding classes again


def test_a_local_class_is_refused_unless_returns_gives_it() -> None:
    class Local(BaseModel):
        n: int

    Alias = Annotated[dict[str, list[Local] | None], "note"]
    outer = make_dataclass("Outer", [("inner", Local)])
    assert "local to a function" in refusal(Local(n=1))
    for value, returns in [
        (Local(n=1), Local),
        ([Local(n=1)], list[Local]),
        ({"a": [Local(n=1)]}, Alias),
        (outer(Local(n=1)), outer),
    ]:
        assert identical(replayed(value, returns=returns), value)


def test_a_class_of_main_is_refused_unless_returns_gives_it() -> None:
    script = placed("__main__", make_dataclass("Job", ["n"]))
    assert "__main__" in refusal(script(1))
    assert replayed(script(1), returns=script) == script(1)


def test_what_a_script_recorded_is_found_where_its_file_is_served(codec: Codec) -> None:
    script = placed("__main__", make_dataclass("Job", ["n"]))
    served = placed("app", make_dataclass("Job", ["n"]))
    text = codec.encode(script(1), where=STEP, returns=script)
    assert codec.decode(text, where=STEP, returns=served) == served(1)


def test_returns_is_for_finding_classes_and_changes_no_value() -> None:
    assert replayed({"sku": 1}, returns=Line) == {"sku": 1}


def test_a_foreign_class_is_found_if_the_handlers_module_names_it_or_its_package_is_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = "from dataclasses import dataclass\n@dataclass\nclass Item:\n    n: int"
    item = install(monkeypatch, "vendor.items", source).Item(1)
    handlers = install(monkeypatch, "shop.handlers", "")
    message = refusal(item, codec=Codec("shop.handlers"))
    assert "outside shop, perdure" in message
    assert Codec("shop.handlers", ["vendor"]).roundtrip(item, where=STEP)[1] == item
    assert Codec("vendor.other").roundtrip(item, where=STEP)[1] == item
    handlers.Item = type(item)  # type: ignore[attr-defined]
    assert Codec("shop.handlers").roundtrip(item, where=STEP)[1] == item


def test_a_class_that_another_one_stands_in_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    source = "from dataclasses import dataclass\n@dataclass\nclass Item:\n    n: int"
    item = install(monkeypatch, "shop", source).Item(1)
    install(monkeypatch, "shop", source)
    assert "another one" in refusal(item, codec=Codec("shop"))


def test_the_classes_of_perdure_are_always_found() -> None:
    from perdure.durable.operations import ErrorObject

    error = ErrorObject("no", "ValueError", trace=("a",))
    assert Codec().roundtrip(error, where=STEP)[1] == error


@pytest.mark.parametrize(
    "reference",
    ["this:Zen", "os:system", "perdure.durable.codec:json.JSONDecoder", "__main__:x", ":", "", 5],
)
@pytest.mark.parametrize("kind", ["model", "dataclass", "enum"])
def test_a_record_that_was_tampered_with_imports_nothing(kind: str, reference: Any) -> None:
    message = misfit(record(kind, **{"class": reference, "fields": {}, "name": "x"}))
    assert f"recorded as {kind} {reference}".rstrip() in message
    assert "this" not in sys.modules


# What no longer fits

SHOP = """
from dataclasses import dataclass
from enum import Enum
from pydantic import BaseModel
class Color(Enum):
    RED = 1
@dataclass
class Item:
    n: int
class Order(BaseModel):
    n: int
"""


@pytest.mark.parametrize(
    ("name", "old", "new", "cause"),
    [
        ("Item", "n: int", "m: int = 0", "no field 'n'"),
        ("Item", "n: int", "n: int; m: int", "'m' was not recorded and has no default"),
        ("Item", "Item", "Thing", "not in returns="),
        ("Item", "@dataclass", "", "no dataclass any more"),
        ("Order", "n: int", "m: int = 0", "no field 'n'"),
        ("Order", "n: int", "n: int; m: int", "Field required"),
        ("Order", "n: int", "n: str", "valid string"),
        ("Order", "n: int", "n: float", "comes back changed"),
        ("Order", "(BaseModel)", "", "no model any more"),
        ("Color", "RED", "GREEN", "no member 'RED'"),
        ("Color", "Color(Enum)", "Color", "no enum any more"),
    ],
)
def test_a_value_that_no_longer_fits_its_class_is_an_error_naming_both(
    monkeypatch: pytest.MonkeyPatch, name: str, old: str, new: str, cause: str
) -> None:
    shop, codec = install(monkeypatch, "shop", SHOP), Codec("shop")
    value = shop.Color.RED if name == "Color" else getattr(shop, name)(n=1)
    text = codec.encode([value], where=STEP)
    head, mark, tail = SHOP.rpartition(old) if name == "Order" else SHOP.partition(old)
    source = SHOP.replace(old, new) if name == "Color" else head + mark.replace(old, new) + tail
    install(monkeypatch, "shop", source)
    message = misfit(text, codec=codec)
    assert message.startswith("step 'extract': result[0] was recorded as ")
    assert f"shop:{name}" in message
    assert cause in message


def test_a_new_field_with_a_default_still_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    shop, codec = install(monkeypatch, "shop", SHOP), Codec("shop")
    texts = [codec.encode(each(n=1), where=STEP) for each in (shop.Item, shop.Order)]
    install(monkeypatch, "shop", SHOP.replace("n: int", "n: int; m: int = 7"))
    assert [codec.decode(text, where=STEP).m for text in texts] == [7, 7]


@pytest.mark.parametrize("text", ["", "{", "nope", "NaN", "1" * 5000, "[" * 100_000, "\ud800"])
def test_text_that_is_no_json_is_an_error_naming_the_operation(text: str) -> None:
    assert misfit(text).startswith("step 'extract': the recorded text cannot be read")


@pytest.mark.parametrize(
    "text",
    [
        record("novelty", value=1),
        record("tuple"),
        record("set", value=[[1]]),
        record("set", value=[1, 1]),
        record("dict", value=[[1, 2], [1, 3]]),
        record("datetime", value="yesterday"),
        record("Decimal", value="ten"),
        '{"$perdure": ["list"]}',
        '[{"$perdure": {}}]',
    ],
)
def test_a_damaged_record_is_an_error_naming_its_kind(text: str) -> None:
    assert "cannot be read" in misfit(text)


# A user's own serdes


class Upper:
    def dumps(self, value: Any) -> Any:
        return value.upper()

    def loads(self, text: str) -> Any:
        if text == "BAD":
            raise ValueError("bad text")
        return text.lower()


def test_a_serdes_of_the_user_does_it_all(codec: Codec) -> None:
    assert codec.roundtrip("Ab", where=STEP, serdes=Upper()) == ("AB", "ab")
    assert codec.encode("Ab", where=STEP, serdes=Upper()) == "AB"
    assert codec.decode("AB", where=STEP, serdes=Upper()) == "ab"


def test_what_a_serdes_raises_is_wrapped_with_its_cause(codec: Codec) -> None:
    with pytest.raises(SerializationError, match=r"step 'extract'.*Upper\.dumps") as caught:
        codec.encode(1, where=STEP, serdes=Upper())
    assert isinstance(caught.value.__cause__, AttributeError)
    with pytest.raises(SerializationError, match="bad text") as caught:
        codec.decode("BAD", where=STEP, serdes=Upper())
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("value", [b"bytes", "\ud800", Text("x")])
def test_a_serdes_must_give_a_str_that_a_file_can_hold(codec: Codec, value: Any) -> None:
    serdes = types.SimpleNamespace(dumps=lambda _: value, loads=str)
    with pytest.raises(SerializationError, match="expected a str"):
        codec.encode(1, where=STEP, serdes=serdes)


# The digest of arguments


def test_equal_arguments_have_one_digest_and_others_another() -> None:
    digest = arguments_digest((1, {"a"}), {"b": Point(1), "a": 2})
    assert digest == arguments_digest((1, {"a"}), {"a": 2, "b": Point(1)})
    assert len(bytes.fromhex(digest or "")) == 16
    assert digest != arguments_digest((1, {"a"}), {"a": 2, "b": Point(2)})
    assert arguments_digest((1,), {}) != arguments_digest((True,), {})


def test_no_arguments_and_those_that_no_text_keeps_have_no_digest() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert arguments_digest((), {}) is None
    assert arguments_digest((object(),), {}) is None
    assert arguments_digest((loop,), {}) is None


def test_an_argument_of_a_local_class_has_a_digest() -> None:
    local = make_dataclass("Local", ["n"], namespace={"__qualname__": "f.<locals>.Local"})
    assert arguments_digest((local(1),), {}) != arguments_digest((local(2),), {})


# Processes


def test_importing_the_codec_does_not_import_pydantic() -> None:
    probe = (
        "import sys, perdure.durable.codec as c\n"
        "codec = c.Codec()\n"
        "codec.decode(codec.encode([(1, b'x')], where='w'), where='w')\n"
        "sys.exit('pydantic' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", probe], check=True)


def test_another_process_finds_the_classes_by_importing_the_handlers_package(
    tmp_path: Path,
) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "items.py").write_text(SHOP)
    (tmp_path / "shop" / "handlers.py").touch()
    start = "import sys; sys.path.insert(0, sys.argv[1])\nfrom perdure.durable.codec import Codec\n"
    start += "codec = Codec('shop.handlers')\n"
    write = (
        "from shop.items import *\nprint(codec.encode([Color.RED, Item(1), Order(n=2)], where=''))"
    )
    read = "print(codec.decode(sys.argv[2], where=''))"

    def run(code: str, *args: str) -> str:
        command = [sys.executable, "-c", start + code, str(tmp_path), *args]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert run(read, run(write)) == "[<Color.RED: 1>, Item(n=1), Order(n=2)]"


# Properties

surrogates = st.text(st.characters(exclude_categories=()), max_size=8)
offsets = st.integers(-86_399, 86_399).map(lambda seconds: timedelta(seconds=seconds))
zones = (
    st.none() | st.timezones() | st.builds(timezone, offsets, st.sampled_from(["", "X", "\udcff"]))
)
plain_keys = st.text(max_size=8).filter(lambda key: key != "$perdure")
finite = st.floats(allow_nan=False, allow_infinity=False)
json_scalars = st.none() | st.booleans() | st.integers() | finite | st.text(max_size=8)
plain = st.recursive(
    json_scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(plain_keys, inner, max_size=4),
    max_leaves=12,
)
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | surrogates
    | st.binary(max_size=8)
    | st.datetimes(timezones=zones)
    | st.dates()
    | st.times(timezones=zones)
    | st.timedeltas()
    | st.decimals()
    | st.uuids()
    | st.builds(PurePosixPath, surrogates)
    | st.builds(PureWindowsPath, surrogates)
    | st.sampled_from([*Color, *Size, *Level, *map(Access, range(4))])
)
strangers = st.sampled_from([object(), 1j, Pair(1, 2), Text("x"), Number(1), range(2), len])


def hashables(inner: Any) -> Any:
    return st.recursive(
        inner.filter(lambda each: not (isinstance(each, Decimal) and each.is_snan())),
        lambda each: (
            st.lists(each, max_size=3).map(tuple)
            | st.frozensets(each, max_size=3)
            | st.builds(Point, each, each)
        ),
        max_leaves=4,
    )


def values(inner: Any) -> Any:
    keys = st.sampled_from(["$perdure", "class", "value", "fields"]) | hashables(inner)
    return st.recursive(
        inner,
        lambda each: (
            st.lists(each, max_size=4)
            | st.lists(each, max_size=4).map(tuple)
            | st.sets(hashables(inner), max_size=4)
            | st.dictionaries(keys, each, max_size=4)
            | st.builds(Point, each, each)
            | st.builds(Order, each, st.integers())
            | st.builds(Envelope, content=each)
            | st.builds(Envelope, content=each, label=st.text(max_size=3))
        ),
        max_leaves=12,
    )


@given(plain)
def test_plain_json_is_its_own_record(value: Any) -> None:
    text = Codec().encode(value, where=STEP)
    assert text == json.dumps(value, ensure_ascii=False)
    assert identical(Codec().decode(text, where=STEP), value)


@given(values(leaves))
def test_whatever_is_kept_comes_back_with_its_types(value: Any) -> None:
    assert identical(replayed(value), value)


@given(values(leaves | strangers))
def test_a_value_comes_back_or_is_refused_and_nothing_else(value: Any) -> None:
    try:
        text, copy = Codec(__name__).roundtrip(value, where=STEP)
    except SerializationError:
        return
    assert identical(copy, value)
    assert identical(Codec(__name__).decode(text, where=STEP), value)


@given(values(leaves), st.data())
def test_reading_mutated_text_raises_nothing_but_a_serialization_error(
    value: Any, data: st.DataObject
) -> None:
    codec = Codec(__name__)
    text = codec.encode(value, where=STEP)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 4))
        text = text[:at] + data.draw(st.text('{}[]":,0a$', max_size=3)) + text[at + cut :]
    with suppress(SerializationError):
        codec.decode(text, where=STEP)


CLASSES = [f"{__name__}:{cls.__name__}" for cls in (Color, Access, Point, Envelope, Names, Line)]
KINDS = ["tuple", "set", "frozenset", "dict", "enum", "model", "dataclass", *leaf_readers()]
words = st.sampled_from([*KINDS, *CLASSES, "RED", "SMALL", "content", "x", "root", "1", "NaN"])
forged = st.recursive(
    json_scalars | words,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(words, inner, max_size=3)
        | st.fixed_dictionaries(
            {"$perdure": words | inner},
            optional=dict.fromkeys(
                ["value", "class", "fields", "name", "unset", "extra"], words | inner
            ),
        )
    ),
    max_leaves=12,
)


@given(forged)
def test_reading_a_forged_record_raises_nothing_but_a_serialization_error(tree: Any) -> None:
    with suppress(SerializationError):
        Codec(__name__).decode(json.dumps(tree), where=STEP)
