"""The folder a comparison leaves behind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from accelsim import storage
from accelsim.record import RunRecord
from accelsim.report.figures import figure_images, write_images
from accelsim.report.page import report_html
from accelsim.report.tables import table_csv, table_markdown


def write_report(records: Sequence[RunRecord], out_dir: str | Path) -> list[Path]:
    """Write report.html, comparison.csv, comparison.md and figures/ into ``out_dir``; return the paths.

    ``records``: one run, or a chip's run and a baseline's (in that order). All is made in memory first and
    each file is written whole or not at all; the page comes last, so that where it stands the rest stands.
    Raises `InputError` for more records, different workloads, or a folder that cannot be written.
    """
    folder = Path(out_dir)
    images = figure_images(records)
    texts = {
        "comparison.csv": table_csv(records),
        "comparison.md": table_markdown(records),
        "report.html": report_html(records, images),
    }
    paths = write_images(images, folder / "figures")
    for name, text in texts.items():
        storage.write_text(folder / name, text)
    return [*paths, *(folder / name for name in texts)]
