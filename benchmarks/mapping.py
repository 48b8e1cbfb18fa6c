"""The search for mappings, and what an estimate costs once they are found."""

from __future__ import annotations

from collections.abc import Iterator

from accelsim.chip import load_chip
from accelsim.cost import price_step
from accelsim.mapping import Planner
from accelsim.program import compile_program
from accelsim.recipe import load_recipe
from accelsim.workload import load_workload
from benchmarks.measuring import Row, Size, cpu_seconds

LARGE, SMALL = ("resnet50_imagenet", 256), ("letters_mlp", 32)


def mapping_rows(size: Size) -> Iterator[Row]:
    """Forward, backward and update of a network on eight arrays with a ring; no value is computed."""
    name, batch = SMALL if size.small_networks else LARGE
    chip = load_chip("fp4_training")
    program = compile_program(load_workload(name), load_recipe(chip.recipe), batch)
    shape = f"{name}, batch {batch}"
    seconds = cpu_seconds(lambda: Planner(chip).plans(program.gemms), size.repeats)
    yield Row("mapping", "search of a training step", shape, seconds, "s", target=2.0, target_of="value")
    plans = Planner(chip).plans(program.gemms)
    priced_ms = 1e3 * cpu_seconds(lambda: price_step(program.works, chip, plans), size.repeats)
    yield Row("mapping", "estimate by given mappings", shape, priced_ms, "ms", target=20, target_of="value")
