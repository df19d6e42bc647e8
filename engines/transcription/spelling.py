"""English words in one spelling: British or American, abbreviated or in full, contracted or not.

The rules need not spell well, only alike: both sides of a comparison go through them.
"""

from __future__ import annotations

import re

_RULES = [
    (re.compile(pattern), spelling)
    for pattern, spelling in (
        (r"(?<=\w\w)our(?!s?$)|(?<=[a-z]{3})our(?=s?$)", "or"),  # colour, honourable, neighbours
        (r"(?<=\w{3})([iy])s(e[drs]?|ers|ing|ations?)$", r"\1z\2"),  # organise, analysed, realisation
        (r"(?<=[b-df-hj-np-tv-z])re(?=s?$)", "er"),  # centre, metres
        (r"(?<=\w{3})ll(?=(ed|ing|ers?|ous)$)", "l"),  # cancelled, marvellous
        (r"[ao]e(?=\w\w\w)", "e"),  # anaesthetic, manoeuvre
        (r"en[cs]e(?=[ds]?$)", "ense"),  # defence
        (r"ogue(?=s?$)", "og"),  # catalogue
        (r"gramme(?=s?$)", "gram"),
        (r"wards$", "ward"),
        (r"dgement", "dgment"),
    )
]

_SAME = {
    spelling: first
    for first, *others in (
        line.split()
        for line in """
aging ageing|airplane aeroplane|aluminum aluminium|ax axe|check cheque|cozy cosy|curb kerb|doctor dr|draft draught
enroll enrol|fulfill fulfil|gray grey|jewelry jewellery|maneuver manoeuvre maneuvre|mister mr|missus mrs|mold mould
mom mum|mustache moustache|ok okay|pajamas pyjamas|plow plough|practice practise practised practiced|skeptic sceptic
skillful skilful|st saint street|story storey|sulfur sulphur|tire tyre|ton tonne|ms miss|etc etcetera|vs versus
prof professor|jr junior|sr senior|capt captain|sgt sergeant|lt lieutenant|gen general|gov governor|pres president
ave avenue|blvd boulevard|mt mount|dept department|approx approximately|no number|tv television|all alright
jan january|feb february|aug august|sept sep september|oct october|nov november|dec december
dollars dollar|cents cent pence penny|pounds pound lb lbs|euros euro|yen|degrees degree|miles mile|hours hour hr hrs
minutes minute min mins|seconds sec secs|kilometers kilometer km kms|meters meter|centimeters centimeter cm
millimeters millimeter mm|kilograms kilogram kg kgs kilo kilos|ounces ounce oz|feet foot ft|inches inch
liters liter|kilobytes kb|megabytes megabyte mb|gigabytes gigabyte gb|hertz hz|kilohertz khz
""".replace("\n", "|").split("|")
        if line
    )
    for spelling in others
}

_CONTRACTIONS = {
    "can't": "can not", "cannot": "can not", "won't": "will not", "shan't": "shall not", "let's": "let us",
    "y'all": "you all", "gonna": "going to", "wanna": "want to", "gotta": "got to", "'cause": "because",
    "'til": "until", "till": "until", "alright": "all right",
}  # fmt: skip
_ENDINGS = {"n't": "not", "'re": "are", "'ve": "have", "'ll": "will", "'d": "would", "'m": "am"}
_HEADS_OF_IS = frozenset("he she it that there what who where here how".split())


def in_full(word: str) -> list[str]:
    """A contraction as the words it stands for: "don't" is "do", "not". A possessive loses its apostrophe."""
    if word in _CONTRACTIONS:
        return _CONTRACTIONS[word].split()
    head, mark, tail = word.rpartition("'")
    if mark and tail == "s" and head in _HEADS_OF_IS:
        return [head, "is"]
    for ending, stands_for in _ENDINGS.items():
        if word.endswith(ending) and len(word) > len(ending):
            return [word.removesuffix(ending), stands_for]
    return [word.replace("'", "")]


def one_spelling(word: str) -> str:
    """The spelling that stands for all spellings of a word, which may be no word at all."""
    for pattern, spelling in _RULES:
        word = pattern.sub(spelling, word)
    return _SAME.get(word, word)
