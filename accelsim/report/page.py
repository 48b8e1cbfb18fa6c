"""The report as one HTML file that needs nothing else: no network, no scripts, no other file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

from accelsim.record import COMPONENTS, RunRecord
from accelsim.report import detail, drawing
from accelsim.report import quantities as q
from accelsim.report.activity import activity_rows, activity_sentence
from accelsim.report.comparison import Comparison, compare_all, energy_phrase
from accelsim.report.figures import Images
from accelsim.report.footprint import electricity_sentence
from accelsim.report.memory import fit_sentence, memory_rows
from accelsim.report.readings import JOULE_PER_AJ, phases_sentence, read_off, step_name
from accelsim.report.tables import comparison_table, title

_THEME = {
    drawing.INK: "var(--ink)",
    drawing.MUTED: "var(--muted)",
    drawing.RULE: "var(--rule)",
    drawing.PAPER: "none",
}


def report_html(records: Sequence[RunRecord], images: Images) -> str:
    """The whole report of one run, or of a chip's and a baseline's; ``images`` as `figure_images` draws them.

    Raises `InputError` unless there are one or two records of one workload.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    shipped = resources.files("accelsim.report")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(percent=q.percent, number=q.number, seconds=q.seconds)
    template = environment.from_string(shipped.joinpath("report.html.j2").read_text(encoding="utf-8"))
    # Only the project's own files and drawings pass unescaped; text from records never does.
    style = Markup(shipped.joinpath("report.css").read_text(encoding="utf-8"))
    figures = {name: Markup(themed_svg(name, kinds["svg"].decode())) for name, kinds in images.items()}
    return template.render(style=style, figures=figures, **_content(records))


def _content(records: Sequence[RunRecord]) -> dict[str, Any]:
    comparison = compare_all(records)
    rows = comparison_table(records)
    sources = detail.source_rows(records)
    return {
        "title": title(records),
        "records": records,
        "comparison": comparison,
        "step_name": step_name(records),
        "cards": _cards(comparison, all(r.phases == "training" for r in records)) if comparison else [],
        "insights": _insights(records, comparison),
        "results": [row for row in rows if row.group == "result"],
        "further": [row for row in rows if row.group == "reading"],
        "readings": [read_off(record) for record in records],
        "components": _component_rows(records),
        "resource_hues": drawing.RESOURCE_HUES,
        "bottlenecks": detail.bottleneck_rows(records),
        "plans": [detail.plan_rows(record) for record in records],
        "memory": memory_rows(records),
        "misfits": [text for text in map(fit_sentence, records) if text],
        "areas": detail.area_rows(records),
        "tensors": [detail.latest_tensors(record) for record in records],
        "electricity": electricity_sentence(records),
        "systems": [
            *filter(None, map(phases_sentence, records)),
            *(_system_sentence(record) for record in records if record.system),
        ],
        "activity": [activity_rows(record) for record in records],
        "activity_sentences": [text for text in map(activity_sentence, records) if text],
        "sources": sources,
        "evidence": detail.evidence_counts(sources),
        "inputs": _inputs(records),
    }


def _cards(comparison: Comparison, trained: bool) -> list[tuple[str, str, str]]:
    """(what, the number, the small print) of the figures people look for first."""
    ours, theirs = comparison.chip, comparison.baseline
    energy, words = energy_phrase(comparison, 2).split(" ", 1)
    area = f"not iso-area: die {q.times(comparison.die_area_ratio)}"
    if comparison.iso_area:
        area = "iso-area: arrays and dies within 2 %"
    binding_share = f"{q.percent(ours.bound_share[ours.binding], 0)} of the time"
    cards = [
        (
            "Training speed" if trained else "Speed",
            q.times(comparison.speedup, 2),
            f"{q.number(ours.samples_per_second)} samples/s",
        ),
        (words.capitalize(), energy, f"{q.joules(ours.energy_per_sample_j)} a sample"),
        ("MAC-array area", q.times(comparison.array_area_ratio), area),
        ("What binds", drawing.RESOURCE_HUES[ours.binding].name, binding_share),
    ]
    if comparison.accuracy_points is not None:
        values = f"{q.percent(ours.accuracy or 0)} against {q.percent(theirs.accuracy or 0)}"
        cards.insert(2, ("Accuracy", q.points(comparison.accuracy_points).replace(" points", " pt"), values))
    return cards


def _insights(records: Sequence[RunRecord], comparison: Comparison | None) -> list[str]:
    """What an architect would say looking at the figures, one sentence each."""
    sentences = []
    if comparison and comparison.array_speedup:
        sentences.append(
            f"The MAC arrays alone are {q.times(comparison.array_speedup)} the speed; with memory and vector "
            f"units the whole step is {q.times(comparison.speedup)}."
        )
    for record in records:
        rows = detail.longest(record)
        where = ", ".join(
            f"{row.layer} {row.phase} ({drawing.RESOURCE_HUES[row.bound].name})" for row, _ in rows
        )
        share = q.percent(sum(share for _, share in rows), 0)
        sentences.append(f"Longest on {record.chip.name}, together {share} of a step: {where}.")
    return sentences


def _system_sentence(record: RunRecord) -> str:
    assert record.system is not None
    return (
        f"{record.system.chips} {record.chip.name} chips share each mini-batch, the fullest with "
        f"{record.system.batch_per_chip} samples; energies, rates and areas are those of all of them, layers "
        "and memory those of one."
    )


def _component_rows(records: Sequence[RunRecord]) -> list[tuple[str, str, list[str]]]:
    """(colour, component, energy of one sample on every chip)."""
    return [
        (
            drawing.COMPONENT_HUES[name].colour,
            drawing.COMPONENT_HUES[name].name,
            [
                q.joules(record.chips * record.cost.step_energy_aj.of(name) * JOULE_PER_AJ / record.batch)
                for record in records
            ],
        )
        for name in COMPONENTS
        if any(record.cost.step_energy_aj.of(name) for record in records)
    ]


def _inputs(records: Sequence[RunRecord]) -> list[tuple[str, str, str, str, str]]:
    """(kind, name, file, digest, text) of every input, each text once."""
    found = {}
    for record in records:
        for kind, file in (("chip", record.chip), ("workload", record.workload), ("recipe", record.recipe)):
            found[kind, file.name, file.file, file.sha256] = file.text
    order = ("chip", "workload", "recipe")
    ordered = sorted(found, key=lambda key: order.index(key[0]))
    return [(*key, found[key]) for key in ordered]


def themed_svg(name: str, svg: str) -> str:
    """An SVG file made fit to stand in the page: theme colours, unique ids, no fixed size or preamble.

    ``name`` goes in front of every id, because several figures share one page.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'((?:url\(|href=")#)', rf"\1{name}-", svg)
    for colour, variable in _THEME.items():
        svg = svg.replace(colour, variable)
    return svg
