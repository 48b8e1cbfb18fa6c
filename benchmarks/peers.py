"""The same work done by other packages, each skipped with a word where it is missing.

Products have a rounding to a 16-bit format at every add, which no peer does faster than in a loop over k;
rows say what each is asked to do. Ratios are against our own kernel on the same shape.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.numerics.accumulate import Matrix, multiply
from accelsim.numerics.accumulation import Accumulation
from accelsim.numerics.compiled import set_threads
from accelsim.numerics.formats import number_format
from benchmarks.measuring import Row, Size, Work, cpu_seconds

F32 = NDArray[np.float32]
OURS = "accelsim"
PACKAGES = {
    "ml_dtypes": "ml_dtypes",
    "gfloat": "gfloat",
    "pychop": "pychop",
    "apytypes": "apytypes",
    "qtorch": "QPyTorch",
}
"""Module -> what the table calls it."""


@dataclass(frozen=True)
class Job:
    """A peer's way to do one of our jobs: ``task`` is the row it is compared with."""

    peer: str
    task: str
    how: str
    work: Work


def peer_rows(size: Size) -> Iterator[Row]:
    """Products with a rounding at every add, and conversions: ours, then every peer's."""
    set_threads(1)
    values, half = _operands(size)
    extent, count = size.peer_extent, len(values)
    ours = _ours(values, half, size)
    for task, (seconds, note) in ours.items():
        yield _row(OURS, task, seconds, seconds, (extent, count), note)
    yield from _jobs_rows("numpy", _numpy_jobs(half), ours, size)
    for module, name in PACKAGES.items():
        try:
            package = importlib.import_module(module)
        except ImportError as error:
            missing = (
                "not installed" if isinstance(error, ModuleNotFoundError) else f"cannot be imported: {error}"
            )
            yield Row("peers", f"{name}: skipped, {missing}", "", None, "")
            continue
        yield from _jobs_rows(name, _JOBS[module](package, values, half), ours, size)


def _operands(size: Size) -> tuple[F32, tuple[F32, F32]]:
    """Values to convert, and two square matrices of IEEE halves held in float32."""
    rng = np.random.default_rng(1)
    values = rng.normal(0, 2, size.peer_elements).astype(np.float32)
    pair = rng.normal(0, 1, (2, size.peer_extent, size.peer_extent)).astype(np.float16).astype(np.float32)
    return values, (pair[0], pair[1])


HALF, BFLOAT, E4M3, INT4 = (
    "product, fp16 at every add",
    "product, bf16 at every add",
    "to FP8 (4, 3)",
    "to INT4",
)


def _ours(values: F32, half: tuple[F32, F32], size: Size) -> dict[str, tuple[float, str]]:
    """CPU seconds of our side of every task, and the kernel or function."""
    found = {}
    for task, name in ((HALF, "fp16"), (BFLOAT, "bf16")):
        fmt, rule = number_format(name), Accumulation(1, 1 << 30, name)
        a, b = (Matrix(fmt.round(each).astype(np.float32), fmt) for each in half)
        kernel = multiply(rule, a, b)[1]
        found[task] = cpu_seconds(lambda rule=rule, a=a, b=b: multiply(rule, a, b), size.repeats), kernel  # type: ignore[misc]
    for task, name in ((E4M3, "fp8_e4m3fn"), (INT4, "int4")):
        fmt = number_format(name)
        found[task] = cpu_seconds(lambda fmt=fmt: fmt.encode(values), size.repeats), "NumberFormat.encode"  # type: ignore[misc]
    return found


def _jobs_rows(name: str, jobs: list[Job], ours: dict[str, tuple[float, str]], size: Size) -> Iterator[Row]:
    for job in jobs:
        try:
            with warnings.catch_warnings(action="ignore"):
                seconds = cpu_seconds(job.work, 1)
        except Exception as error:  # a peer that fails is a finding, not the end of the table
            reason = " ".join(str(error).split())[:80]
            yield Row(
                "peers", f"{name}: {job.task}", "", None, "", note=f"failed: {type(error).__name__}: {reason}"
            )
            continue
        yield _row(
            name, job.task, seconds, ours[job.task][0], (size.peer_extent, size.peer_elements), job.how
        )


def _row(name: str, task: str, seconds: float, ours: float, counts: tuple[int, int], note: str) -> Row:
    is_product = task.startswith("product")
    work = counts[0] ** 3 if is_product else counts[1]
    shape = f"{counts[0]}^3" if is_product else f"{counts[1]:,}"
    unit = "ns/MAC" if is_product else "ns/element"
    return Row("peers", f"{name}: {task}", shape, seconds * 1e9 / work, unit, ours / seconds, OURS, note=note)


