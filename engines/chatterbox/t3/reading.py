"""How a sequence begins: its voice and text are read into rows of the cache, the least that is not known already."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from engines.chatterbox.t3.attention import Segment
from engines.chatterbox.t3.kv_cache import KeyValues
from engines.chatterbox.t3.prefixes import Prefix, PrefixCache
from engines.chatterbox.t3.transformer import Transformer
from engines.chatterbox.voice import PreparedVoice


class Reader:
    """Fills rows of the transformer's cache; what other sequences will begin with is kept in `prefixes`.

    Rows are added behind those that there are. If it fails they may stay, and are the caller's to remove.
    """

    def __init__(
        self, transformer: Transformer, prefixes: PrefixCache, *, has_emotion: bool, keeps_unread: bool
    ) -> None:
        """`has_emotion` says whether the exaggeration changes what the model makes of a voice.

        `keeps_unread` has the text of zeros kept too. On an NVIDIA device reading it anew costs nothing, and a product
        of more or fewer tokens rounds otherwise there: what was read before would be heard.
        """
        self._transformer, self._prefixes = transformer, prefixes
        self._has_emotion, self._keeps_unread = has_emotion, keeps_unread

    def prefix(self, voice: PreparedVoice, exaggeration: float) -> Prefix:
        """The voice, read now if it is not known."""
        key = (voice.key, exaggeration if self._has_emotion else None)
        prefix = self._prefixes.get(key)
        if prefix is None:
            cache, embeddings = self._transformer.cache, self._transformer.inputs.voice(voice, exaggeration)
            row = cache.rows
            self._read([(self._transformer.nothing, embeddings)])
            prefix = Prefix(key, cache.copy(row, len(embeddings)), len(embeddings))
            cache.remove(row)
            self._prefixes.put(prefix)
        return prefix

    def read(self, text: Sequence[int], prefix: Prefix, is_guided: bool) -> None:
        """A text behind a voice, in a new last row; if guided, a second one has zeros in the text's place.

        Their logits are those of the first speech token.
        """
        inputs, cache = self._transformer.inputs, self._transformer.cache
        beginning, whole = inputs.beginning(), prefix.length + len(text)
        rows = [(prefix.known.first(prefix.length), torch.cat([inputs.text(text), beginning]))]
        if is_guided:
            known = prefix.known.first(whole)
            unread = inputs.no_text(known.length - prefix.length, len(text))
            rows.append((known, torch.cat([unread, beginning])))
        self._read(rows, watched=inputs.starts)
        if is_guided and self._keeps_unread and prefix.known.length < whole:
            self._prefixes.put(Prefix(prefix.key, cache.copy(cache.rows - 1, whole), prefix.length))

    def _read(self, rows: Sequence[tuple[KeyValues, Tensor]], watched: int = 0) -> None:
        """Add rows, each of what is known and the embeddings (n, width) that follow; the first one is watched."""
        cache, before = self._transformer.cache, self._transformer.cache.rows
        segments = []
        for known, embeddings in rows:
            row = cache.add(known, room=known.length + len(embeddings))
            segments.append(Segment(row, len(embeddings), watched if row == before else 0))
        self._transformer.read(segments, torch.cat([embeddings for _, embeddings in rows]))
