"""What a recipe's gradient rule adds to the dL/dW products: samples, and a transform before them."""

from __future__ import annotations

from dataclasses import replace

from accelsim.operations import LayerWork, VectorWork
from accelsim.recipe import SiteRules


def with_samples(work: LayerWork, rules: SiteRules) -> LayerWork:
    """The work with every dL/dW GEMM as often as the rule samples it, and the vector unit's share.

    A sample is another stochastic conversion of dL/dy, and an addition to the mean. A Hadamard transform of
    16 is four additions and one multiplication of each element of both operands.
    """
    rule = rules.gradient
    if work.phase != "update" or not work.gemms:
        return work
    vector = list(work.vector_work)
    if rule.hadamard:
        elements = sum(gemm.a.elements + gemm.b.elements for gemm in work.gemms)
        vector.append(VectorWork("hadamard", elements, adds=4, multiplies=1))
    more = rule.samples - 1
    if more:
        gradients = sum(gemm.b.elements for gemm in work.gemms)
        results = sum(gemm.out.elements for gemm in work.gemms)
        vector.append(VectorWork("gradient_codes", gradients * more, multiplies=1, compares=4))
        vector.append(VectorWork("sample_mean", results, adds=more, multiplies=1))
    return replace(work, gemms=work.gemms * rule.samples, vector_work=tuple(vector))
