"""Synthetic but plausible run records for tests: totals add up, nothing is simulated."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from fractions import Fraction

from accelsim.operations import PHASES, Phase
from accelsim.record import (
    COMPONENTS,
    ActivityRecord,
    AreaRecord,
    CostRecord,
    DatasetRecord,
    EnergyRecord,
    EpochRecord,
    GemmRecord,
    InputFile,
    LayerRecord,
    MemoryRecord,
    RunRecord,
    SourceRecord,
    TensorRecord,
    TrainingRecord,
)

BATCH = 64
STEPS = 79


@dataclass(frozen=True)
class SampleChip:
    """What distinguishes the two sample chips."""

    name: str
    macs_per_cycle: int
    lanes: int
    bits: int
    aj_per_mac: int
    formats: tuple[str, str]
    mac_array_mm2: float
    final_accuracy: float


FP4 = SampleChip("fp4_training", 11264, 16, 4, 65_359, ("int4", "fp4_r4_odd"), 0.3583, 0.862)
FP16 = SampleChip("fp16_training", 2048, 1, 16, 500_000, ("dlfloat16", "dlfloat16"), 0.3543, 0.870)

# name, kind, M (outputs per mini-batch), K, N, elements of the output
LAYERS = [
    ("conv1", "conv2d", BATCH * 784, 9, 16, BATCH * 784 * 16),
    ("bn1", "batch_norm", 0, 0, 0, BATCH * 784 * 16),
    ("block1.conv1", "conv2d", BATCH * 784, 144, 16, BATCH * 784 * 16),
    ("block1.conv2", "conv2d", BATCH * 784, 144, 16, BATCH * 784 * 16),
    ("block1.add", "residual_add", 0, 0, 0, BATCH * 784 * 16),
    ("block2.conv1", "conv2d", BATCH * 196, 144, 32, BATCH * 196 * 32),
    ("block2.conv2", "conv2d", BATCH * 196, 288, 32, BATCH * 196 * 32),
    ("block2.shortcut", "conv2d", BATCH * 196, 16, 32, BATCH * 196 * 32),
    ("block2.add", "residual_add", 0, 0, 0, BATCH * 196 * 32),
    ("pool", "average_pool", 0, 0, 0, BATCH * 32),
    ("fc", "linear", BATCH, 32, 10, BATCH * 10),
    ("loss", "softmax_cross_entropy", 0, 0, 0, BATCH * 10),
]


def _file(name: str, kind: str) -> InputFile:
    text = f"name: {name}\n# a sample {kind}\ndescription: '<b>not markup</b> & a long line'\n"
    return InputFile(
        name=name, file=f"{name}.yaml", text=text, sha256=hashlib.sha256(text.encode()).hexdigest()
    )


def _gemm(chip: SampleChip, m: int, k: int, n: int) -> GemmRecord:
    cycles = 40 + math.ceil(Fraction(m * k * n * 100, chip.macs_per_cycle * 62))
    return GemmRecord(
        m=m, k=k, n=n, groups=1, a_format=chip.formats[0], b_format=chip.formats[1],
        dataflow="output_stationary", split="m", workers=8, lanes=chip.lanes, chunk=64,
        passes=-(-m // 64) * -(-n // 11), array_cycles=cycles,
    )  # fmt: skip


def _layer(chip: SampleChip, spec: tuple[str, str, int, int, int, int], phase: Phase) -> LayerRecord:
    name, kind, m, k, n, elements = spec
    shapes = {"forward": (m, k, n), "backward": (m, n, k), "update": (k, m, n)}
    macs = m * k * n
    gemms = (_gemm(chip, *shapes[phase]),) if macs else ()
    array = sum(gemm.array_cycles for gemm in gemms)
    size = elements * (chip.bits if macs else 16) // 8 if phase != "update" or macs else 0
    vector_operations = 22 * elements if phase != "update" else 9 * k * n
    busy = {
        "array": array, "dram": -(-size // 150), "scratchpad": -(-2 * size // 512),
        "vector": -(-vector_operations // 1024),
    }  # fmt: skip
    total = max(busy.values()) + (12 if macs else 0)
    energy = EnergyRecord(
        mac=macs * chip.aj_per_mac, operand_buffer=macs * chip.bits * 1_500, scratchpad=2 * size * 1_900_000,
        dram=size * 8 * 3_900_000, vector_unit=vector_operations * 500_000, static=total * 300_000_000,
    )  # fmt: skip
    return LayerRecord(
        layer=name, kind=kind, phase=phase, macs=macs,
        **{f"{key}_cycles": value for key, value in busy.items()},
        total_cycles=total, bound=max(busy, key=lambda key: busy[key]),
        utilization=macs / (array * chip.macs_per_cycle) if array else 0.0,
        dram_read_bytes=size // 2, dram_write_bytes=size - size // 2, scratchpad_bytes=2 * size,
        vector_operations=vector_operations, energy_aj=energy, gemms=gemms,
    )  # fmt: skip


def sample_cost(chip: SampleChip, blocks: int = 1) -> CostRecord:
    """The cost of a step; ``blocks`` repeats the network to make it longer."""
    specs = [
        (f"{spec[0]}_{block}" if blocks > 1 else spec[0], *spec[1:])
        for block in range(blocks)
        for spec in LAYERS
    ]
    layers = tuple(_layer(chip, spec, phase) for phase in PHASES for spec in specs)
    sums = {component: sum(layer.energy_aj.of(component) for layer in layers) for component in COMPONENTS}
    saved = 20_000_000 * chip.bits // 16
    return CostRecord(
        clock_mhz=1000.0,
        layers=layers,
        step_cycles=sum(layer.total_cycles for layer in layers),
        step_energy_aj=EnergyRecord(**sums),
        area=AreaRecord(
            mac_array_mm2=chip.mac_array_mm2, vector_unit_mm2=0.9, scratchpad_mm2=4.1, other_mm2=2.0,
            die_mm2=chip.mac_array_mm2 + 7.0,
        ),
        memory=MemoryRecord(
            parameter_bytes=81_000, optimizer_bytes=162_000, saved_activation_bytes=saved,
            peak_bytes=saved + 400_000, dram_capacity_bytes=16 << 30,
        ),
        peak_tops={"forward": 2 * chip.macs_per_cycle / 1000, "dlfloat16": 1.4},
    )  # fmt: skip


def _training(chip: SampleChip, epochs: int) -> TrainingRecord:
    final = chip.final_accuracy
    accuracies = [round(final - 0.22 * math.exp(-0.7 * epoch), 4) for epoch in range(epochs - 1)] + [final]
    history = tuple(
        EpochRecord(
            epoch=index + 1, steps=STEPS, train_loss=0.25 + 0.7 * math.exp(-0.6 * index),
            train_accuracy=min(1.0, value + 0.02), test_loss=0.38 + 0.5 * math.exp(-0.6 * index),
            test_accuracy=value, learning_rate=0.1 * 0.5**index, host_seconds=14.0,
        )
        for index, value in enumerate(accuracies)
    )  # fmt: skip
    tensors = tuple(
        TensorRecord(epoch=epochs, layer=name, role=role, saturated=0.0012, underflow=0.31, scale=1024.0)
        for name in ("block1.conv1", "block2.conv2")
        for role in ("weight", "activation", "gradient_dx", "gradient_dw")
    )
    activity = tuple(
        ActivityRecord(
            epoch=epoch,
            layer=name,
            phase=phase,
            products=1_000_000,
            idle_products=400_000,
            a_zero_fraction=0.4,
            b_zero_fraction=0.1,
            toggle_fraction=0.2,
            independent_toggle_fraction=0.45,
            stated_mac_aj=1_000_000 * chip.aj_per_mac,
            measured_mac_aj=880_000 * chip.aj_per_mac,
        )
        for epoch in (epochs - 1 or 1, epochs)
        for name in ("block1.conv1", "block2.conv2")
        for phase in PHASES
    )
    return TrainingRecord(
        epochs=history, final_accuracy=final, best_accuracy=max(accuracies),
        weight_digest=hashlib.sha256(chip.name.encode()).hexdigest(),
        kernels={"int4_exact": 1580, "chunked_dlfloat16": 3160}, tensors=tensors, activity=activity,
    )  # fmt: skip


def _sources(chip: SampleChip) -> tuple[SourceRecord, ...]:
    rows = [
        ("clock_mhz", 1000, "MHz", "choice; the published 7 nm chip runs at 1.0 to 1.6 GHz", "estimated"),
        ("array.area_um2_per_pe", 509 if chip.lanes > 1 else 173, "um2", "synthesis, ASAP7 7 nm", "measured"),
        ("array.modes.forward.energy_pj_per_mac", chip.aj_per_mac / 1e6, "pJ/MAC",
         "Jouppi et al., ISCA 2021, Table 2: fp16 multiply 0.34 + add 0.16", "derived"),
        ("dram.bandwidth_gb_per_s", 300, "GB/s", "HBM2, one stack", "published"),
        ("dram.read_energy_pj_per_bit", 3.9, "pJ/bit", "O'Connor et al., MICRO 2017", "published"),
        ("static_power_mw", 300, "mW", "11-13 % of power in synthesis", "estimated"),
    ]  # fmt: skip
    return tuple(
        SourceRecord(key=key, value=value, unit=unit, source=source, evidence=evidence)
        for key, value, unit, source, evidence in rows
    )


def sample_record(
    chip: SampleChip = FP4, *, trained: bool = True, epochs: int = 8, blocks: int = 1
) -> RunRecord:
    """A whole record of a run on a sample chip; ``blocks`` makes the network 12 layers longer each."""
    return RunRecord(
        kind="train" if trained else "estimate",
        created="2026-11-22T03:00:00+00:00",
        command="accelsim compare fp4_training fp16_training fashion_cnn",
        versions={"accelsim": "0.1.0", "python": "3.11.9", "numba": "0.68.0" if trained else None},
        seed=1, threads=2,
        chip=_file(chip.name, "chip"), workload=_file("fashion_cnn", "workload"),
        recipe=_file("ibm2020_fp4", "recipe"),
        dataset=DatasetRecord(
            name="fashion_mnist_small", sha256="ab" * 32, train_samples=5000, test_samples=1000, license="MIT"
        ) if trained else None,
        batch=BATCH, epochs=epochs, steps_per_epoch=STEPS,
        training=_training(chip, epochs) if trained else None,
        cost=sample_cost(chip, blocks),
        sources=_sources(chip),
    )  # fmt: skip


def sample_pair(**options: object) -> list[RunRecord]:
    """The 4-bit run and its 16-bit baseline."""
    return [sample_record(FP4, **options), sample_record(FP16, **options)]  # type: ignore[arg-type]
