"""Products that sample their gradients: the program counts those that the executor runs, site by site."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from token_workload import TRANSLATOR, token_workload

import accelsim
from accelsim.chip import load_chip
from accelsim.mapping import Plan, Planner
from accelsim.network import Operand
from accelsim.operations import VectorWork
from accelsim.program import compile_program
from accelsim.recipe import Recipe, load_recipe
from accelsim.run import chip_executor
from accelsim.run.chip_executor import ChipExecutor
from accelsim.run.state import initial_state
from accelsim.workload import Workload

RECURRENT = """\
  - embedding: {tokens: 7, features: 6, name: words}
  - lstm: {features: 5}
  - lstm: {features: 3, bidirectional: true}
  - layer_norm
  - unembedding: {of: words}
"""
CASES = {"attention": (TRANSLATOR, 4), "lstm": (RECURRENT, 9)}
PLACES = {
    "attention": {"*.query": 3, "*.probabilities": 1},
    "lstm": {"*.input": 1, "*.state": 3},
}
BATCH = 3
Shape = tuple[int, int, int]


def sampled_in_places(folder: Path, case: str) -> Recipe:
    """Two samples everywhere, but one or three where ``PLACES`` say so."""
    path = folder / "places.yaml"
    text = (Path(accelsim.__file__).parent / "recipe/shipped/luq2023_smp.yaml").read_text(encoding="utf-8")
    (rule,) = (line for line in text.splitlines() if line.startswith("gradient: "))
    lines = [
        f"  - {{names: ['{names}'], {rule.replace('samples: 2', f'samples: {samples}')}}}"
        for names, samples in PLACES[case].items()
    ]
    path.write_text("\n".join([text, "overrides:", *lines, ""]), encoding="utf-8")
    return load_recipe(path)


def products_run(workload: Workload, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> Counter[Shape]:
    """How often a training step multiplies matrices of each shape; every result is zero."""
    ran: Counter[Shape] = Counter()

    def counted(plan: Plan, a: Operand, b: Operand, *_: Any) -> tuple[np.ndarray, str]:
        products = len(a.array) if a.array.ndim == 3 else 1
        ran[plan.m, plan.k, plan.n] += products * max(getattr(one, "samples", 1) for one in (a, b))
        return np.zeros((*a.array.shape[:-1], b.array.shape[-1]), np.float32), "none"

    monkeypatch.setattr(chip_executor, "edge_product", counted)
    monkeypatch.setattr(chip_executor, "scaled_product", counted)
    rules = compile_program(workload, recipe).rules
    chip = ChipExecutor(Planner(load_chip("luq_training")), recipe, rules, initial_state(workload), 1)
    chip.begin(training=True)
    ids = np.random.default_rng(1).integers(0, 7, (BATCH, 9)).astype(np.float32)
    y = workload.network.forward(ids, chip)
    workload.network.backward(np.ones_like(y), chip)
    return ran


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("own", [False, True], ids=["shipped", "places"])
def test_as_many_products_are_counted_as_run(
    tmp_path: Path, case: str, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every matrix product of a step, by shape, with a rule for all sites and with a rule for each."""
    layers, targets = CASES[case]
    workload = token_workload(tmp_path, layers, 9, targets)
    recipe = sampled_in_places(tmp_path, case) if own else load_recipe("luq2023_smp")
    counted: Counter[Shape] = Counter()
    for gemm in compile_program(workload, recipe, BATCH).gemms:
        counted[gemm.m, gemm.k, gemm.n] += gemm.groups
    assert counted == products_run(workload, recipe, monkeypatch)


def test_a_sites_rule_decides_its_products_alone(tmp_path: Path) -> None:
    """dL/dR of an LSTM runs three times where dL/dW runs once; the vector unit's share follows."""
    workload = token_workload(tmp_path, RECURRENT, 9, 9)
    program = compile_program(workload, sampled_in_places(tmp_path, "lstm"), BATCH)
    (update,) = [work for work in program.works if (work.layer, work.phase) == ("lstm2", "update")]
    names = [gemm.b.name for gemm in update.gemms]
    assert names == ["lstm2.input.dy codes (dW)", *["lstm2.state.dgates codes (dW)"] * 3]
    state = update.gemms[-1]
    extra = [each for each in update.vector_work if each.function == "sample_mean"]
    assert extra == [VectorWork("sample_mean", state.out.elements, adds=2, multiplies=1)]


def test_a_transform_is_counted_where_it_runs(tmp_path: Path) -> None:
    """dL/dv and dL/dk of an attention pass the transform in the backward phase, two operands each."""
    workload = token_workload(tmp_path, TRANSLATOR, 9, 4)
    program = compile_program(workload, load_recipe("nvfp4"), BATCH)
    (backward,) = [work for work in program.works if (work.layer, work.phase) == ("attention1", "backward")]
    turned = [each.elements for each in backward.vector_work if each.function == "hadamard"]
    wide = [gemm for gemm in backward.gemms if gemm.b.name.endswith("(dW)")]
    assert turned == [gemm.a.elements + gemm.b.elements for gemm in wide]
    assert len(turned) == 2
