"""The figures of an accuracy study, drawn from its rows alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from accelsim.record.study import StudyRow
from accelsim.report.drawing import axis_unit, image_bytes, new_figure, shortened, style
from accelsim.report.figures import Images
from accelsim.report.study_gradient_figures import ablated_task, ablation_gradients, gradient_exponents
from accelsim.report.study_tables import StudyNames, cells, metric_of, scores

_COLOURS = (
    "#7a8794", "#b3478f", "#0072b2", "#d55e00", "#009e73", "#e69f00", "#56b4e9", "#8c6d31", "#393b79",
    "#ad494a", "#6b6ecf", "#31a354", "#17becf", "#e377c2", "#bcbd22", "#1b2631", "#a65628", "#4daf4a",
    "#984ea3", "#ff9896", "#aec7e8", "#c5b0d5",
)  # fmt: skip
_MARKERS = "osD^v<>PX*hp8dH"


def study_images(all_rows: Sequence[StudyRow], names: StudyNames) -> Images:
    """All figures that these rows allow, in reading order; ablations have one of their own."""
    rows = [row for row in all_rows if row.system not in names.questions]
    drawings: dict[str, Callable[[Sequence[StudyRow], StudyNames], Any]] = {
        "learning_curves": learning_curves,
        "accuracy_against_cost": score_against_cost,
    }
    if any(tensor.role.startswith("gradient") for row in rows for tensor in row.tensors):
        drawings["gradients_by_layer"] = gradients_by_layer
        drawings["gradient_cosines"] = gradient_cosines
    if any(row.system == names.ablated and row.tensors for row in rows):
        drawings["gradient_exponents"] = gradient_exponents
    with style():
        images = {name: image_bytes(draw(rows, names)) for name, draw in drawings.items()}
        if ablated_task(all_rows, names):
            images["ablation_gradients"] = image_bytes(ablation_gradients(all_rows, names))
        return images


def learning_curves(rows: Sequence[StudyRow], names: StudyNames) -> Any:
    """The task's metric by epoch: mean over seeds, with the span of all seeds as a band."""
    tasks = _present(names.tasks, (row.task for row in rows))
    figure, panels = _grid(tasks, names, rows)
    for panel, task in zip(panels, tasks, strict=True):
        for system in _present(names.systems, (row.system for row in rows if row.task == task)):
            histories = [scores(row) for row in rows if (row.task, row.system) == (task, system)]
            columns = list(zip(*histories, strict=False))
            epochs = range(1, len(columns) + 1)
            middle = [math.fsum(column) / len(column) for column in columns]
            colour, _ = _look(system, names)
            panel.plot(epochs, middle, color=colour, linewidth=1.6, label=names.systems[system])
            if len(histories) > 1:
                low, high = [min(column) for column in columns], [max(column) for column in columns]
                panel.fill_between(epochs, low, high, color=colour, alpha=0.15, linewidth=0)
        panel.set_xlabel("epoch")
        panel.xaxis.get_major_locator().set_params(integer=True)
        _fit(panel, task, rows)
    _legend(figure, names, rows)
    return figure


def score_against_cost(rows: Sequence[StudyRow], names: StudyNames) -> Any:
    """The final metric against the energy of the whole run, one point a system; area follows its time."""
    tasks = _present(names.tasks, (row.task for row in rows))
    figure, panels = _grid(tasks, names, rows)
    found = cells(rows, names.baseline)
    for panel, task in zip(panels, tasks, strict=True):
        ours = [row for row in rows if row.task == task]
        worth, unit = axis_unit(max(row.energy_joules for row in ours), "J")
        longest = max(row.simulated_seconds for row in ours)
        for system in _present(names.systems, (row.system for row in ours)):
            row = next(one for one in ours if one.system == system)
            cell, (colour, marker) = found[task, system], _look(system, names)
            size = 20 + 130 * row.simulated_seconds / longest
            place = row.energy_joules / worth
            panel.scatter(place, cell.mean, s=size, color=colour, marker=marker, alpha=0.85, linewidth=0)
            if cell.spread:
                panel.errorbar(place, cell.mean, cell.spread, color=colour, linewidth=1.0, capsize=2)
        panel.set_xlabel(f"energy of the run, {unit} (mark's area: its time)")
        panel.set_xlim(0, 1.08 * max(row.energy_joules for row in ours) / worth)
        _fit(panel, task, rows)
    _legend(figure, names, rows, marks=True)
    return figure


def gradients_by_layer(rows: Sequence[StudyRow], names: StudyNames) -> Any:
    """Share of gradients flushed to zero and at the largest code, layer by layer, in the last epoch.

    Of the first seed; the gradient that enters the dL/dx product.
    """

    def draw(panel: Any, layers: list[str], seen: list[Any], colour: str, marker: str) -> None:
        places = [layers.index(one.layer) for one in seen]
        flushed = [100 * one.underflow for one in seen]
        panel.plot(places, flushed, color=colour, marker=marker, markersize=4, linewidth=1.2)
        full = [100 * one.saturated for one in seen]
        panel.plot(places, full, color=colour, linewidth=0.8, linestyle=":")
        panel.set_ylabel("% of gradients: to zero (dotted: at the top)")
        panel.set_ylim(0, 100)

    return _gradient_figure(rows, names, draw)


