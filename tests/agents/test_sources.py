"""Sources have one number each, and every citation is of one of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.agents.citations import cited, marked, renumbered, unsupported
from perdure.agents.sources import (
    MOST_KEPT,
    Registry,
    Source,
    attributed,
    canonical,
    digest,
    excerpt,
    sources_in,
)
from perdure.durable import UsageError

LONG = "The boiler house was built in 1974 and its two boilers have run on oil since then. "


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://Example.org/a/", "HTTPS://example.ORG:443/a"),
        ("http://example.org/a#part", "http://example.org/a"),
        ("https://example.org/a?utm_source=x&id=7&fbclid=1", "https://example.org/a?id=7"),
        ("https://user:secret@example.org/", "https://example.org"),
        ("https://store.example/a?X-Amz-Signature=1&X-Amz-Date=2", "https://store.example/a"),
        ("./docs/../offer.md", "offer.md"),
        ("file:///srv/offer%20a.md", "/srv/offer a.md"),
        ("  notes.md\n", "notes.md"),
    ],
)
def test_spellings_of_one_place_are_one(one: str, other: str) -> None:
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://example.org/a", "https://example.org/A"),
        ("https://example.org/a?id=7", "https://example.org/a?id=8"),
        ("https://example.org:8443/a", "https://example.org/a"),
        ("http://example.org", "ftp://example.org"),
        ("offer.md", "Offer.md"),
        ("doi:10.1000/AB", "doi:10.1000/ab"),
    ],
)
def test_different_places_stay_apart(one: str, other: str) -> None:
    assert canonical(one) != canonical(other)


@given(
    st.from_regex(
        r"https?://[a-zA-Z.]+(:\d{1,4})?(/[a-z%]*){0,3}(\?[a-z=&]*)?(#\w*)?", fullmatch=True
    )
)
def test_the_canonical_form_of_an_address_is_its_own(location: str) -> None:
    form = canonical(location)
    assert canonical(form) == form


@given(st.text(max_size=60))
def test_any_text_is_a_location(location: str) -> None:
    assert bool(canonical(location)) == bool(location.strip())


def test_a_source_that_was_found_twice_keeps_its_number_and_all_that_was_read() -> None:
    registry = Registry()
    first = registry.add(Source(location="https://a.example/x/", text="Part one."))
    other = registry.add(Source(location="b.md", title="B", text="Another."))
    again = registry.add(Source(location="https://A.example/x#2", title="X", text="Part two."))
    assert (first, other, again) == (1, 2, 1)
    assert registry.texts()[1] == "Part one.\n\n[…]\n\nPart two."
    assert [(ref.id, ref.title, ref.location) for ref in registry.refs()] == [
        (1, "X", "https://a.example/x"),
        (2, "B", "b.md"),
    ]


def test_the_same_text_at_two_places_is_one_source_that_names_both() -> None:
    registry = Registry()
    assert registry.add(Source(location="a.md", text=LONG)) == 1
    assert registry.add(Source(location="copy/a.md", text=LONG.replace(" ", "\n"))) == 1
    assert registry.refs()[0].also == ["copy/a.md"]


def test_a_short_text_that_many_places_share_makes_them_no_one_source() -> None:
    registry = Registry()
    assert [registry.add(Source(location=each, text="Not found.")) for each in "ab"] == [1, 2]


def test_an_excerpt_of_what_was_read_anyway_is_not_kept_twice() -> None:
    registry = Registry()
    registry.add(Source(location="a.md", text="The second of"))
    registry.add(Source(location="a.md", text="One. The second of three."))
    registry.add(Source(location="a.md", text="One."))
    assert registry.texts() == {1: "One. The second of three."}


def test_a_source_without_place_and_text_is_refused() -> None:
    with pytest.raises(UsageError, match="neither"):
        Registry().add(Source(title="A title only"))


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("As it says [2], and [1].", [2, 1]),
        ("Both [1, 3] and [5-7][^8] and [9](https://x.example/a).", [1, 3, 5, 6, 7, 8, 9]),
        ("In [2024], `row[4]` was:\n```\na[5]\n```\n", []),
        ("A [link](http://x.example) and [a] and [?].", []),
    ],
)
def test_citations_are_read_in_all_their_forms(text: str, numbers: list[int]) -> None:
    assert cited(text) == numbers


def test_renumbering_keeps_code_and_marks_what_is_unknown() -> None:
    text, unknown = renumbered("A [1, 2], b [3], `c[1]`, d [2][1].", {1: 4, 2: 4})
    assert text == "A [4], b [?], `c[1]`, d [4][4]."
    assert unknown == [3]


@given(st.text(alphabet="ab [](),-0123456789`\n", max_size=80), st.sets(st.integers(0, 30)))
def test_after_marking_only_known_numbers_are_cited(text: str, known: set[int]) -> None:
    assert set(cited(marked(text, known))) <= known


def test_claims_without_a_citation_are_found() -> None:
    text = (
        "# Costs in 2026\n\n"
        "The pump costs EUR 84,000 [1]. It was offered on 3 May 2026. It is quiet.\n\n"
        "Does it last 20 years? The Ministry of Works pays a third. That is so.[2]\n\n"
        "Nine of ten say so [?]. The loan is 40,000 [?]."
    )
    assert unsupported(text) == [
        "It was offered on 3 May 2026.",
        "The Ministry of Works pays a third.",
        "The loan is 40,000 [?].",
    ]


def found(*results: Any) -> list[tuple[int | None, str, str, str]]:
    return [(n, s.location, s.title, s.text) for n, s in sources_in(results)]


def test_sources_are_found_in_what_tools_return() -> None:
    hits = {"hits": [{"n": 3, "name": "a.md", "title": "A", "excerpt": "One."}, {"name": "b.md"}]}
    page = {"url": "https://x.example", "content": "Two.", "title": " "}
    assert found(json.dumps(hits), page, "no JSON", "[broken", ["x", 7]) == [
        (3, "a.md", "A", "One."),
        (None, "https://x.example", "", "Two."),
    ]


def test_the_numbers_of_tools_become_places_in_the_list_of_sources() -> None:
    a, b = Source(location="a.md", text="A."), Source(location="b.md", text="B.")
    text, sources = attributed("First [7], then [5][7].", [(5, a), (7, b), (9, a)])
    assert text == "First [1], then [2][1]."
    assert [each.location for each in sources] == ["b.md", "a.md"]


def test_a_number_that_two_sources_stated_cites_neither() -> None:
    a, b = Source(location="a.md", text="A."), Source(location="b.md", text="B.")
    text, sources = attributed("So it is [1].", [(1, a), (1, b)])
    assert text == "So it is [?]."
    assert len(sources) == 2


def test_of_a_long_text_the_parts_that_matter_are_kept_and_the_whole_is_known() -> None:
    filler = "Nothing of note happened here, as the clerk wrote down. " * 10
    text = "\n\n".join(
        [filler, "The pump costs EUR 84,000.", *[filler] * 20, "A pump costs little to run."]
    )
    source = Source(location="a.md", text=text)
    _, [kept] = attributed("The pump costs EUR 84,000 [3].", [(3, source)])
    assert kept.text == "[…]\n\nThe pump costs EUR 84,000.\n\n[…]\n\nA pump costs little to run."
    assert len(text) > MOST_KEPT
    assert kept.sha == digest(text)
    copy = Source(location="copy.md", text=excerpt(text, "quiet", 500), sha=digest(text))
    registry = Registry()
    assert (registry.add(kept), registry.add(copy)) == (1, 1)


@given(st.text(alphabet="ab \n.", max_size=300), st.integers(20, 200))
def test_an_excerpt_is_never_much_longer_than_it_may_be(text: str, most: int) -> None:
    assert len(excerpt(text, "aaaa", most)) <= most + 12
