"""`Run` -> `Outcome`, by the same program, plans and prices as an estimate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from accelsim.chip import Chip, PositiveQuantity, load_chip, operating_at
from accelsim.cost import LayerCost, all_reduce_cost, price_step, with_resident_weights
from accelsim.errors import InputError, unknown
from accelsim.mapping import plan_gemm
from accelsim.mapping.conventions import CONVENTIONS, convention_cycles
from accelsim.numerics.block_formats import stored_bits
from accelsim.operations import Gemm, LayerWork, Tensor
from accelsim.program import compile_program, inference_works
from accelsim.recipe import load_recipe
from accelsim.run.sharing import share_batch
from accelsim.validation.cycles import array_extent
from accelsim.validation.nvdla_sheet import nvdla_sheet_cycles
from accelsim.validation.outcome import Outcome
from accelsim.validation.row_stationary import row_stationary_layers
from accelsim.validation.schema import GemmSize, Run
from accelsim.workload import Workload, load_workload


def run_chip(run: Run) -> Chip:
    """The chip of a run, at the clock, voltage and DRAM bandwidth that the run asks for."""
    assert run.chip is not None
    chip = operating_at(load_chip(run.chip), clock_mhz=run.clock_mhz, voltage_v=run.voltage_v)
    if run.dram_gb_per_s is None:
        return chip
    source = "of the measurement, by its sheet"
    bandwidth = PositiveQuantity(value=run.dram_gb_per_s, source=source, evidence="published")
    dram = chip.dram.model_copy(update={"bandwidth_gb_per_s": bandwidth, "write_bandwidth_gb_per_s": None})
    return chip.model_copy(update={"dram": dram})


def run_workload(run: Run, name: str) -> Workload:
    """A workload of a run, with the run's mini-batch."""
    return load_workload(name).adjusted(batch=run.batch)


def run_outcome(run: Run) -> Outcome:
    """Do what ``run`` says; of ``workloads``, use `run_outcomes`."""
    if run.array is not None:
        assert run.gemm is not None
        return _bare_outcome(run, run.gemm)
    chip = run_chip(run)
    if run.gemm is not None:
        return _outcome(run, chip, [gemm_work(run.gemm)], samples=run.gemm.m)
    assert run.workload is not None
    return workload_outcome(run, chip, run.workload)


def run_outcomes(run: Run) -> list[Outcome]:
    """One outcome for each of the run's ``workloads``."""
    chip = run_chip(run)
    return [workload_outcome(run, chip, name) for name in run.workloads]


def workload_outcome(run: Run, chip: Chip, name: str) -> Outcome:
    """A workload on ``chip``, or on several of them that share the mini-batch and add up their gradients."""
    workload = run_workload(run, name)
    shared = share_batch(chip, workload.batch, run.chips)
    outcome = _one_chip(run, chip, workload.adjusted(batch=shared.batch))
    return outcome if shared.chips == 1 else outcome.on_chips(shared.chips)


def _one_chip(run: Run, chip: Chip, workload: Workload) -> Outcome:
    if run.model == "row_stationary":
        return row_stationary_outcome(run, chip, workload)
    works = wanted_works(run, chip, workload)
    if run.model == "nvdla_sheet":
        cycles = workload.batch * nvdla_sheet_cycles(workload, chip, run.layers)
        return replace(_outcome(run, chip, works, workload.batch), cycles=cycles)
    return _outcome(run, chip, works, workload.batch)


def wanted_works(run: Run, chip: Chip, workload: Workload) -> list[LayerWork]:
    """The part of a training step that the run is about. Raises `InputError` for an unknown layer."""
    program = compile_program(workload, load_recipe(run.recipe or chip.recipe))
    works: Sequence[LayerWork] = program.works
    if run.work == "inference":
        works = with_resident_weights(inference_works(program.works, program.formats), chip)
    names = {work.layer for work in works}
    for layer in run.layers:
        if layer not in names:
            raise unknown("layer", layer, names, f"workload {workload.name}")
    return [
        work for work in works if work.phase in run.phases and (not run.layers or work.layer in run.layers)
    ]


