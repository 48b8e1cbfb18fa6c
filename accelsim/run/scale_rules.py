"""Operands by the scale rules of a recipe that look at nothing but the values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accelsim.datapath.edge import EdgeOperand
from accelsim.datapath.quantisers import cast, largest_scale, power_scale, rms_scale, scaled
from accelsim.network import Operand
from accelsim.numerics.formats import NumberFormat, number_format
from accelsim.recipe import ActivationRule, GradientRule, WeightRule

F32 = NDArray[np.float32]


def by_rule(
    values: F32, fmt: str, rule: WeightRule | ActivationRule | GradientRule, storage: str, key: int | None
) -> Operand:
    """The values as codes of ``fmt`` with the scale of ``rule.scale``, kept in the format ``storage``.

    ``values``: float32 of any shape. ``key``: of the random bits, for stochastic rounding.
    """
    if rule.scale == "block":
        if not isinstance(rule, WeightRule):
            return EdgeOperand(values, fmt, rounding=rule.rounding, key=key)
        return EdgeOperand(values, fmt, rounding=rule.rounding, key=key, square=rule.square, kept={})
    number = number_format(fmt)
    if rule.scale == "cast":
        return cast(values, number, rule.rounding, key)
    if isinstance(rule, ActivationRule) and rule.scale == "rms":
        step = rms_scale(values, number, rule.deviations[not number.signed], storage)
        low = -number.max_value if number.signed else 0.0
        return scaled(values, number, step, rule.rounding, key, low)
    return scaled(values, number, step_size(values, number, rule.scale, storage), rule.rounding, key)


def step_size(values: F32, fmt: NumberFormat, scale: str, storage: str) -> float:
    """What one unit of ``fmt`` stands for, by the rule ``scale``."""
    if scale == "max_power":
        return power_scale(values, fmt)
    return largest_scale(values, fmt, storage) if scale == "max" else 1.0
