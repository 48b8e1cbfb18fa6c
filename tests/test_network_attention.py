"""Embedding, positions, attention, encoder and decoder: their mathematics, gradients and GEMMs."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradient_check import announced, chain, check_gradients, executed
from plain_executor import FORMATS, QUANTISED, PlainExecutor, everywhere
from token_workload import HEAD, TRANSLATOR, token_workload

from accelsim.cost import gradient_bytes, weight_code_bytes
from accelsim.errors import InputError
from accelsim.network import (
    Attention,
    CrossAttention,
    Embedding,
    EncoderDecoder,
    Layer,
    LayerNorm,
    Linear,
    Positions,
    ShapeError,
    Site,
    Unembedding,
)
from accelsim.network.waves import sinusoids
from accelsim.operations import PHASES, TensorFormats
from accelsim.program import compile_program
from accelsim.recipe import load_recipe
from accelsim.workload import load_workload

IDS = np.float64([[2, 0, 1], [1, 1, 2]])


def plain_attention(x: Any, heads: int, causal: bool) -> Any:
    """One query, one head, one key at a time."""
    n, positions, channels = x.shape
    width = channels // 3 // heads
    y = np.zeros((n, positions, channels // 3))
    for sample, head, i in np.ndindex(n, heads, positions):
        part = slice(head * width, (head + 1) * width)
        q, k, v = (x[sample, :, at * heads * width :][:, part] for at in range(3))
        seen = range(i + 1) if causal else range(positions)
        powers = [math.exp(sum(q[i] * k[j]) / math.sqrt(width)) for j in seen]
        y[sample, i, part] = sum(power * v[j] for power, j in zip(powers, seen, strict=True)) / sum(powers)
    return y


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention_is_its_definition(heads: int, causal: bool) -> None:
    """Softmax of scaled products, weighing the values, head by head."""
    network = chain((5, 24), Attention(heads=heads, causal=causal))
    x = np.random.default_rng(1).normal(size=(2, 5, 24))
    y = network.forward(x, PlainExecutor(list(network.leaves())))
    np.testing.assert_allclose(y, plain_attention(x, heads, causal), rtol=1e-12)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_gradients(causal: bool) -> None:
    """dL/dq, dL/dk and dL/dv through both products and the softmax."""
    check_gradients(chain((4, 12), Attention(heads=2, causal=causal)))
    check_gradients(chain((3, 5), LayerNorm(), Linear(features=6), Attention(heads=1, causal=causal)))


def test_causal_attention_sees_no_later_position() -> None:
    """A change at one position leaves all positions before it as they were."""
    network = chain((6, 9), Attention(heads=1, causal=True))
    chip = PlainExecutor(list(network.leaves()))
    x = np.random.default_rng(2).normal(size=(1, 6, 9))
    before = network.forward(x, chip)
    x[0, 3] += 1
    after = network.forward(x, chip)
    assert (before[0, :3] == after[0, :3]).all()
    assert (before[0, 3:] != after[0, 3:]).any(axis=-1).all()


def test_embedding_takes_rows_and_adds_gradients_up() -> None:
    """A token that stands at several places gets the sum of their gradients."""
    network = chain((3,), Embedding(tokens=4, features=2))
    chip = PlainExecutor(list(network.leaves()))
    table = chip.parameters["embedding0", "weight"]
    assert (network.forward(IDS, chip) == table[[[2, 0, 1], [1, 1, 2]]]).all()
    network.backward(np.ones((2, 3, 2)), chip)
    assert chip.gradients_found["embedding0", "weight"].tolist() == [[1, 1], [3, 3], [2, 2], [0, 0]]


@pytest.mark.parametrize("form", ["learned", "sinusoidal"])
def test_gradients_of_tokens_and_positions(form: str) -> None:
    """A small causal language model, all of its parameters."""
    layers = [
        Embedding(tokens=5, features=6),
        Positions(kind=form),
        Linear(features=18, bias=True),
        Attention(heads=3, causal=True),
        Linear(features=5),
    ]
    check_gradients(chain((4,), *layers), tokens=5)


@pytest.mark.parametrize(("positions", "channels"), [(7, 6), (300, 5), (2000, 4)])
def test_sinusoids(positions: int, channels: int) -> None:
    """The published formula, to the last bit or the one before."""
    table = sinusoids(positions, channels)
    for place, channel in np.ndindex(*table.shape):
        angle = place / 10000 ** ((channel - channel % 2) / channels)
        expected = math.cos(angle) if channel % 2 else math.sin(angle)
        assert abs(table[place, channel] - expected) < 1.3e-7


def same_gemms(found: dict[Any, list[Any]], expected: dict[Any, list[Any]]) -> None:
    """The same GEMMs, each as often, in each phase."""
    assert {phase: Counter(found[phase]) for phase in PHASES} == {
        phase: Counter(expected[phase]) for phase in PHASES
    }


def test_gemms_of_attention_are_those_announced() -> None:
    """Two products forward, four backward, one for each head and sample; six times the same MACs."""
    network = chain((5, 12), Attention(heads=2))
    found = executed(network, 3, PlainExecutor(list(network.leaves()), formats=QUANTISED))
    same_gemms(found, announced(network, 3, QUANTISED))
    assert {phase: sum(g.m * g.k * g.n for g in found[phase]) for phase in PHASES} == {
        "forward": 2 * 3 * 5 * 5 * 4, "backward": 4 * 3 * 5 * 5 * 4, "update": 0,
    }  # fmt: skip


def test_operand_sites_of_attention() -> None:
    """Queries, keys and values are signed, probabilities are not; each has formats of its own."""
    layer, site = Attention(heads=1), Site("a", (4, 6), True)
    signs = {one.name: one.nonnegative for one in layer.sites(site)}
    assert signs == {"a": True, "a.query": False, "a.key": False, "a.probabilities": True, "a.value": False}


def test_translator_gradients(tmp_path: Path) -> None:
    """Encoder and decoder with shared tables, two cross attentions: every parameter's gradient."""
    network = token_workload(tmp_path, TRANSLATOR).network
    check_gradients(network, tokens=7, samples=12)


