"""Products of matrices: ours in every rounding rule against numpy's float32, on squares and by threads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from accelsim.numerics.accumulate import Matrix, multiply
from accelsim.numerics.accumulation import Accumulation
from accelsim.numerics.compiled import set_threads
from accelsim.numerics.formats import NumberFormat, number_format
from accelsim.run.gemm_operands import random_codes
from benchmarks.measuring import Row, Size, cpu_seconds, wall_seconds

Array = NDArray[Any]
Shape = tuple[int, ...]

YARDSTICK = "numpy float32"
WHOLE_K = 1 << 30


class Arithmetic(Protocol):
    """What multiplies: tensors of a role (activation, weight, gradient), and their products."""

    def tensor(self, role: str, shape: Shape) -> Array:
        """A random tensor in the memory format of its role."""

    def product(self, a: Array, b: Array, roles: tuple[str, str]) -> Array:
        """a (m, k) times b (k, n)."""


class Float32:
    """numpy's float32 product: the yardstick."""

    def tensor(self, role: str, shape: Shape) -> Array:
        """Normal numbers."""
        return np.random.default_rng(1).normal(size=shape).astype(np.float32)

    def product(self, a: Array, b: Array, roles: tuple[str, str]) -> Array:
        """One call of the library."""
        return np.asarray(a @ b)


@dataclass(frozen=True)
class Case:
    """One rounding rule on operands of formats by role; ``target``: least speed relative to float32.

    ``targets`` are by the operands' roles: products with gradients are products with FP4.
    """

    name: str
    rule: Accumulation
    formats: dict[str, str]
    target: float
    gradient_target: float

    def format_of(self, role: str) -> NumberFormat:
        """The number format of a role's tensors."""
        return number_format(self.formats[role])

    def target_of(self, roles: tuple[str, str]) -> float:
        """The least ratio wanted for a product of two roles."""
        return self.gradient_target if any(role.startswith("gradient") for role in roles) else self.target

    def tensor(self, role: str, shape: Shape) -> Array:
        """Codes of normal numbers, or their values where the format is wider than 8 bits."""
        fmt = self.format_of(role)
        codes = random_codes(role, 1, (int(np.prod(shape[:-1])), shape[-1]), fmt).reshape(shape)
        return codes if fmt.bits <= 8 else fmt.decode(codes).astype(np.float32)

    def product(self, a: Array, b: Array, roles: tuple[str, str]) -> Array:
        """One call of our kernels."""
        return self.run(a, b, roles)[0]

    def run(self, a: Array, b: Array, roles: tuple[str, str]) -> tuple[Array, str]:
        """The product and the kernel that computed it."""
        left, right = Matrix(a, self.format_of(roles[0])), Matrix(b, self.format_of(roles[1]))
        return multiply(self.rule, left, right)


FOUR_BITS = {
    "activation": "int4",
    "weight": "int4",
    "gradient_input": "fp4_r4_even",
    "gradient_weight": "fp4_r4_odd",
}


def _sixteen(name: str) -> Case:
    rule = Accumulation(1, 64, name)
    return Case(f"16 bits ({name}), a rounding at every add", rule, dict.fromkeys(FOUR_BITS, name), 0.3, 0.3)


CASES = (
    Case("4 bits, one rounding per 64", Accumulation(64, WHOLE_K, "dlfloat16"), FOUR_BITS, 2.0, 1.2),
    Case("4 bits, one rounding per 8", Accumulation(8, 64, "dlfloat16"), FOUR_BITS, 0.6, 0.6),
    Case("4 bits, a rounding at every add", Accumulation(1, 64, "dlfloat16"), FOUR_BITS, 0.4, 0.4),
    _sixteen("dlfloat16"),
    _sixteen("fp16"),
)
ROLES = {"INT4 x INT4": ("activation", "weight"), "INT4 x FP4": ("activation", "gradient_weight")}


def cases_of(size: Size) -> tuple[Case, ...]:
    """All cases, or those of the two chips' most frequent products."""
    return CASES if size.all_cases else (CASES[0], CASES[3])


def square_rows(size: Size) -> Iterator[Row]:
    """Square products, CPU time of one thread."""
    set_threads(1)
    for extent in size.squares:
        floats = Float32().tensor("activation", (extent, extent))
        repeats = size.repeats * max(1, 2048 // extent)  # small ones are over before a noise is
        seconds = cpu_seconds(lambda: floats @ floats, repeats)  # noqa: B023
        yield _product_row(YARDSTICK, extent, seconds, seconds)
        for case in cases_of(size):
            pairs = ROLES if case.formats["weight"] == "int4" else {"": ("activation", "weight")}
            for pair, roles in pairs.items():
                a, b = (case.tensor(role, (extent, extent)) for role in roles)
                ours = cpu_seconds(lambda: case.product(a, b, roles), repeats)  # noqa: B023
                kernel = case.run(a, b, roles)[1]
                name = f"{pair}, {case.name.removeprefix('4 bits, ')}" if pair else case.name
                yield _product_row(name, extent, ours, seconds, case.target_of(roles), kernel)


def _product_row(
    name: str, extent: int, seconds: float, yardstick: float, target: float | None = None, kernel: str = ""
) -> Row:
    ns_per_mac = seconds * 1e9 / extent**3
    ratio = yardstick / seconds
    return Row("products", name, f"{extent}^3", ns_per_mac, "ns/MAC", ratio, YARDSTICK, target, note=kernel)


def thread_rows(size: Size) -> Iterator[Row]:
    """Two threads against one on the largest square: time on the clock, so a busy machine shows."""
    extent, repeats = size.squares[-1], 2 * size.repeats + 1
    for case in cases_of(size):
        roles = ("activation", "weight")
        a, b = (case.tensor(role, (extent, extent)) for role in roles)
        if set_threads(2) < 2:
            yield Row("threads", case.name, f"{extent}^3", None, "ms", note="this machine has one core")
            continue
        two = wall_seconds(lambda: case.product(a, b, roles), repeats)  # noqa: B023
        set_threads(1)
        one = wall_seconds(lambda: case.product(a, b, roles), repeats)  # noqa: B023
        yield Row(
            "threads",
            case.name,
            f"{extent}^3",
            two * 1e3,
            "ms",
            one / two,
            "one thread",
            1.8,
            note="wall clock",
        )
    set_threads(1)
