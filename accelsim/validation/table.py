"""Findings as a table: text cells, Markdown, CSV, JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from accelsim.report.quantities import number, percent
from accelsim.validation.comparing import Finding

HEADER = ("row", "figure", "unit", "published", "ours", "error", "")


def shown(value: float) -> str:
    """A number to four significant digits, whole ones in full."""
    return f"{value:,.0f}" if value >= 100 and value == round(value) else number(value, 4)


def published_text(finding: Finding) -> str:
    """One number, or a range."""
    low, high = finding.published
    return shown(low) if low == high else f"{shown(low)} – {shown(high)}"


def error_text(finding: Finding) -> str:
    """A signed percentage; of a published range, inside or how far outside."""
    low, high = finding.published
    if low != high and finding.inside:
        return "inside"
    if abs(finding.error) < 0.00005:
        return "0"
    sign = "+" if finding.error > 0 else ""
    text = percent(finding.error, 2 if abs(finding.error) < 0.01 else 1)
    return f"{sign}{text}".replace("-", "−")


def cells(finding: Finding) -> tuple[str, ...]:
    """One line under `HEADER`."""
    texts = published_text(finding), shown(finding.ours), error_text(finding), finding.status
    return finding.row, finding.label, finding.unit, *texts


def table_markdown(findings: Sequence[Finding], command: str) -> str:
    """The table by source, with what explains a difference and what the model does not follow."""
    lines = [
        "# Published figures and ours",
        "",
        f"Written by `{command}`. *Predicted*: nothing in the chip's file or the run was set from the",
        "figure. *Calibrated*: one factor on the chip's energy, or a number of its file, was. Ours is worked",
        "out from the shipped chip and workload files; error is ours over published, less one.",
        "",
    ]
    for row in dict.fromkeys(finding.row for finding in findings):
        own = [finding for finding in findings if finding.row == row]
        lines += [f"## {row}", "", f"Source: {own[0].source}", "", *_rows(own), "", *_remarks(own)]
    return "\n".join(lines).rstrip() + "\n"


def _rows(findings: Sequence[Finding]) -> list[str]:
    lines = ["| figure | unit | published | ours | error | |", "|---|---|---:|---:|---:|---|"]
    for finding in findings:
        _, label, unit, published, ours, error, status = cells(finding)
        if finding.uncalibrated is not None:
            ours += f" ({shown(finding.uncalibrated)} before)"
        lines.append(f"| {label} | {unit} | {published} | {ours} | {error} | {status} |")
    return lines


def _remarks(findings: Sequence[Finding]) -> list[str]:
    lines = []
    factors = {finding.chip: finding.factor for finding in findings if finding.factor is not None}
    lines += [f"- Energy of {chip} times {number(factor, 4)}." for chip, factor in factors.items()]
    for finding in findings:
        lines += [f"- {finding.label}: {finding.note}"] if finding.note else []
        lines += [f"- {finding.label}, not followed: {finding.missing}"] if finding.missing else []
    return [*dict.fromkeys(lines), ""] if lines else []


def rows_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Full-precision numbers for a program."""
    return [
        {
            "row": finding.row,
            "label": finding.label,
            "quantity": finding.quantity,
            "unit": finding.unit,
            "published_low": finding.published[0],
            "published_high": finding.published[1],
            "ours": finding.ours,
            "error": finding.error,
            "status": finding.status,
            "uncalibrated": finding.uncalibrated,
            "energy_factor": finding.factor,
            "chip": finding.chip,
            "source": finding.source,
            "note": finding.note,
            "missing": finding.missing,
        }
        for finding in findings
    ]


def table_csv(findings: Sequence[Finding]) -> str:
    """One line per figure, full precision."""
    rows = rows_json(findings)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
