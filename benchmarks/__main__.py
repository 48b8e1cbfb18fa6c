"""Measure everything, print the table, write it to reports/bench."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from accelsim.errors import InputError
from accelsim.storage import write_text
from benchmarks.certificates import certificate_rows
from benchmarks.elements import element_rows, statistic_rows
from benchmarks.mapping import mapping_rows
from benchmarks.measuring import FULL, QUICK, Row, Size
from benchmarks.networks import network_rows
from benchmarks.peers import peer_rows
from benchmarks.portable import portable_rows
from benchmarks.products import square_rows, thread_rows
from benchmarks.shares import share_rows
from benchmarks.table import QUICK_WARNING, SECTIONS, environment, json_text, markdown, summary, text_line
from benchmarks.training import training_rows

MEASUREMENTS: dict[str, Callable[[Size], Iterator[Row]]] = {
    "products": square_rows,
    "certificates": certificate_rows,
    "networks": network_rows,
    "threads": thread_rows,
    "elements": element_rows,
    "statistics": statistic_rows,
    "portable": portable_rows,
    "mapping": mapping_rows,
    "peers": peer_rows,
    "training": training_rows,
    "shares": share_rows,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks that the words ask for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that everything runs")
    parser.add_argument("--out", type=Path, default=Path("reports/bench"), help="folder of the table")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="some sections")
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(words)
    facts = environment(" ".join(["python -m benchmarks", *words]), datetime.now(UTC), quick=options.quick)
    print(f"{facts['cpu']}, {facts['cores']} cores, Python {facts['versions']['python']}")
    rows: list[Row] = []
    for section in options.only:
        print(f"\n{SECTIONS[section]}")
        for row in MEASUREMENTS[section](QUICK if options.quick else FULL):
            print(text_line(row), flush=True)
            rows.append(row)
    print(f"\n{summary(rows)}{QUICK_WARNING if options.quick else ''}")
    try:
        write_text(options.out / "bench.json", json_text(facts, rows))
        write_text(options.out / "bench.md", markdown(facts, rows))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"table: {options.out / 'bench.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
