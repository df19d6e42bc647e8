"""What many sequences begin with, read once: the voice, and the text of zeros that guidance compares with."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

from engines.chatterbox.t3.kv_cache import KeyValues


@dataclass(frozen=True, slots=True, eq=False)
class Prefix:
    """What every sequence of one voice begins with: its conditioning, the first `length` positions of `known`.

    The further positions of `known` are those of a text of zeros, which guidance compares with. A causal model's
    keys and values at a position do not depend on later ones, so they serve texts of every length.
    `key` names voice and exaggeration.
    """

    key: Hashable
    known: KeyValues
    length: int


class PrefixCache:
    """Prefixes by voice and exaggeration, at most `max_bytes` of them; those that were used last stay."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Hashable, Prefix] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size_bytes(self) -> int:
        return sum(prefix.known.size_bytes for prefix in self._entries.values())

    def get(self, key: Hashable) -> Prefix | None:
        if key in self._entries:
            self._entries.move_to_end(key)
        return self._entries.get(key)

    def put(self, prefix: Prefix) -> None:
        self._entries[prefix.key] = prefix
        self._entries.move_to_end(prefix.key)
        while self.size_bytes > self._max_bytes:
            self._entries.popitem(last=False)
