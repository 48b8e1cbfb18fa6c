"""Figures of what four bits do to gradients over training: by ablation, and on the grid, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from accelsim.record.schema import TensorRecord
from accelsim.record.study import StudyRow
from accelsim.report.drawing import MUTED, new_figure, shortened
from accelsim.report.study_ablations import GradientState, gradient_state
from accelsim.report.study_tables import StudyNames

_PALETTE = ("#0072b2", "#d55e00", "#009e73", "#e69f00", "#b3478f", "#56b4e9", "#8c6d31", "#31a354")
_MEASURES: tuple[tuple[str, float, Callable[[GradientState], float]], ...] = (
    ("gain of dL/dy", 1.0, lambda state: state.gain),
    ("cosine of dL/dy", 1.0, lambda state: state.cosine),
    ("% to zero", 100.0, lambda state: state.to_zero),
    ("% at the largest code", 100.0, lambda state: state.at_top),
)
_LAYERS = 6  # drawn in a panel
_GRID_OCTAVES = range(-6, 8, 2)
"""log2 of the magnitudes of the even radix-4 grid, 2**-6 .. 2**6."""


def ablated_task(rows: Sequence[StudyRow], names: StudyNames) -> str | None:
    """The task with most ablations, the one whose gradients are drawn; None without any."""
    if names.ablated is None:
        return None
    counts = {
        task: len({row.system for row in rows if row.task == task and row.system in names.questions})
        for task in names.tasks
    }
    task = max(counts, key=lambda one: counts[one])
    return task if counts[task] else None


def ablation_gradients(rows: Sequence[StudyRow], names: StudyNames) -> Any:
    """Measures down, questions across: mean over layers by epoch, one line a system, first seed."""
    task = ablated_task(rows, names)
    here = {row.system: row for row in reversed(rows) if row.task == task}
    asked = dict.fromkeys(text for system, text in names.questions.items() if system in here)
    figure = new_figure(2.5 * len(asked) + 0.8, 9.6)
    grid = figure.subplots(len(_MEASURES), len(asked), squeeze=False, sharey="row", sharex=True)
    for column, question in enumerate(asked):
        systems = [names.ablated, *(one for one, text in names.questions.items() if text == question)]
        for index, system in enumerate(one for one in systems if one in here):
            colour = MUTED if system == names.ablated else _PALETTE[index % len(_PALETTE)]
            _draw_states(grid[:, column], _states(here[system]), colour, names.systems[system])
        grid[0, column].set_title(question, fontsize=8)
        grid[-1, column].set_xlabel("epoch")
        _legend_below(grid[-1, column])
    for line, (label, _, _) in enumerate(_MEASURES):
        grid[line, 0].set_ylabel(label)
    figure.suptitle(f"{names.tasks[str(task)]}: gradients by epoch", x=0.01, ha="left", fontsize=10)
    figure.subplots_adjust(left=0.75 / figure.get_size_inches()[0], right=0.99, top=0.92, bottom=0.19)
    return figure


def _states(row: StudyRow) -> list[tuple[int, GradientState]]:
    found = ((epoch.epoch, gradient_state(row, epoch.epoch)) for epoch in row.epochs)
    return [(epoch, state) for epoch, state in found if state]


def _draw_states(panels: Any, states: list[tuple[int, GradientState]], colour: str, label: str) -> None:
    for panel, (_, factor, read) in zip(panels, _MEASURES, strict=True):
        values = [factor * read(state) for _, state in states]
        panel.plot(
            [epoch for epoch, _ in states], values, color=colour, marker="o", markersize=3, label=label
        )
        panel.xaxis.get_major_locator().set_params(integer=True)


def _legend_below(panel: Any) -> None:
    panel.legend(loc="upper left", bbox_to_anchor=(-0.05, -0.3), fontsize=6.5)


def gradient_exponents(rows: Sequence[StudyRow], names: StudyNames) -> Any:
    """Share of gradients by octave of the scaled value, by layer (six at most), on the grid of the codes.

    Of the ablated system's first seed, tasks across; solid: last epoch, dotted: first. The lines of the
    grid are the magnitudes of the even radix-4 codes; what lies left of the first becomes zero.
    """
    seen = {row.task: row for row in reversed(rows) if row.system == names.ablated}
    tasks = [task for task in names.tasks if task in seen]
    across = min(4, len(tasks))
    down = -(-len(tasks) // across)
    figure = new_figure(3.2 * across + 0.4, 2.8 * down + 0.4)
    panels = [panel for line in figure.subplots(down, across, squeeze=False) for panel in line]
    for panel in panels[len(tasks) :]:
        panel.set_visible(False)
    for panel, task in zip(panels, tasks, strict=False):
        _draw_exponents(panel, seen[task])
        panel.set_title(names.tasks[task])
    figure.tight_layout()
    return figure


def _draw_exponents(panel: Any, row: StudyRow) -> None:
    tensors = [one for one in row.tensors if one.role == "gradient_input" and one.exponents]
    every = list(dict.fromkeys(one.layer for one in tensors))[::-1]
    layers = [every[index * (len(every) - 1) // max(_LAYERS - 1, 1)] for index in range(_LAYERS)]
    layers = list(dict.fromkeys(layers if len(every) > _LAYERS else every))
    epochs = {row.epochs[0].epoch: ":", row.epochs[-1].epoch: "-"}
    for octave in _GRID_OCTAVES:
        panel.axvline(octave, color=MUTED, linewidth=0.6, alpha=0.5)
    for one in tensors:
        if one.epoch in epochs and one.scale and one.layer in layers:
            index = layers.index(one.layer)
            label = shortened(one.layer, 14) if epochs[one.epoch] == "-" else None
            colour = _PALETTE[index * (len(_PALETTE) - 1) // max(len(layers) - 1, 1)]
            places, shares = _scaled_histogram(one)
            panel.plot(places, shares, color=colour, linestyle=epochs[one.epoch], linewidth=1.1, label=label)
    panel.set_xlabel("log2 of |dL/dy| over its scale")
    panel.set_ylabel("% of gradients")
    panel.set_xlim(-22, 8)
    panel.set_ylim(bottom=0)
    if layers:
        panel.legend(loc="upper left", fontsize=6.5)


def _scaled_histogram(tensor: TensorRecord) -> tuple[list[float], list[float]]:
    """Middles of octaves relative to the scale, and % of the numbers that are not zero."""
    shift = math.log2(tensor.scale or 1.0)
    total = sum(count for _, count in tensor.exponents)
    places = [exponent + 0.5 - shift for exponent, _ in tensor.exponents]
    return places, [100 * count / total for _, count in tensor.exponents]