def test_translator_listens(tmp_path: Path) -> None:
    """The decoder's output depends on the source; it does not see its own later positions."""
    network = token_workload(tmp_path, TRANSLATOR).network
    chip = PlainExecutor(list(network.leaves()))
    x = np.float64([[1, 2, 3, 4, 5, 0, 1, 2, 3]])
    y = network.forward(x, chip)
    other = x.copy()
    other[0, 1] = 6
    assert (network.forward(other, chip) != y).any(axis=-1).all()
    later = x.copy()
    later[0, 7] = 6
    assert ((network.forward(later, chip) == y).all(axis=-1) == [[True, True, False, False]]).all()


def test_program_of_a_translator(tmp_path: Path) -> None:
    """What is priced is what is computed; each layer stands once in each phase; tokens come from memory."""
    workload = token_workload(tmp_path, TRANSLATOR)
    program = compile_program(workload, load_recipe("ibm2020_fp4"))
    places = [(work.layer, work.phase) for work in program.works]
    assert len(places) == len(set(places))
    chip = PlainExecutor(list(workload.network.leaves()), formats=QUANTISED)
    x = np.random.default_rng(4).integers(0, 7, (3, 9)).astype(np.float64)
    workload.network.backward(workload.network.forward(x, chip), chip)
    found = {phase: [gemm for gemm in chip.executed if gemm.phase == phase] for phase in PHASES}
    same_gemms(found, announced(workload.network, 3, QUANTISED))
    inputs = [t.name for work in program.works for t in work.reads if t.residence == "input"]
    assert inputs == ["source.tokens", "target.tokens"]
    # the last layer, which shares the table, stays wide; attention and the projections become narrow
    assert program.formats["unembedding1"].weight == "dlfloat16"
    assert program.formats["attention1.probabilities"].activation == "uint4"
    assert program.formats["cross_attention1.key_value"].weight == "int4"


