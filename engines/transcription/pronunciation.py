"""How English words sound, in ARPAbet: pocketsphinx's own dictionary, and a guess for words that it lacks."""

from __future__ import annotations

import re
from collections import defaultdict
from functools import cache
from pathlib import Path

PHONES = (
    "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH"
).split()

_LETTERS = dict(
    pair.split("=")
    for pair in (
        "tion=SH AH N,ough=AO,eigh=EY,igh=AY,tch=CH,dge=JH,sch=SH,ck=K,ch=CH,sh=SH,th=TH,ph=F,wh=W,ng=NG,qu=K W,kn=N,"
        "wr=R,gh=G,ee=IY,ea=IY,oo=UW,ou=AW,ow=OW,oi=OY,oy=OY,ai=EY,ay=EY,au=AO,aw=AO,oa=OW,ie=IY,ei=EY,ew=Y UW,ar=AA R,"
        "er=ER,ir=ER,ur=ER,or=AO R,a=AE,b=B,c=K,d=D,e=EH,f=F,g=G,h=HH,i=IH,j=JH,k=K,l=L,m=M,n=N,o=AA,p=P,q=K,r=R,s=S,"
        "t=T,u=AH,v=V,w=W,x=K S,y=IY,z=Z"
    ).split(",")
)
_SPELLINGS = re.compile("|".join(_LETTERS))


def sounds_of(word: str) -> list[str]:
    """The ways to say a word, the usual one first; none for a word without a letter of a to z."""
    guess = guessed_sounds(word)
    return _dictionary().get(word) or ([guess] if guess else [])


def guessed_sounds(word: str) -> str:
    """The longest spelling first, a doubled letter once, the "e" at the end silent: enough to know a name again."""
    once = re.sub(r"([b-df-hj-np-tv-z])\1", r"\1", word)
    silent = once[:-1] if len(once) > 3 and once.endswith("e") and once[-2] not in "aeiou" else once
    return " ".join(_LETTERS[spelling] for spelling in _SPELLINGS.findall(silent))


@cache
def _dictionary() -> dict[str, list[str]]:
    from pocketsphinx import get_model_path

    ways: defaultdict[str, list[str]] = defaultdict(list)
    with Path(get_model_path("en-us/cmudict-en-us.dict")).open(encoding="utf-8") as lines:
        for line in lines:
            word, sounds = line.rstrip().split(" ", 1)
            ways[word.partition("(")[0]].append(sounds)
    return dict(ways)