def gradient_cosines(rows: Sequence[StudyRow], names: StudyNames) -> Any:
    """Cosine between each layer's gradient and what four bits made of it, in the last epoch, first seed."""

    def draw(panel: Any, layers: list[str], seen: list[Any], colour: str, marker: str) -> None:
        known = [one for one in seen if one.cosine is not None]
        places, values = [layers.index(one.layer) for one in known], [one.cosine for one in known]
        panel.plot(places, values, color=colour, marker=marker, markersize=4, linewidth=1.2)
        panel.set_ylabel("cosine of dL/dy with its codes")

    return _gradient_figure(rows, names, draw)


def _gradient_figure(
    rows: Sequence[StudyRow], names: StudyNames, draw: Callable[[Any, list[str], list[Any], str, str], None]
) -> Any:
    """A panel a task; ``draw`` adds what a system's first run saw: panel, layers, tensors, colour, marker."""
    seeing = [row for row in rows if _gradients(row)]
    tasks = _present(names.tasks, (row.task for row in seeing))
    figure, panels = _grid(tasks, names, rows)
    for panel, task in zip(panels, tasks, strict=True):
        layers = _layers(rows, task)
        for system in _present(names.systems, (row.system for row in rows if row.task == task)):
            row = next(one for one in rows if (one.task, one.system) == (task, system))
            draw(panel, layers, _gradients(row), *_look(system, names))
        _name_layers(panel, layers)
    _legend(figure, names, seeing, marks=True)
    return figure


def _layers(rows: Sequence[StudyRow], task: str) -> list[str]:
    """The task's quantised layers in forward order: those of the system that quantises most of them."""
    return max(([one.layer for one in _gradients(row)] for row in rows if row.task == task), key=len)


def _name_layers(panel: Any, layers: Sequence[str]) -> None:
    """Names below the panel, every n-th where all would not fit."""
    step = -(-len(layers) // 12)
    panel.set_xticks(range(0, len(layers), step), [shortened(name, 12) for name in layers[::step]])
    panel.tick_params(axis="x", rotation=60, labelsize=7)


def _gradients(row: StudyRow) -> list[Any]:
    """What was seen of the gradients into dL/dx in the last epoch, in forward order."""
    last = row.epochs[-1].epoch
    found = [one for one in row.tensors if one.role == "gradient_input" and one.epoch == last]
    return found[::-1]  # observed in backward order


def _present(known: Iterable[str], seen: Iterable[str]) -> list[str]:
    """The known names that were seen, in their own order."""
    held = set(seen)
    return [name for name in known if name in held]


def _look(system: str, names: StudyNames) -> tuple[str, str]:
    """Colour and marker of a system: the same in every figure."""
    index = list(names.systems).index(system)
    return _COLOURS[index % len(_COLOURS)], _MARKERS[index % len(_MARKERS)]


def _grid(tasks: Sequence[str], names: StudyNames, rows: Sequence[StudyRow]) -> tuple[Any, list[Any]]:
    """A figure with one panel a task, at most four a line."""
    across = min(4, len(tasks))
    down = -(-len(tasks) // across)
    figure = new_figure(3.2 * across + 0.4, 2.9 * down + 0.9)
    grid = figure.subplots(down, across, squeeze=False)
    panels = [panel for line in grid for panel in line]
    for panel in panels[len(tasks) :]:
        panel.set_visible(False)
    for panel, task in zip(panels, tasks, strict=False):
        metric = metric_of(next(row for row in rows if row.task == task))
        panel.set_title(names.tasks[task])
        panel.set_ylabel(metric.label)
    inches = figure.get_size_inches()[1]
    figure.subplots_adjust(
        left=0.6 / (3.2 * across + 0.4), right=0.985, top=1 - 0.85 / inches, bottom=0.75 / inches, wspace=0.3,
        hspace=0.5,
    )  # fmt: skip
    return figure, panels[: len(tasks)]


def _fit(panel: Any, task: str, rows: Sequence[StudyRow]) -> None:
    """The span in which systems that learn differ; what is far off is cut, and its curve leaves the panel."""
    ours = [row for row in rows if row.task == task]
    higher = metric_of(ours[0]).higher_is_better
    finals = sorted((scores(row)[-1] for row in ours if math.isfinite(scores(row)[-1])), reverse=higher)
    if not finals:
        return
    best, middle = finals[0], finals[len(finals) // 2]
    span = max(abs(best - middle) * 3, abs(best) * 0.1)
    panel.set_ylim(*((best - span, best + span / 8) if higher else (best - span / 8, best + span)))


def _legend(figure: Any, names: StudyNames, rows: Sequence[StudyRow], *, marks: bool = False) -> None:
    from matplotlib.lines import Line2D

    handles = []
    for system in _present(names.systems, (row.system for row in rows)):
        colour, marker = _look(system, names)
        shown: dict[str, Any] = {"marker": marker, "linestyle": "none"} if marks else {"linewidth": 2}
        handles.append(Line2D([], [], color=colour, label=names.systems[system], **shown))
    figure.legend(handles=handles, loc="upper left", bbox_to_anchor=(0.01, 0.995), ncols=6, fontsize=8)
