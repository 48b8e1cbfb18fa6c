"""What a recipe's gradient rule adds to the dL/dW products: samples, and a transform before them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from accelsim.operations import Gemm, LayerWork, VectorWork
from accelsim.recipe import SiteRules

FOR_WEIGHT = " codes (dW)"
"""How the name of a gradient ends that goes into a product for dL/dW, or for what stands for a weight."""


def with_samples(work: LayerWork, rules: Mapping[str, SiteRules]) -> LayerWork:
    """The work with every product that samples its gradient as often as the rule of the gradient's site says.

    Which products these are is told by their second operand, site by site: an attention has two of them in
    its backward phase, an LSTM two of different sites in its update. A sample is another stochastic
    conversion of the gradient, and an addition to the mean. A Hadamard transform of 16 is four additions and
    one multiplication of each element of both operands.
    """
    gemms: list[Gemm] = []
    vector = list(work.vector_work)
    for gemm in work.gemms:
        site, ending, _ = gemm.b.name.rpartition(FOR_WEIGHT)
        rule = rules[site.rpartition(".")[0]].gradient if ending else None
        gemms += [gemm] * (rule.samples if rule else 1)
        if rule and rule.hadamard:
            vector.append(VectorWork("hadamard", gemm.a.elements + gemm.b.elements, adds=4, multiplies=1))
        if rule and rule.samples > 1:
            more = rule.samples - 1
            vector.append(VectorWork("gradient_codes", gemm.b.elements * more, multiplies=1, compares=4))
            vector.append(VectorWork("sample_mean", gemm.out.elements, adds=more, multiplies=1))
    return replace(work, gemms=tuple(gemms), vector_work=tuple(vector))
