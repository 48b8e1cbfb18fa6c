"""One GEMM on a chip: its bits, how exact they are, its cycles and its energy."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.chip import Chip, load_chip
from accelsim.cost import LayerCost, price_layer
from accelsim.errors import InputError, unknown
from accelsim.mapping import Plan, plan_gemm
from accelsim.numerics.block_formats import block_format_names
from accelsim.numerics.formats import NumberFormat, number_format
from accelsim.operations import PHASES, Gemm, LayerWork, Phase
from accelsim.recipe import load_recipe
from accelsim.run.gemm_error import GemmError, measure_error
from accelsim.run.gemm_operands import given_codes, random_codes
from accelsim.run.matmul import MatmulResult, lone_gemm, matmul

MOST_BYTES = 4 << 30
MOST_MACS = 1 << 36  # 4096 cubed: seconds in a fast kernel, an hour in the general one
# float64 values, their slices and the carriers of the kernel; of the result also exact sums and errors
_BYTES_PER_OPERAND_ELEMENT = 40
_BYTES_PER_RESULT_ELEMENT = 80

Source = str | Path | NDArray[Any] | None


@dataclass(frozen=True, eq=False)
class GemmReport:
    """All there is to know of one GEMM on a chip.

    ``result``: codes, values, plan and kernel, as `matmul` gives them; ``a_origin``, ``b_origin``: where the
    operands come from; ``digest``: SHA-256 of the result's codes (C order, little endian); ``error``:
    against exact arithmetic on the same operands; ``cost``: counts, cycles and energy; ``activity``: zeros
    and toggles of these operands, and MAC energy as stated and as measured (`accelsim.record`).
    """

    chip: Chip
    phase: Phase
    a_format: NumberFormat
    b_format: NumberFormat
    a_origin: str
    b_origin: str
    result: MatmulResult
    digest: str
    error: GemmError
    cost: LayerCost
    activity: dict[str, Any]

    @property
    def seconds(self) -> float:
        """Simulated time."""
        return self.cost.time.total_cycles / (self.chip.clock_mhz.value * 1e6)

    def as_record(self) -> dict[str, Any]:
        """Everything but the result itself, for JSON; energies in attojoules."""
        cost = self.cost.as_record()
        for key in ("layer", "kind", "phase", "gemms"):
            del cost[key]
        (gemm,) = self.cost.gemms
        return {
            "chip": self.chip.name,
            "phase": self.phase,
            "a": {"format": self.a_format.name, "from": self.a_origin},
            "b": {"format": self.b_format.name, "from": self.b_origin},
            "plan": asdict(self.result.plan) | {"passes": gemm.counts.array_passes},
            "kernel": self.result.kernel,
            "result": {"format": self.result.format.name, "sha256": self.digest},
            "error": self.error.as_record(),
            "cost": cost | {"seconds": self.seconds},
            "activity": self.activity,
        }


def gemm_report(
    chip: Chip | str | Path,
    m: int,
    k: int,
    n: int,
    *,
    phase: Phase = "forward",
    a: Source = None,
    b: Source = None,
    a_format: str | NumberFormat | None = None,
    b_format: str | NumberFormat | None = None,
    seed: int = 1,
) -> GemmReport:
    """Run one GEMM (m, k) x (k, n) on a chip, bit for bit, and report on it.

    Parameters
    ----------
    chip: a `Chip`, the name of a shipped one, or the path of a YAML file.
    phase: fixes the formats that are not given: those of the chip's own recipe (``forward``: signed
        activation x weight; ``backward``: gradient x weight; ``update``: signed activation x gradient).
    a, b: an array or a .npy file (m, k) and (k, n): unsigned integers are codes, floating-point numbers
        are values that are rounded to the format, without a scale (`gemm_operands.given_codes`). None:
        random numbers of ``seed`` (`gemm_operands.random_codes`).

    Raises
    ------
    InputError: sizes below 1 or too large to hold, operands that do not fit, formats the chip does not
        multiply.
    """
    shape = (m, k, n)
    _check_size(*shape)
    if phase not in PHASES:
        raise unknown("phase", str(phase), PHASES)
    chip = chip if isinstance(chip, Chip) else load_chip(chip)
    formats = _formats(chip, phase, a_format, b_format)
    gemm = lone_gemm(phase, shape, formats, chip)
    plan = plan_gemm(gemm, chip)  # formats that no mode takes are told before the work begins
    a_codes, a_origin = _operand("a", a, (m, k), formats[0], seed)
    b_codes, b_origin = _operand("b", b, (k, n), formats[1], seed)
    result = matmul(chip, a_codes, b_codes, *formats)
    values = formats[0].decode(a_codes), formats[1].decode(b_codes)
    return GemmReport(
        chip=chip,
        phase=phase,
        a_format=formats[0],
        b_format=formats[1],
        a_origin=a_origin,
        b_origin=b_origin,
        result=result,
        digest=_digest(result.codes),
        error=measure_error(result.values, result.format, *values),
        cost=price_layer(LayerWork(gemm.layer, "gemm", phase, (gemm,)), {gemm: plan}, chip),
        activity=_activity(chip, gemm, plan, (a_codes, b_codes), formats),
    )


def _activity(
    chip: Chip,
    gemm: Gemm,
    plan: Plan,
    codes: tuple[NDArray[Any], NDArray[Any]],
    formats: tuple[NumberFormat, NumberFormat],
) -> dict[str, Any]:
    """What the operands do to the arrays' switching and to the energy of the MACs."""
    # these load the compiler
    from accelsim.datapath.gemm import matrix_of_codes
    from accelsim.run.activity_meter import ActivityMeter

    meter = ActivityMeter(chip)
    meter.note_matrices(gemm, plan, *map(matrix_of_codes, codes, formats))
    (row,) = meter.rows(1)
    for key in ("epoch", "layer", "phase"):
        del row[key]
    return row


