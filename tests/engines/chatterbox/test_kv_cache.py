"""Rows without gaps, memory by blocks, and prefixes within their bytes."""

import pytest
import torch

from engines.chatterbox.t3.backbone import Shape
from engines.chatterbox.t3.kv_cache import BLOCK, KeyValues, KVCache
from engines.chatterbox.t3.prefixes import Prefix, PrefixCache

SHAPE = Shape(layers=3, heads=2, head_dim=4, positions=2048)
CPU = torch.device("cpu")


def filled(value: float, length: int) -> KeyValues:
    store = torch.full((SHAPE.layers, SHAPE.heads, length, SHAPE.head_dim), value)
    return KeyValues(store, -store)


def test_the_last_row_takes_the_place_of_one_that_leaves():
    cache = KVCache(SHAPE, torch.float32, CPU)
    for number in range(4):
        cache.add(filled(number, 5 + number), room=20)

    assert cache.remove(1) == 3

    assert cache.lengths == [5, 8, 7]
    for row, (value, length) in enumerate([(0, 5), (3, 8), (2, 7)]):
        assert torch.equal(cache.copy(row, length).keys, filled(value, length).keys)
        assert torch.equal(cache.copy(row, length).values, filled(value, length).values)


def test_rows_grow_by_blocks_and_keep_what_they_know():
    cache = KVCache(SHAPE, torch.float32, CPU)
    cache.add(filled(1, 10), room=20)
    block = cache.size_bytes

    for length in range(20, BLOCK + 1):
        cache.reserve(length)
    assert cache.size_bytes == block

    cache.reserve(BLOCK + 1)
    assert cache.size_bytes == 2 * block
    assert torch.equal(cache.copy(0, 10).keys, filled(1, 10).keys)


def test_memory_is_given_back_when_the_last_row_leaves():
    cache = KVCache(SHAPE, torch.float32, CPU)
    rows = [cache.add(filled(1, 10), room=20) for _ in range(3)]

    for row in reversed(rows):
        assert cache.size_bytes > 0
        cache.remove(row)

    assert cache.size_bytes == 0


class ScarceCache(KVCache):
    """A cache that has memory for so many stores and then has none."""

    stores_left: float = float("inf")

    def _grown(self, store, rows, length):
        if self.stores_left == 0:
            raise torch.OutOfMemoryError
        self.stores_left -= 1
        return super()._grown(store, rows, length)


@pytest.mark.parametrize("stores_left", range(2))
def test_short_of_memory_half_way_it_stays_what_it_was(stores_left):
    cache = ScarceCache(SHAPE, torch.float32, CPU)
    cache.add(filled(1, 10), room=20)
    before = cache.size_bytes

    for grow in (lambda: cache.reserve(BLOCK + 1), lambda: cache.add(filled(2, 10), room=20)):
        cache.stores_left = stores_left
        with pytest.raises(torch.OutOfMemoryError):
            grow()

        assert (cache.lengths, cache.size_bytes) == ([10], before)
    cache.stores_left = float("inf")
    assert cache.add(filled(2, 300), room=400) == 1
    assert torch.equal(cache.copy(0, 10).keys, filled(1, 10).keys)
    assert torch.equal(cache.copy(1, 300).values, filled(2, 300).values)


def test_the_last_rows_go_together_with_what_an_addition_had_begun():
    cache = KVCache(SHAPE, torch.float32, CPU)
    for number in range(3):
        cache.add(filled(number, 10), room=20)
    of_another_model = KeyValues(torch.ones(1, 1, 5, 1), torch.ones(2, 9, 5, 9))
    with pytest.raises((IndexError, RuntimeError)):
        cache.add(of_another_model, room=20)

    cache.truncate(1)

    assert cache.lengths == [10]
    assert torch.equal(cache.copy(0, 10).keys, filled(0, 10).keys)
    cache.truncate(0)
    with pytest.raises((IndexError, RuntimeError)):
        cache.add(of_another_model, room=20)
    cache.truncate(0)
    assert cache.size_bytes == 0


def test_of_more_prefixes_than_fit_the_last_used_stay():
    one = filled(1, 10).size_bytes
    cache = PrefixCache(max_bytes=2 * one)
    for name in ("first", "second"):
        cache.put(Prefix(name, filled(1, 10), 10))
    assert cache.get("first") is not None

    cache.put(Prefix("third", filled(1, 10), 10))

    assert cache.get("second") is None
    assert cache.get("first") is not None
    assert cache.size_bytes == 2 * one
