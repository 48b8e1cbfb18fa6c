"""What 4-bit training saves: every model of the literature on a 4-bit chip and on its 16-bit silicon twin."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import get_args

from accelsim import __version__
from accelsim.api import Workload, estimate, load_chip, load_workload, with_grid
from accelsim.cost import load_grid
from accelsim.errors import InputError, unknown
from accelsim.numerics.formats import number_format
from accelsim.program import model_size
from accelsim.record import LayerRecord, RunRecord
from accelsim.report.readings import JOULE_PER_AJ, read_off
from accelsim.storage import write_text
from accelsim.study.savings_record import Binding, Row, Savings, Side, read_savings, savings_text

PAIRS: Mapping[str, tuple[str, str]] = {
    "server": ("fp4_training", "fp16_training"),
    "phone": ("edge_fp4", "edge_fp16"),
}
"""Chip and baseline of each pair: the same silicon area."""

ALL_LOW = "ibm2020_fp4_all_layers"
"""The chips' 4-bit recipe with first and last layers in 4 bits too."""

MODELS = (
    "vgg16_cifar10", "googlenet_cifar10", "resnet18_cifar10", "resnet50_cifar10", "resnet101_cifar10",
    "densenet121_cifar10", "mobilenetv2_cifar10", "alexnet_imagenet", "resnet18_imagenet",
    "resnet50_imagenet", "mobilenetv2_imagenet", "lstm_ptb", "bilstm_swb300", "transformer_base_wmt",
    "bert_base", "gpt2_small",
)  # fmt: skip
"""Shipped workloads: all that Sun et al., NeurIPS 2020, ran, and two language models."""

_FOLLOWED = (
    "chip", "cost", "mapping", "network", "numerics", "program", "recipe", "run", "workload",
    "operations.py", "report/footprint.py", "report/readings.py",
)  # fmt: skip
"""Rooms and files whose sources a row follows from."""

Told = Callable[[str], None]


@dataclass(frozen=True)
class Choice:
    """What to study. ``grid`` is a shipped grid or a file."""

    models: tuple[str, ...] = MODELS
    grid: str = "world"


def savings_study(path: Path, choice: Choice, command: str, told: Told = lambda line: None) -> Savings:
    """Estimate every model on every pair and keep the rows in the JSON file ``path``.

    Rows whose inputs and sources have not changed are taken from the file, so that a stopped study goes on
    where it was. ``told`` is called with a line for every row.

    Raises
    ------
    InputError: an unknown model or grid, a file that is no study, a step that fits no DRAM at a batch of 1.
    """
    for model in choice.models:
        if model not in MODELS:
            raise unknown("model of the study", model, MODELS, "--model")
    old = {row.key: row for row in _kept_rows(path)}
    ratios = {pair: _mac_ratio(*names) for pair, names in PAIRS.items()}
    rows: list[Row] = []
    wanted = [(pair, model) for pair in PAIRS for model in choice.models]
    study = Savings(
        command=command, versions=_versions(), code_sha256=code_digest(), grid=choice.grid,
        mac_ratios=ratios, rows=(),
    )  # fmt: skip
    for number, (pair, model) in enumerate(wanted, 1):
        key = _key(pair, model, choice.grid)
        row = old.get(key) or _row(key, pair, load_workload(model), choice.grid)
        rows.append(row)
        study = study.model_copy(update={"rows": tuple(rows)})
        write_text(path, savings_text(study))
        told(f"{number}/{len(wanted)} {pair} {model}: {row.speedup:.2f}x the speed")
    return study


def _kept_rows(path: Path) -> Sequence[Row]:
    """The rows of an earlier study, which a study that goes on there would write over."""
    if not path.exists():
        return ()
    try:
        return read_savings(path).rows
    except InputError as error:
        raise InputError(f"{error.message}; remove it or choose another --out", error.where) from None