def _check_size(m: int, k: int, n: int) -> None:
    for name, extent in (("M", m), ("K", k), ("N", n)):
        if extent < 1:
            raise InputError(f"{name} must be at least 1, got {extent}")
    needed = _BYTES_PER_OPERAND_ELEMENT * (m * k + k * n) + _BYTES_PER_RESULT_ELEMENT * m * n
    if needed > MOST_BYTES:
        raise InputError(
            f"a GEMM of {m} x {k} x {n} would need about {needed / 2**30:,.1f} GiB of memory; "
            f"at most {MOST_BYTES >> 30} GiB are allowed"
        )
    if m * k * n > MOST_MACS:
        raise InputError(
            f"a GEMM of {m} x {k} x {n} has {m * k * n:,} products; at most {MOST_MACS:,} are allowed"
        )


def _formats(
    chip: Chip, phase: Phase, a: str | NumberFormat | None, b: str | NumberFormat | None
) -> tuple[NumberFormat, NumberFormat]:
    recipe = load_recipe(chip.recipe)
    default_a, default_b = recipe.rules((), (), 0.5, nonnegative=False).formats.operands(phase)
    return _named("a_format", a or default_a, recipe.name), _named("b_format", b or default_b, recipe.name)


def _named(where: str, name: str | NumberFormat, recipe: str) -> NumberFormat:
    if isinstance(name, str) and name in block_format_names():
        message = f"'{name}' is a block format (recipe '{recipe}'); a lone GEMM takes one of single numbers"
        raise InputError(message, where)
    try:
        return number_format(name)
    except InputError as error:
        raise InputError(str(error), where) from None


def _operand(
    name: str, source: Source, shape: tuple[int, int], fmt: NumberFormat, seed: int
) -> tuple[NDArray[Any], str]:
    """Codes, and where they come from."""
    if source is None:
        return random_codes(name, seed, shape, fmt), f"random, seed {seed}"
    origin = "array" if isinstance(source, np.ndarray) else str(source)
    return given_codes(source, name, shape, fmt), origin


def _digest(codes: NDArray[Any]) -> str:
    little_endian = codes.astype(codes.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(np.ascontiguousarray(little_endian).tobytes()).hexdigest()