def test_saved_tensors_of_attention() -> None:
    """Codes of all four operands with their masks, and the probabilities in 16 bits for the softmax."""
    forward, _ = Attention(heads=2).work(Site("a", (5, 12)), 3, everywhere(QUANTISED))
    saved = {tensor.name: (tensor.elements, tensor.bits) for tensor in forward.writes}
    rows, square = 3 * 5 * 4, 3 * 2 * 25
    assert saved == {
        "a.query.codes": (rows, 4), "a.query.mask": (rows, 1),
        "a.key.codes": (rows, 4), "a.key.mask": (rows, 1),
        "a.probabilities.codes": (square, 4), "a.probabilities.mask": (square, 1),
        "a.value.codes": (rows, 4), "a.value.mask": (rows, 1), "a.p": (square, 16),
    }  # fmt: skip


@pytest.mark.parametrize("formats", [QUANTISED, FORMATS], ids=["codes", "16 bits"])
def test_attention_gets_back_what_it_kept(formats: TensorFormats) -> None:
    """The backward pass reads what the forward pass saved, all of it and from memory; forward streams."""
    forward, backward = Attention(heads=2).work(Site("a", (5, 12)), 3, everywhere(formats))
    kept = {tensor for tensor in forward.writes if tensor.residence == "saved"}
    operands = {tensor for gemm in backward.gemms for tensor in (gemm.a, gemm.b)}
    assert {tensor for tensor in (*operands, *backward.reads) if tensor.residence == "saved"} == kept
    given = {tensor for gemm in forward.gemms for tensor in (gemm.a, gemm.b)}
    assert {tensor.residence for tensor in given} == {"stream"}
    assert {replace(tensor, residence="saved") for tensor in given} <= kept


def test_vector_work_of_attention() -> None:
    """Four operands and two gradients become codes, each product is scaled once, two passes of softmax."""
    forward, backward = Attention(heads=2).work(Site("a", (5, 12)), 3, everywhere(QUANTISED))
    rows, square = 3 * 5 * 4, 3 * 2 * 25
    counts = Counter()
    for work in (forward, backward):
        for each in work.vector_work:
            counts[work.phase, each.function] += each.elements
    assert counts == {
        ("forward", "activation_codes"): 3 * rows + square,
        ("forward", "output_scale"): square + rows,
        ("forward", "softmax"): square,
        ("backward", "softmax_gradient"): square,
        ("backward", "gradient_scale"): rows + square,
        ("backward", "gradient_codes"): rows + square,
        ("backward", "output_scale"): 3 * rows + square,
        ("backward", "activation_clip"): 3 * rows + square,
    }


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (
            Embedding(tokens=3, features=2),
            (3, 2),
            r"embedding takes \(positions,\) of token ids, got \(3, 2\)",
        ),
        (Positions(kind="learned"), (3,), r"positions takes \(positions, channels\), got \(3,\)"),
        (
            Attention(heads=2),
            (4, 9),
            "keys and values of 2 heads, got 9 channels, not a multiple of 6",
        ),
        (Attention(heads=2), (12,), r"attention takes \(positions, channels\), got \(12,\)"),
        (
            CrossAttention(heads=2),
            (4, 6),
            "stands in the decoder of an 'encoder_decoder' only",
        ),
        (Unembedding(of="words"), (4, 6), "there is no embedding named 'words' before it"),
    ],
)
def test_shapes_that_do_not_fit(layer: Layer, shape: tuple[int, ...], message: str) -> None:
    """A layer says why it cannot take the tensor it is given."""
    with pytest.raises(ShapeError, match=message):
        layer.output_shape(Site("layer", shape))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("source: 5", "source: 9", r"10:7: .*source: must be a whole number from 1 to 8, got 9"),
        ("source: 5", "source: true", "10:7: .*source: must be a whole number from 1 to 8, got true"),
        ("      source: 5\n", "", "the key 'source' is missing"),
        ("of: target", "of: taget", "there is no embedding named 'taget' before it"),
        ("cross_attention: {heads: 2}", "cross_attention: {heads: 4}", "4 heads must divide the 6 channels"),
        ("features: 6, name: target", "features: 12, name: target", "of embedding 'target' have 12 features"),
    ],
)
def test_mistakes_of_a_translator(tmp_path: Path, old: str, new: str, message: str) -> None:
    """Each mistake is one line at its place."""
    assert old in TRANSLATOR
    text = TRANSLATOR.replace(old, new)
    if "12" in new:
        text = text.replace("{features: 6}", "{features: 12}").replace(
            "features: 18}, attention: {heads: 3", "features: 36}, attention: {heads: 3"
        )
        text = text.replace("        - unembedding", "        - linear: {features: 6}\n        - unembedding")
    with pytest.raises(InputError, match=message):
        token_workload(tmp_path, text)


