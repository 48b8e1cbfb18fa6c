"""The threads that a run keeps busy."""

from __future__ import annotations

import pytest

from accelsim.numerics.compiled import set_threads
from accelsim.program import compile_program
from accelsim.recipe import load_recipe
from accelsim.run.host_threads import use_threads
from accelsim.workload import load_workload


@pytest.mark.parametrize(("name", "shared"), [("letters_mlp", False), ("resnet18_imagenet", True)])
def test_short_products_are_not_shared_unless_asked(name: str, shared: bool) -> None:
    """By default small networks run on one thread and large ones on all; a number given is kept."""
    program = compile_program(load_workload(name), load_recipe("fp16_dlfloat"), 8)
    every = set_threads(None)
    try:
        assert use_threads(None, program) == (every if shared else 1)
        assert use_threads(every, program) == every
        assert use_threads(1, program) == 1
    finally:
        set_threads(None)
