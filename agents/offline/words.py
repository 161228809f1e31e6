"""The words by which the offline stand-in reads: small words, verbs of asking, names of tools."""

from __future__ import annotations


def _set(*lines: str) -> frozenset[str]:
    return frozenset(word for line in lines for word in line.split())


STOP_WORDS = _set(
    "a about above after again against all also am an and any are as at be because been before",
    "being below between both but by can could did do does doing down during each few for from",
    "further had has have having he her here hers him his how i if in into is it its itself just",
    "may me might more most must my no nor not of off on once only or other our out over own same",
    "shall she should so some such than that the their them then there these they this those",
    "through to too under until up upon very was we were what when where which while who whom why",
    "will with within would you your der die das und oder ein eine einen einem des dem den ist im",
    "in zu von mit auf für nicht le la les un une des et ou du de que qui est pour dans el los las",
    "y en por con del",
)
ASKING_WORDS = _set(
    "answer analyse analyze assess check compare concise consider describe document documents",
    "explain extract find following give identify list please question read report research",
    "review say search show summarise summarize summary task tell text use using write",
)
OPENING_WORDS = STOP_WORDS | ASKING_WORDS | _set("between dear across")
JOINING_WORDS = _set("of the de la van von der den &")
CURRENCIES = _set("USD EUR GBP CHF JPY INR CNY VAT")
THING_WORDS = _set(
    "amount annex appendix article building chapter city date figure floor house invoice item",
    "number order place port road room schedule section square street table total tower avenue",
)
RISK_WORDS = _set(
    "risk liability liable penalty breach terminate termination fail failure delay default",
    "damage loss danger threat dispute exceed overdue uncertain unlimited unresolved missing",
    "warning vulnerable fine violation concern problem issue",
)
UNDECIDED_WORDS = _set(
    "unknown unclear uncertain undetermined unsupported not_found not_enough_information neutral",
    "none other n/a needs_review review medium",
)

SEARCHES = _set("search find list query lookup grep discover")
READS = _set("read open fetch get load view download retrieve")
FINISHES = _set("answer finish submit final respond done conclude complete output")
ACTS = _set(
    "send delete remove write create update post put pay run execute approve move edit set add",
    "save upload insert cancel book buy order publish call notify email drop start stop replace",
)
QUERIES = _set("query q question search text keywords keyword term terms topic pattern")
IDENTIFIERS = _set("id name path url uri file filename document key slug title ref")
