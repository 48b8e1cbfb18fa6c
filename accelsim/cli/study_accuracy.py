"""``accelsim study accuracy``: every task on every training system, with seeds and spread."""

from __future__ import annotations

import time
from pathlib import Path

import click

from accelsim.cli.writable import require_writable
from accelsim.record.study import StudyRow
from accelsim.report.study_ablations import ablation_markdown, operands_csv
from accelsim.report.study_tables import StudyNames, scores, study_csv, study_markdown
from accelsim.run.study_plan import SHIPPED, StudyPlan, jobs_of, load_study
from accelsim.storage import write_text

EXAMPLES = """\b
Examples:
  accelsim study accuracy
  accelsim study accuracy --task letters --system ibm2020_fp4
  accelsim study accuracy my_study.yaml --out reports/my_study
  accelsim study accuracy --only-tables
"""


@click.command("accuracy", epilog=EXAMPLES, short_help="Tasks trained on training systems, bit for bit.")
@click.argument("plan", required=False, type=click.Path(path_type=Path))
@click.option("--task", "tasks", metavar="NAME", multiple=True, help="Only this task (may be repeated).")
@click.option(
    "--system", "systems", metavar="NAME", multiple=True, help="Only this system (may be repeated)."
)
@click.option(
    "--processes",
    metavar="N",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Runs at a time.",
)
@click.option(
    "--only-tables", is_flag=True, help="Train nothing: tables and figures of the runs kept so far."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    default=Path("reports/accuracy"),
    show_default=True,
    help="Where runs, tables and figures are kept.",
)
def accuracy(
    plan: Path | None,
    tasks: tuple[str, ...],
    systems: tuple[str, ...],
    processes: int,
    only_tables: bool,
    out: Path,
) -> None:
    """Train the tasks of PLAN (default: the shipped study) on its systems, bit for bit.

    Runs that are kept already are not repeated, and a study that was stopped goes on where it was. Each run
    is one file in FOLDER/rows with the command that repeats it and the digest of its weights.

    A PLAN is a YAML file: name, description, baseline, ablated; systems (chip, recipe, label, set, ablates)
    and tasks (workload, epochs, label) by name; runs, each with its tasks, systems and seeds.
    """
    from accelsim.run.studying import do_runs, finished_row, study_runs

    study = load_study(plan or SHIPPED)
    require_writable(out)
    runs = study_runs(study, jobs_of(study, tasks, systems), out)
    rows = {run.job: row for run in runs if (row := finished_row(run))}
    missing = [] if only_tables else [run for run in runs if run.job not in rows]
    click.echo(f"{study.name}: {len(runs)} runs, {len(rows)} of them kept, {len(missing)} to do", err=True)
    started = time.monotonic()
    done = list(rows.values())
    for number, row in enumerate(do_runs(missing, processes), start=1):
        done.append(row)
        left = (time.monotonic() - started) / number * (len(missing) - number)
        text = f"{row.task} on {row.system}, seed {row.seed}: {scores(row)[-1]:.3f}"
        click.echo(f"[{number}/{len(missing)}] {text}; about {left / 60:.0f} min left", err=True)
        _write(study, done, out)
    if not done:
        click.echo("nothing to show yet", err=True)
        return
    _write(study, done, out, figures=True)
    click.echo(study_markdown(done, _names(study)))
    click.echo(f"Kept in {out}")


def _names(study: StudyPlan) -> StudyNames:
    return StudyNames(
        {name: task.label for name, task in study.tasks.items()},
        {name: system.label for name, system in study.systems.items()},
        study.baseline,
        study.ablated,
        {name: system.ablates for name, system in study.systems.items() if system.ablates},
    )


def _write(study: StudyPlan, rows: list[StudyRow], out: Path, *, figures: bool = False) -> None:
    names = _names(study)
    parts = [f"# {study.description}", "", study_markdown(rows, names), ablation_markdown(rows, names)]
    write_text(out / "accuracy.md", "\n".join(parts).rstrip("\n") + "\n")
    write_text(out / "accuracy.csv", study_csv(rows))
    write_text(out / "operands.csv", operands_csv(rows))
    if figures:
        from accelsim.report.figures import write_images
        from accelsim.report.study_figures import study_images

        write_images(study_images(rows, names), out / "figures")
