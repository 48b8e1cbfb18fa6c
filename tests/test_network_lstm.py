"""Long short-term memory: its definition, its gradients, and one GEMM a step."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradient_check import announced, chain, check_gradients, executed
from plain_executor import QUANTISED, PlainExecutor, everywhere
from token_workload import token_workload

from accelsim.network import Embedding, Linear, Lstm, ShapeError, Site, TakeLast
from accelsim.operations import PHASES
from accelsim.program import compile_program
from accelsim.recipe import load_recipe
from accelsim.run.state import initial_state


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def plain_lstm(x: Any, weights: tuple[Any, Any, Any], d: int) -> Any:
    """One sample, one feature at a time: (T, C) to (T, H) of direction ``d``."""
    of_input, of_state, bias = weights
    features = len(of_state[d])
    columns = of_input.reshape(x.shape[1], -1, 4, features)[:, d]
    rows = of_state[d].reshape(features, 4, features)
    hidden, cell, y = np.zeros(features), np.zeros(features), np.zeros((len(x), features))
    for place in range(len(x)) if d == 0 else reversed(range(len(x))):
        sums = np.einsum("c,cgf->gf", x[place], columns) + np.einsum("h,hgf->gf", hidden, rows) + bias[d]
        for j in range(features):
            i, f, g, o = sums[:, j]
            cell[j] = sigmoid(f) * cell[j] + sigmoid(i) * math.tanh(g)
            y[place, j] = sigmoid(o) * math.tanh(cell[j])
        hidden = y[place]
    return y


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("positions", [1, 5])
def test_lstm_is_its_definition(positions: int, bidirectional: bool) -> None:
    """Gates in the order i, f, g, o; the second direction starts at the last position."""
    network = chain((positions, 3), Lstm(features=4, bidirectional=bidirectional))
    chip = PlainExecutor(list(network.leaves()))
    x = np.random.default_rng(1).normal(size=(2, positions, 3))
    names = (("lstm0.input", "weight"), ("lstm0.state", "weight"), ("lstm0", "bias"))
    of_input, of_state, bias = (chip.parameters[name] for name in names)
    y = network.forward(x, chip)
    for sample in range(2):
        expected = [plain_lstm(x[sample], (of_input, of_state, bias), d) for d in range(1 + bidirectional)]
        np.testing.assert_allclose(y[sample], np.concatenate(expected, axis=-1), rtol=1e-12)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("positions", [1, 4])
def test_lstm_gradients(positions: int, bidirectional: bool) -> None:
    """Back through time: inputs, both weights and biases, each against finite differences."""
    check_gradients(chain((positions, 3), Lstm(features=2, bidirectional=bidirectional)))


def test_gradients_of_stacked_lstms() -> None:
    """Two layers on tokens, as a language model has them."""
    layers = [
        Embedding(tokens=5, features=3),
        Lstm(features=4),
        Lstm(features=3, bidirectional=True),
        TakeLast(),
        Linear(features=2),
    ]
    check_gradients(chain((4,), *layers), tokens=5)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_gemms_of_an_lstm_are_those_announced(bidirectional: bool) -> None:
    """One GEMM for all inputs, one a step for the state, weight gradients over all steps at once."""
    layer, shape, batch = Lstm(features=4, bidirectional=bidirectional), (5, 3), 2
    network = chain(shape, layer)
    found = executed(network, batch, PlainExecutor(list(network.leaves()), formats=QUANTISED))
    expected = announced(network, batch, QUANTISED)
    assert {phase: Counter(found[phase]) for phase in PHASES} == {
        phase: Counter(expected[phase]) for phase in PHASES
    }
    d = layer.directions
    (forward, *_) = layer.work(Site("a", shape), batch, everywhere(QUANTISED))
    assert [(g.m, g.k, g.n, g.groups) for g in forward.gemms] == [(10, 3, 16 * d, 1), *[(2, 4, 16, d)] * 5]
    of_input, of_state = batch * 5 * 3 * 16 * d, batch * 4 * 16 * d
    macs = {phase: sum(g.m * g.k * g.n for g in found[phase]) for phase in PHASES}
    assert macs == {
        "forward": of_input + 5 * of_state,
        "backward": of_input + 4 * of_state,
        "update": of_input + 5 * of_state,
    }


def test_the_state_weight_is_read_from_memory_once_a_pass() -> None:
    """The later steps may find it in the scratchpad."""
    forward, backward, _ = Lstm(features=4).work(Site("a", (5, 3)), 2, everywhere(QUANTISED))
    for work in (forward, backward):
        weights = [gemm.b.residence for gemm in work.gemms if gemm.b.name == "a.state.weight codes"]
        assert weights == ["parameter", *["stream"] * (len(weights) - 1)]
        assert len(weights) == (5 if work is forward else 4)


def test_saved_tensors_of_an_lstm() -> None:
    """Gates and cells in 16 bits; codes of the inputs and of the states with their masks."""
    forward, *_ = Lstm(features=4).work(Site("a", (5, 3)), 2, everywhere(QUANTISED))
    saved = {t.name: (t.elements, t.bits) for t in forward.writes if t.residence == "saved"}
    assert saved == {
        "a.input.input codes": (30, 4), "a.input.mask": (30, 1),
        "a.state.codes": (40, 4), "a.state.mask": (40, 1),
        "a.gates": (160, 16), "a.cell": (40, 16),
    }  # fmt: skip


def test_vector_work_of_an_lstm() -> None:
    """One cell a state element: eight gate sums, the functions of five numbers, three products and a sum."""
    works = {work.phase: work for work in Lstm(features=4).work(Site("a", (5, 3)), 2, everywhere(QUANTISED))}
    cells = 2 * 5 * 4
    counts = {(phase, each.function): each for phase, work in works.items() for each in work.vector_work}
    cell = counts["forward", "lstm_cell"]
    # a sigmoid is an add and two specials, tanh near or far from zero two adds, a multiply, two specials
    assert (cell.elements, cell.adds, cell.specials) == (cells, 8 + 3 * 1 + 2 * 2 + 1, 5 * 2)
    assert (cell.multiplies, cell.compares) == (2 * 1 + 3, 3 * 1 + 2 * 2)
    assert counts["backward", "lstm_cell_gradient"].elements == cells
    codes = [each.elements for each in works["forward"].vector_work if each.function == "activation_codes"]
    assert codes == [2 * 5 * 3, cells]
    converted = sum(
        each.elements for work in works.values() for each in work.vector_work
        if each.function == "gradient_codes"
    )  # fmt: skip
    assert converted == 2 * 4 * cells
    weights = [each.elements for each in works["update"].vector_work if each.function == "weight_codes"]
    assert weights == [3 * 16, 4 * 16]


def test_an_lstm_of_a_workload(tmp_path: Path) -> None:
    """A file's two-layer language model: forget gates start at one, each layer stands once in each phase."""
    layers = "  - embedding: {tokens: 7, features: 6}\n" + 2 * "  - lstm: {features: 8}\n"
    layers += "  - linear: {features: 7}\n"
    workload = token_workload(tmp_path, layers, positions=4)
    bias = initial_state(workload).parameters["lstm1.bias"]
    assert bias.shape == (1, 4, 8)
    assert bias.sum(axis=-1).tolist() == [[0, 8, 0, 0]]
    program = compile_program(workload, load_recipe("ibm2020_fp4"))
    assert [work.phase for work in program.works if work.layer == "lstm2"] == [
        "forward",
        "update",
        "backward",
    ]
    assert program.formats["lstm2.state"].activation == "int4"
    places = [(work.layer, work.phase) for work in program.works]
    assert len(places) == len(set(places))


def test_an_lstm_takes_a_sequence() -> None:
    """Images must become sequences first."""
    with pytest.raises(ShapeError, match=r"lstm takes \(positions, channels\), got \(4, 4, 1\)"):
        Lstm(features=3).output_shape(Site("lstm", (4, 4, 1)))
