"""accelsim: a bit-accurate simulator of 4-bit training accelerators.

``import accelsim`` is cheap: each verb of `accelsim.api` is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from accelsim.errors import InputError

__version__ = "0.1.0"

if TYPE_CHECKING:
    from accelsim.api import (
        Chip,
        Comparison,
        GemmReport,
        MappedGemm,
        MatmulResult,
        NumberFormat,
        Plan,
        Progress,
        Recipe,
        RunRecord,
        Workload,
        compare,
        compare_records,
        draw_formats,
        draw_four_bits,
        estimate,
        gemm_report,
        kept_tensors,
        load_chip,
        load_recipe,
        load_workload,
        map_gemms,
        matmul,
        number_format,
        probe,
        read_record,
        record_text,
        train,
        with_grid,
    )

__all__ = [
    "Chip",
    "Comparison",
    "GemmReport",
    "InputError",
    "MappedGemm",
    "MatmulResult",
    "NumberFormat",
    "Plan",
    "Progress",
    "Recipe",
    "RunRecord",
    "Workload",
    "compare",
    "compare_records",
    "draw_formats",
    "draw_four_bits",
    "estimate",
    "gemm_report",
    "kept_tensors",
    "load_chip",
    "load_recipe",
    "load_workload",
    "map_gemms",
    "matmul",
    "number_format",
    "probe",
    "read_record",
    "record_text",
    "train",
    "with_grid",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'accelsim' has no attribute '{name}'")
    from accelsim import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted(__all__)