def gemm_work(size: GemmSize) -> LayerWork:
    """A GEMM by itself: operands from DRAM once, the result back to it."""
    a_bits, b_bits = stored_bits(size.a_format), stored_bits(size.b_format)
    gemm = Gemm(
        "gemm", "forward", size.m, size.k, size.n, size.a_format, size.b_format,
        Tensor("gemm.a", size.m * size.k, a_bits, "input"),
        Tensor("gemm.b", size.k * size.n, b_bits, "parameter"),
        Tensor("gemm.out", size.m * size.n, size.out_bits, "saved"),
    )  # fmt: skip
    return LayerWork("gemm", "gemm", "forward", (gemm,))


def _outcome(run: Run, chip: Chip, works: Sequence[LayerWork], samples: int) -> Outcome:
    plans = {gemm: plan_gemm(gemm, chip) for work in works for gemm in work.gemms}
    costs = price_step(works, chip, plans)
    if run.chips > 1 and any(work.phase == "update" for work in works):
        assert chip.system is not None
        costs = (*costs, all_reduce_cost(works, chip, chip.system, run.chips))
    outcome = Outcome(
        samples=samples,
        macs=sum(cost.macs for cost in costs),
        cycles=Fraction(sum(cost.time.total_cycles for cost in costs)),
        array_cycles=sum(cost.time.array_cycles for cost in costs),
        stream_cycles=sum(each.counts.compute_cycles for cost in costs for each in cost.gemms),
        ideal_cycles=sum((cost.ideal_cycles for cost in costs), Fraction(0)),
        clock_mhz=Fraction(str(chip.clock_mhz.value)),
        on_chip_aj=Fraction(sum(cost.energy.total_aj - cost.energy.dram for cost in costs)),
        dram_aj=sum(cost.energy.dram for cost in costs),
        dram_bytes=sum(cost.traffic.dram_bytes for cost in costs),
        scratchpad_bytes=sum(cost.traffic.scratchpad_bytes for cost in costs),
    )
    if run.model in CONVENTIONS:
        return replace(outcome, cycles=Fraction(_by_convention(run, chip, costs)))
    return outcome


def _by_convention(run: Run, chip: Chip, costs: Sequence[LayerCost]) -> int:
    """Compute cycles of all GEMMs by the closed form of others, on one array of the chip."""
    total = 0
    for each in (gemm for cost in costs for gemm in cost.gemms):
        dataflow = run.dataflow or each.plan.dataflow
        gemm, cols = each.gemm, chip.array.output_cols
        rows, k = array_extent(chip, each.plan.lanes, gemm.k, dataflow)
        assert run.model in CONVENTIONS
        total += gemm.groups * convention_cycles(
            run.model, gemm.m, k, gemm.n, rows=rows, cols=cols, dataflow=dataflow
        )
    return total


def _bare_outcome(run: Run, size: GemmSize) -> Outcome:
    """Cycles only: a closed form of others on a bare array."""
    assert run.array is not None
    assert run.model in CONVENTIONS
    dataflow = run.dataflow or "output_stationary"
    rows, cols = run.array.rows, run.array.cols
    cycles = convention_cycles(run.model, size.m, size.k, size.n, rows=rows, cols=cols, dataflow=dataflow)
    macs = size.m * size.k * size.n
    return Outcome(
        size.m, macs, Fraction(cycles), cycles, 0, Fraction(macs, rows * cols), Fraction(1), Fraction(0), 0, 0
    )


def row_stationary_outcome(run: Run, chip: Chip, workload: Workload) -> Outcome:
    """Convolutions in row-stationary order; other layers are not followed and must not be asked for."""
    layers = row_stationary_layers(
        workload, chip, run.layers, run.zeros, run.rows.as_choice() if run.rows else None
    )
    if not layers:
        raise InputError(f"workload '{workload.name}' has no convolution to run", "model: row_stationary")
    return Outcome(
        samples=workload.batch,
        macs=sum(layer.macs for layer in layers),
        cycles=Fraction(sum(layer.cycles for layer in layers)),
        array_cycles=sum(layer.cycles for layer in layers),
        stream_cycles=sum(layer.stream_cycles for layer in layers),
        ideal_cycles=sum((layer.ideal_cycles for layer in layers), Fraction(0)),
        clock_mhz=Fraction(str(chip.clock_mhz.value)),
        on_chip_aj=sum((layer.on_chip_aj for layer in layers), Fraction(0)),
        dram_aj=sum(layer.dram_aj for layer in layers),
        dram_bytes=sum(layer.dram_bytes for layer in layers),
        scratchpad_bytes=sum(layer.buffer_bytes for layer in layers),
    )
