"""Random bits: the published generator, one stream per key, orders that lose nobody."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from accelsim.numerics.random_bits import permutation, random_words, stream_key, uniform

# What the C program splitmix64.c (Vigna, public domain) prints for two seeds; the second row is also the
# published test vector of Java's SplittableRandom and of Rosetta Code's "Pseudo-random numbers/Splitmix64".
PUBLISHED = {
    0: [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC],
    1234567: [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ],
}


def splitmix64(seed: int, count: int) -> list[int]:
    """The generator as its paper writes it, on Python integers."""
    mask, state, words = (1 << 64) - 1, seed, []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & mask
        word = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & mask
        words.append(word ^ (word >> 31))
    return words


@pytest.mark.parametrize("seed", list(PUBLISHED))
def test_published_vectors(seed: int) -> None:
    """The first words of the streams 0 and 1234567 are the published ones."""
    assert random_words(seed, len(PUBLISHED[seed])).tolist() == PUBLISHED[seed]


@pytest.mark.parametrize("seed", [0, 1, 2**63, 2**64 - 1])
def test_words_follow_the_paper(seed: int) -> None:
    """Any key, also one whose counter wraps round, gives the words of a plain integer loop."""
    assert random_words(seed, 50).tolist() == splitmix64(seed, 50)


def test_a_word_does_not_depend_on_how_many_are_drawn() -> None:
    """Counter-based: a longer draw starts with the shorter one; none is a draw too."""
    np.testing.assert_array_equal(random_words(7, 100)[:13], random_words(7, 13))
    assert random_words(7, 0).tolist() == []


def test_stream_keys_differ() -> None:
    """Seed, words, their order and where one ends and the next begins all change the key."""
    words = [(), ("a",), ("b",), ("a", "b"), ("b", "a"), ("ab",), ("a", 1), ("a", 11), ("a", 1, 1), ("a1",)]
    keys = [stream_key(seed, *one) for seed, one in itertools.product((0, 1, 11, 2**63 - 1), words)]
    assert len(set(keys)) == len(keys)
    assert all(0 <= key < 2**64 for key in keys)


def test_stream_keys_are_the_same_everywhere() -> None:
    """The key is the start of a SHA-256, not Python's own hash, which changes with every process."""
    assert stream_key(1, "initial", "stem.weight") == int.from_bytes(
        bytes.fromhex("588e708701a16c86"), "little"
    )


def test_uniform_numbers() -> None:
    """In [0, 1), each a multiple of 2**-53 taken from the upper bits of its word, evenly spread."""
    numbers = uniform(3, 20_000)
    assert [int(number * 2**53) for number in numbers] == [word >> 11 for word in splitmix64(3, 20_000)]
    assert 0 <= numbers.min() < 0.001
    assert 0.999 < numbers.max() < 1
    counts = np.histogram(numbers, 10, (0, 1))[0]
    assert abs(counts - 2000).max() < 5 * np.sqrt(2000)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 100, 4097])
def test_permutation_loses_nobody(count: int) -> None:
    """Every number of 0 .. count - 1 comes once, as int64."""
    order = permutation(stream_key(1, "order", 1), count)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(count))


def test_permutations_differ_by_key_and_repeat() -> None:
    """Another epoch is another order; the same key is the same order, and it is not the sorted one."""
    orders = [permutation(stream_key(1, "order", epoch), 50).tolist() for epoch in (1, 2, 3)]
    assert orders[0] == permutation(stream_key(1, "order", 1), 50).tolist()
    assert len({tuple(order) for order in orders}) == 3
    assert sorted(range(50)) not in orders


def test_permutation_sorts_the_words() -> None:
    """The order is that of the stream's words, smallest first: a definition that no NumPy version changes."""
    words = splitmix64(9, 30)
    assert permutation(9, 30).tolist() == sorted(range(30), key=lambda i: words[i])
