"""The folder a validation leaves behind: table.md, table.csv, ratios.png and .svg."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from accelsim import storage
from accelsim.validation.comparing import Finding
from accelsim.validation.picture import findings_picture
from accelsim.validation.table import table_csv, table_markdown


def write_validation(findings: Sequence[Finding], out_dir: str | Path, command: str) -> list[Path]:
    """Write the table (Markdown and CSV) and the picture of ``findings``; returns the paths.

    ``command`` is the command line that the table names as its origin. Raises `InputError` if the folder
    cannot be written.
    """
    folder = Path(out_dir)
    pictures = findings_picture(findings)
    texts = {"table.md": table_markdown(findings, command), "table.csv": table_csv(findings)}
    for name, text in texts.items():
        storage.write_text(folder / name, text)
    for kind, data in pictures.items():
        storage.write_bytes(folder / f"ratios.{kind}", data)
    return [folder / name for name in (*texts, *(f"ratios.{kind}" for kind in pictures))]
