"""What the PE sees, cycle by cycle: whole sums of GEMMs the simulator ran, with single groups in between."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from accelsim.numerics.formats import NumberFormat, number_format
from accelsim.rtl import corners
from accelsim.rtl.design import Design, OperandPair
from accelsim.rtl.golden import Integers
from accelsim.rtl.vectors import Vectors

VALID, HOLD, LAST, WIDE = 1, 2, 4, 8
_SINGLES = 8  # one in so many lines is a group whose partial sum travels


@dataclass(frozen=True)
class Cycles:
    """Lines of the PE's stimulus, one per cycle: (n,) fields and (n, lanes) operands, int64 codes.

    ``expected`` is what the line's psum (travelling) or whole sum (last group) must be, else 0.
    """

    control: Integers
    mode: Integers
    chunk_groups: Integers
    psum: Integers
    a: Integers
    b: Integers
    expected: Integers

    def __len__(self) -> int:
        return len(self.control)


def pe_cycles(design: Design, singles: list[Vectors], count: int, rng: np.random.Generator) -> Cycles:
    """At least ``count`` cycles: GEMMs of every pair in turn, groups out of ``singles``, idle cycles."""
    blocks: list[Cycles] = []
    done = 0
    while done < count:
        pair = design.pairs[len(blocks) // 2 % len(design.pairs)]
        blocks.append(_sums(design, pair, rng))
        travelling = singles[int(rng.integers(0, len(singles)))]
        blocks.append(_travelling(design, travelling, len(blocks[-1]) // _SINGLES + 1, rng))
        done += len(blocks[-1]) + len(blocks[-2])
    return _joined(blocks)


def _sums(design: Design, pair: OperandPair, rng: np.random.Generator) -> Cycles:
    """Every dot product of one GEMM, group by group, as its plan orders them; the simulator's results."""
    import accelsim

    m, n = (int(extent) for extent in rng.integers(1, 6, 2))
    k = int(rng.integers(1, 4 * design.chip.array.rows * pair.lanes + 2))
    a, b = _operands(pair.a, rng, (m, k)), _operands(pair.b, rng, (k, n))
    if rng.random() < 0.25:  # the second half takes back what the first half summed
        half = k // 2
        a[:, half : 2 * half], b[half : 2 * half] = a[:, :half], _negated(pair.b, b[:half])
    result = accelsim.matmul(design.chip, a, b, a_format=pair.a, b_format=pair.b)
    groups = -(-k // pair.lanes)
    chunk_groups = -(-result.plan.chunk // pair.lanes)
    if chunk_groups >= groups and rng.random() < 0.5:
        chunk_groups = 0  # one chunk, said the other way
    sums = [
        _one_sum(design, pair, a[i], b[:, j], groups, chunk_groups, int(result.codes[i, j]))
        for i in range(m)
        for j in range(n)
    ]
    return _with_idle_cycles(_joined(sums), rng)


def _one_sum(
    design: Design, pair: OperandPair, a: Integers, b: Integers, groups: int, chunk_groups: int, result: int
) -> Cycles:
    ends = np.arange(groups) == groups - 1
    full = np.full(groups, VALID | HOLD | (WIDE if pair.is_wide else 0), np.int64)
    return Cycles(
        control=full | np.where(ends, LAST, 0),
        mode=np.full(groups, pair.control),
        chunk_groups=np.full(groups, chunk_groups),
        psum=np.zeros(groups, np.int64),
        a=_bus(design, a, pair.lanes),
        b=_bus(design, b, pair.lanes),
        expected=np.where(ends, result, 0),
    )


def _travelling(design: Design, vectors: Vectors, count: int, rng: np.random.Generator) -> Cycles:
    """Single groups upon a given partial sum, taken from the unit's own vectors."""
    pair, chosen = vectors.pair, rng.integers(0, len(vectors), count)
    return Cycles(
        control=np.full(count, VALID | (WIDE if pair.is_wide else 0)),
        mode=np.full(count, pair.control),
        chunk_groups=rng.integers(0, 4, count),
        psum=vectors.psum[chosen],
        a=_bus(design, vectors.a[chosen].ravel(), pair.lanes),
        b=_bus(design, vectors.b[chosen].ravel(), pair.lanes),
        expected=vectors.result[chosen],
    )


def _bus(design: Design, codes: Integers, lanes: int) -> Integers:
    """Codes along k as rows of ``lanes``, padded with zeros to whole groups and to the unit's lanes."""
    padded = np.zeros(-(-len(codes) // lanes) * lanes, np.int64)
    padded[: len(codes)] = codes
    rows = padded.reshape(-1, lanes)
    return np.pad(rows, ((0, 0), (0, max(design.lanes, 1) - lanes)))


def _with_idle_cycles(cycles: Cycles, rng: np.random.Generator) -> Cycles:
    """The same cycles with one in eight before which the PE is idle, its operands and controls at random."""
    order = np.repeat(np.arange(len(cycles)), 1 + (rng.random(len(cycles)) < 0.125))
    idle = np.append(order[1:] == order[:-1], False)
    spread = {field.name: getattr(cycles, field.name)[order] for field in fields(Cycles)}
    noise = rng.integers(0, 4, len(order)) * HOLD
    spread["control"] = np.where(idle, (spread["control"] & WIDE) | noise, spread["control"])
    spread["expected"] = np.where(idle, 0, spread["expected"])
    return Cycles(**spread)


def _operands(name: str, rng: np.random.Generator, shape: tuple[int, int]) -> Integers:
    """Codes of a GEMM operand: any, mostly zero, all of the largest magnitudes; 16 bits also near one."""
    fmt = number_format(name)
    kind = rng.integers(0, 4)
    if fmt.bits > 4:
        return _wide_operands(fmt, int(kind), rng, shape)
    codes = rng.integers(0, 16, shape)
    if kind == 0:
        return codes * (rng.random(shape) < 0.2)
    return rng.choice(np.array([7, 8, 15]), shape) if kind == 1 else codes


def _wide_operands(
    fmt: NumberFormat, kind: int, rng: np.random.Generator, shape: tuple[int, int]
) -> Integers:
    size = shape[0] * shape[1]
    if kind == 0:
        return corners.any_codes(fmt, rng, size).reshape(shape)
    reach = (4, 12, fmt.bias // 2)[kind - 1]
    return corners.assembled(fmt, rng.integers(-reach, reach + 1, size), rng).reshape(shape)


def _negated(name: str, codes: Integers) -> Integers:
    """Codes of the negative numbers, where the format has them (-8 stays as it is)."""
    fmt = number_format(name)
    if fmt.kind == "float":
        return codes ^ fmt.sign_code
    return -codes % 16 if fmt.signed else codes


def _joined(blocks: list[Cycles]) -> Cycles:
    names = [field.name for field in fields(Cycles)]
    return Cycles(**{name: np.concatenate([getattr(block, name) for block in blocks]) for name in names})
