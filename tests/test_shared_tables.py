"""One table of tokens for several embeddings and the output: values, gradients, counts and mistakes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gradient_check import check_gradients
from plain_executor import PlainExecutor
from token_workload import TRANSLATOR, token_workload

from accelsim import train
from accelsim.cost import gradient_bytes, weight_code_bytes
from accelsim.errors import InputError
from accelsim.program import compile_program, model_size
from accelsim.recipe import load_recipe

OWN = "embedding: {tokens: 7, features: 6, name: target}"
SHARED = TRANSLATOR.replace(OWN, "embedding: {of: source, name: target}")


def test_gradients_of_a_table_for_all(tmp_path: Path) -> None:
    """Source, target and output: the table's one gradient is that of central differences."""
    network = token_workload(tmp_path, SHARED).network
    check_gradients(network, tokens=7, samples=30)


def test_a_shared_table_is_many_equal_ones(tmp_path: Path) -> None:
    """With equal tables separate networks give the same output; their gradients add up to the shared one."""
    shared, own = (token_workload(tmp_path, layers).network for layers in (SHARED, TRANSLATOR))
    chips = [PlainExecutor(list(network.leaves())) for network in (shared, own)]
    for key in chips[0].parameters:
        chips[1].parameters[key] = chips[0].parameters[key]
    chips[1].parameters["target", "weight"] = chips[0].parameters["source", "weight"]
    x = np.random.default_rng(5).integers(0, 7, (3, 9)).astype(np.float64)
    y = [network.forward(x, chip) for network, chip in zip((shared, own), chips, strict=True)]
    assert (y[0] == y[1]).all()
    for network, chip in zip((shared, own), chips, strict=True):
        network.backward(np.cos(y[0]), chip)
    apart = chips[1].gradients_found
    together = apart["source", "weight"] + apart["target", "weight"]
    np.testing.assert_allclose(chips[0].gradients_found["source", "weight"], together, rtol=1e-12)
    assert ("target", "weight") not in chips[0].gradients_found


def test_layers_after_a_shared_table_hand_gradients_back(tmp_path: Path) -> None:
    """The table is trained although the layer has no parameter: what follows needs dL/dx."""
    network = token_workload(tmp_path, SHARED).network
    leaves = {leaf.site.name: leaf for leaf in network.leaves()}
    assert leaves["linear2"].site.needs_input_gradient
    assert leaves["target"].layer.parameters(leaves["target"].site) == {}


def test_one_table_is_counted_once(tmp_path: Path) -> None:
    """A table of 42 less than apart: in parameters, memory, optimiser state and the all-reduce."""
    shared, own = (token_workload(tmp_path, layers) for layers in (SHARED, TRANSLATOR))
    assert model_size(own).parameters - model_size(shared).parameters == 42
    assert model_size(own).macs == model_size(shared).macs
    programs = [compile_program(each, load_recipe("ibm2020_fp4")) for each in (shared, own)]
    assert gradient_bytes(programs[1].works) - gradient_bytes(programs[0].works) == 2 * 42
    assert weight_code_bytes(programs[1].works) == weight_code_bytes(programs[0].works)
    memory = [program.memory for program in programs]
    assert memory[1].parameter_bytes - memory[0].parameter_bytes == 4 * 42
    assert memory[1].optimizer_bytes - memory[0].optimizer_bytes == 2 * 4 * 42
    assert programs[0].formats == programs[1].formats


COPIER = """\
name: copier
description: Writes a word again in capitals
data: {pairs: own.tsv}
batch: 16
epochs: 2
seed: 3
optimizer: {kind: adam}
learning_rate: {schedule: constant, initial: 0.01}
network:
  - encoder_decoder:
      source: 4
      encoder:
        - embedding: {tokens: 9, features: 16, deviation: 0.5, name: symbols}
        - positions: {kind: sinusoidal}
      decoder:
        - embedding: {of: symbols}
        - positions: {kind: sinusoidal}
        - residual: {body: [cross_attention: {heads: 1}]}
        - unembedding: {of: embedding1}
        - linear: {features: 6, bias: true}
"""


def test_a_run_trains_the_shared_table(tmp_path: Path) -> None:
    """Letters to capitals in 4 bits with one table, on one chip and on two: the loss falls."""
    random = np.random.default_rng(5)
    words = ["".join(random.choice(list("abc"), random.integers(1, 4))) for _ in range(200)]
    lines = "".join(f"{word}\t{word.upper()}\n" for word in words)
    (tmp_path / "own.tsv").write_text(lines, encoding="utf-8")
    path = tmp_path / "copier.yaml"
    path.write_text(COPIER, encoding="utf-8")
    digests = set()
    for chips in (1, 2):
        training = train("fp4_training", path, chips=chips).training
        assert training is not None
        first, last = (epoch.train_loss for epoch in training.epochs)
        assert first is not None
        assert last is not None
        assert last < first
        digests.add(training.weight_digest)
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ("embedding: {of: sauce, name: target}", "there is no embedding named 'sauce' before it"),
        ("embedding: {of: target, name: target}", "there is no embedding named 'target' before it"),
        ("embedding: {of: source, tokens: 7}", "embedding: unknown key 'tokens'; allowed: name, of"),
        ("embedding: {of: 3}", "embedding: of: must be text, got 3"),
    ],
)
def test_mistakes_of_sharing(tmp_path: Path, new: str, message: str) -> None:
    """A table that is not there, or a size beside it: one line at its place."""
    with pytest.raises(InputError, match=message):
        token_workload(tmp_path, TRANSLATOR.replace(OWN, new).replace("of: target}\n", "of: source}\n"))