def _looped(half: tuple[F32, F32], rounded: Callable[[Any], Any]) -> Work:
    """A product by rank-one updates in ascending k, each rounded."""
    a, b = half

    def run() -> Any:
        total = np.zeros((a.shape[0], b.shape[1]), np.float32)
        for k in range(a.shape[1]):
            total = rounded(total + a[:, k, None] * b[k])
        return total

    return run


def _numpy_jobs(half: tuple[F32, F32]) -> list[Job]:
    loop = _looped(half, lambda sums: sums.astype(np.float16).astype(np.float32))
    return [Job("numpy", HALF, "a loop of rank-one updates and casts", loop)]


def _ml_dtypes_jobs(package: Any, values: F32, half: tuple[F32, F32]) -> list[Job]:
    loop = _looped(half, lambda sums: sums.astype(package.bfloat16).astype(np.float32))
    return [
        Job("ml_dtypes", BFLOAT, "a loop of rank-one updates and casts", loop),
        Job("ml_dtypes", E4M3, "astype(float8_e4m3fn)", lambda: values.astype(package.float8_e4m3fn)),
        Job("ml_dtypes", INT4, "astype(int4) of rounded, clipped values",
            lambda: np.clip(np.rint(values), -8, 7).astype(package.int4)),
    ]  # fmt: skip


def _gfloat_jobs(package: Any, values: F32, half: tuple[F32, F32]) -> list[Job]:
    formats = importlib.import_module("gfloat.formats")
    doubles = values.astype(np.float64)
    loop = _looped(half, lambda sums: package.round_ndarray(formats.format_info_binary16, sums))
    return [
        Job("gfloat", HALF, "a loop of rank-one updates and round_ndarray", loop),
        Job("gfloat", E4M3, "round_ndarray(ocp_e4m3)",
            lambda: package.round_ndarray(formats.format_info_ocp_e4m3, doubles, sat=True)),
    ]  # fmt: skip


def _pychop_jobs(package: Any, values: F32, half: tuple[F32, F32]) -> list[Job]:
    chop_half, chop_e4m3 = package.Chop(exp_bits=5, sig_bits=10), package.Chop(exp_bits=4, sig_bits=3)
    integers = package.Chopi(bits=4, symmetric=True)
    return [
        Job("pychop", HALF, "a loop of rank-one updates and Chop", _looped(half, chop_half)),
        Job("pychop", E4M3, "Chop(4, 3)", lambda: chop_e4m3(values)),
        Job("pychop", INT4, "Chopi(4).quantize", lambda: integers.quantize(values)),
    ]


def _apytypes_jobs(package: Any, values: F32, half: tuple[F32, F32]) -> list[Job]:
    array = package.APyFloatArray
    a, b = (array.from_float(each, exp_bits=5, man_bits=10) for each in half)

    def product() -> Any:
        with package.APyFloatAccumulatorContext(exp_bits=5, man_bits=10):
            return a @ b

    return [
        Job("apytypes", HALF, "@ in APyFloatAccumulatorContext", product),
        Job(
            "apytypes",
            E4M3,
            "APyFloatArray.from_float",
            lambda: array.from_float(values, exp_bits=4, man_bits=3),
        ),
    ]


def _qtorch_jobs(package: Any, values: F32, half: tuple[F32, F32]) -> list[Job]:
    torch, quant = importlib.import_module("torch"), importlib.import_module("qtorch.quant")
    torch.set_num_threads(1)
    tensor = torch.from_numpy(values)
    loop = _looped(half, lambda sums: quant.float_quantize(torch.from_numpy(sums), 5, 10, "nearest").numpy())
    return [
        Job("QPyTorch", HALF, "a loop of rank-one updates and float_quantize", loop),
        Job("QPyTorch", E4M3, "float_quantize(4, 3)", lambda: quant.float_quantize(tensor, 4, 3, "nearest")),
        Job("QPyTorch", INT4, "fixed_point_quantize(4, 0)",
            lambda: quant.fixed_point_quantize(tensor, 4, 0, rounding="nearest")),
    ]  # fmt: skip


_JOBS: dict[str, Callable[[Any, F32, tuple[F32, F32]], list[Job]]] = {
    "ml_dtypes": _ml_dtypes_jobs,
    "gfloat": _gfloat_jobs,
    "pychop": _pychop_jobs,
    "apytypes": _apytypes_jobs,
    "qtorch": _qtorch_jobs,
}


def peer_versions() -> dict[str, str]:
    """Versions of the peers that are installed."""
    found = {}
    for name in ("ml_dtypes", "gfloat", "pychop", "apytypes", "qtorch", "torch"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