def _row(key: str, pair: str, workload: Workload, grid: str) -> Row:
    batch, halvings = workload.batch, 0
    while True:
        records = [estimate(chip, workload, batch=batch) for chip in PAIRS[pair]]
        if all(_fits(record) for record in records):
            break
        if batch == 1:
            raise InputError(
                f"a step of one sample does not fit the DRAM of both chips of '{pair}'", workload.name
            )
        batch, halvings = batch // 2, halvings + 1
    size = model_size(workload)
    narrow = estimate(PAIRS[pair][0], workload, recipe=ALL_LOW, batch=batch)
    chip, baseline = (_side(with_grid(record, grid)) for record in records)
    return Row(
        key=key, pair=pair, model=workload.name, workload_sha256=records[0].workload.sha256,
        macs=size.macs, parameters=size.parameters, batch=batch, halvings=halvings,
        epochs=workload.epochs, steps=read_off(records[0]).steps, chip=chip, baseline=baseline,
        all_low=_side(with_grid(narrow, grid)), widest=widest_layer(records[0]),
    )  # fmt: skip


def _fits(record: RunRecord) -> bool:
    return record.cost.memory.peak_bytes <= record.cost.memory.dram_capacity_bytes


def _side(record: RunRecord) -> Side:
    reading, memory = read_off(record), record.cost.memory
    assert reading.footprint is not None  # the record was put on a grid
    return Side(
        chip=record.chip.name,
        chip_sha256=record.chip.sha256,
        recipe=record.recipe.name,
        recipe_sha256=record.recipe.sha256,
        step_cycles=record.cost.step_cycles,
        step_energy_aj=record.cost.step_energy_aj.total_aj,
        step_seconds=reading.step_seconds,
        run_seconds=reading.run_seconds,
        run_j=reading.steps * record.cost.step_energy_aj.total_aj * JOULE_PER_AJ,
        kwh=reading.footprint.kwh,
        co2e_kg=reading.footprint.co2e_kg,
        money=reading.footprint.money,
        currency=reading.footprint.currency,
        battery_charges=reading.footprint.battery_charges,
        peak_bytes=memory.peak_bytes,
        capacity_bytes=memory.dram_capacity_bytes,
        time_share=time_share(record.cost.layers),
    )


def time_share(layers: Sequence[LayerRecord]) -> dict[Binding, float]:
    """Share of the step in layers bound by each resource, MAC arrays apart by the width of their operands."""
    cycles: dict[Binding, int] = dict.fromkeys(get_args(Binding), 0)
    for layer in layers:
        if layer.bound == "array":
            cycles["array_low" if _is_low(layer) else "array_16bit"] += layer.total_cycles
        else:
            cycles[layer.bound] += layer.total_cycles
    total = sum(cycles.values())
    return {name: count / total for name, count in cycles.items()}


def _is_low(layer: LayerRecord) -> bool:
    """Whether a layer runs on the array with operands below 16 bits."""
    return bool(layer.gemms) and all(number_format(gemm.a_format).bits < 16 for gemm in layer.gemms)


def widest_layer(record: RunRecord) -> tuple[str, float] | None:
    """The 16-bit layer that keeps the MAC arrays longest, all phases together, with its share of the step."""
    cycles: dict[str, int] = {}
    for layer in record.cost.layers:
        if layer.bound == "array" and not _is_low(layer):
            cycles[layer.layer] = cycles.get(layer.layer, 0) + layer.total_cycles
    if not cycles:
        return None
    name = max(cycles, key=lambda each: cycles[each])
    return name, cycles[name] / record.cost.step_cycles


def _mac_ratio(chip: str, baseline: str) -> float:
    """Multiply-accumulates a second at peak, chip / baseline."""
    ours, theirs = (
        max(c.peak_tops(mode) for mode in c.array.modes) for c in map(load_chip, (chip, baseline))
    )
    return ours / theirs


def _key(pair: str, model: str, grid: str) -> str:
    """Digest of all that a row follows from: files and sources."""
    workload, electricity = load_workload(model), load_grid(grid).model_dump_json()
    chips = [load_chip(name) for name in PAIRS[pair]]
    texts = [pair, workload.source_text, electricity, code_digest(), *(chip.source_text for chip in chips)]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


@cache
def code_digest() -> str:
    """SHA-256 of the sources and data files that an estimate follows from."""
    root = Path(__file__).resolve().parent.parent
    files = [
        path
        for name in _FOLLOWED
        for path in ([root / name] if name.endswith(".py") else (root / name).rglob("*"))
        if path.suffix in (".py", ".yaml")
    ]
    digest = hashlib.sha256()
    for path in sorted(files, key=lambda each: each.relative_to(root).as_posix()):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"accelsim": __version__, "python": platform.python_version()}
    for name in ("numpy", "pydantic"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found