def test_a_shared_table_is_held_once_and_its_codes_where_they_are_read(tmp_path: Path) -> None:
    """Master, gradient and state are the embedding's; the codes that the array reads the unembedding's."""
    layers = "  - embedding: {tokens: 7, features: 6, name: words}\n  - unembedding: {of: words}\n"
    program = compile_program(token_workload(tmp_path, layers, 4), load_recipe("ibm2020_fp4"))
    assert program.memory.parameter_bytes == 7 * 6 * 4 + 7 * 6 * 2
    assert program.memory.optimizer_bytes == 2 * 7 * 6 * 4
    assert weight_code_bytes(program.works) == 7 * 6 * 2
    assert gradient_bytes(program.works) == 7 * 6 * 2


def test_parts_of_a_layer_keep_their_names(tmp_path: Path) -> None:
    """A layer cannot be called what a part of another is called, before it or after it."""
    start = "  - embedding: {tokens: 7, features: 6}\n"
    first, second = "  - layer_norm: {name: a.query}\n", "  - attention: {heads: 1, name: a}\n"
    with pytest.raises(InputError, match=r"a layer is named 'a.query', which is the name of a part of this"):
        token_workload(tmp_path, start + first + second, 4)
    with pytest.raises(InputError, match=r"name: another layer is named 'a.query' already"):
        token_workload(tmp_path, start + second + first, 4)


def test_an_encoder_decoder_in_a_block(tmp_path: Path) -> None:
    """Its settings may be parameters of a block."""
    lines = ["blocks:\n", "  both:\n", "    parameters: {length: null}\n", "    layers:\n"]
    body = TRANSLATOR.replace("source: 5", "source: $length").splitlines(keepends=True)
    text = "".join([*lines, *(f"    {line}" for line in body)])
    path = tmp_path / "block.yaml"
    head = HEAD.format(positions=9, targets=4, tokens=7)
    path.write_text(head.replace("network:\n", text) + "network: [block: {use: both, length: 5}]\n")
    (part,) = load_workload(path).network.parts
    assert isinstance(part, EncoderDecoder)
    assert (part.source, part.output_shape) == (5, (4, 7))


def test_a_decoder_must_listen(tmp_path: Path) -> None:
    """Without cross attention the encoder would be idle, and it must give a sequence."""
    lines = [line for line in TRANSLATOR.splitlines(keepends=True) if "cross_attention" not in line]
    with pytest.raises(InputError, match="the decoder has no 'cross_attention' to listen to"):
        token_workload(tmp_path, "".join(lines))
    flat = TRANSLATOR.replace("      decoder:\n", "        - flatten\n      decoder:\n")
    with pytest.raises(InputError, match=r"the encoder must give \(positions, channels\), got \(30,\)"):
        token_workload(tmp_path, flat)
