"""YAML file to `Sheet`, and the shipped sheets."""

from __future__ import annotations

from pathlib import Path

from accelsim.errors import InputError
from accelsim.mapping.conventions import CONVENTIONS
from accelsim.validation.quantities import PEAKS
from accelsim.validation.schema import Figure, Run, Sheet
from accelsim.yamlfile import KeyPath, YamlDocument, key_text, parse, position_of, read_yaml

_SHIPPED = Path(__file__).resolve().parent / "shipped"

_OF_TWO_RUNS = ("speedup", "speedup_at_equal_area")


def shipped_sheets() -> list[Sheet]:
    """The sheets that come with the package, in the order of their file names."""
    return [load_sheet(path) for path in sorted(_SHIPPED.glob("*.yaml"))]


def load_sheet(path: str | Path) -> Sheet:
    """Read a sheet of published measurements; a file that it names may stand beside it.

    Raises `InputError` with file, line, column, key and what is allowed, for the first mistake in the file.
    """
    document = read_yaml(path)
    sheet = parse(Sheet, document)
    for index, figure in enumerate(sheet.figures):
        place: KeyPath = ("figures", index)
        if fault := _figure_fault(figure):
            key, message = fault
            raise _mistake(document, (*place, key), message)
        for key, run in (("run", figure.run), ("against", figure.against)):
            if run is not None and (lack := _run_fault(run, figure.quantity)):
                raise _mistake(document, (*place, key), lack)
    for index, calibration in enumerate(sheet.calibrations):
        if lack := _run_fault(calibration.run, calibration.quantity):
            raise _mistake(document, ("calibrations", index, "run"), lack)
    return _with_files(sheet, document.path.parent)


def _with_files(sheet: Sheet, folder: Path) -> Sheet:
    """The sheet with the paths of its runs' files counted from its own folder, where they are there."""

    def placed(run: Run | None) -> Run | None:
        if run is None:
            return None
        names = {key: getattr(run, key) for key in ("chip", "workload", "recipe", "grid")}
        found: dict[str, object] = {key: _beside(folder, name) for key, name in names.items() if name}
        found["workloads"] = tuple(_beside(folder, name) for name in run.workloads)
        return run.model_copy(update=found)

    figures = tuple(
        one.model_copy(update={"run": placed(one.run), "against": placed(one.against)})
        for one in sheet.figures
    )
    calibrations = tuple(one.model_copy(update={"run": placed(one.run)}) for one in sheet.calibrations)
    return sheet.model_copy(update={"figures": figures, "calibrations": calibrations})


def _beside(folder: Path, name: str) -> str:
    """A relative path from ``folder`` if such a file is there, else the name as it is."""
    is_path = name.endswith((".yaml", ".yml")) or "/" in name
    return str(folder / name) if is_path and (folder / name).exists() else name


def _mistake(document: YamlDocument, path: KeyPath, message: str) -> InputError:
    return InputError(f"{key_text(path)}: {message}", position_of(document, path))


def _figure_fault(figure: Figure) -> tuple[str, str] | None:
    if (figure.against is not None) != (figure.quantity in _OF_TWO_RUNS):
        verb = "needs" if figure.against is None else "takes no"
        return "quantity", f"'{figure.quantity}' {verb} 'against', the run that it is over"
    if (figure.over is not None) != bool(figure.run.workloads):
        return "run", "'workloads' and 'over' (lowest, mean or highest of them) go together"
    if not isinstance(figure.published, float | int) and figure.published.low > figure.published.high:
        return (
            "published",
            f"low must not be above high, got {figure.published.low} and {figure.published.high}",
        )
    return None


def _stray_key(run: Run) -> str | None:
    """A key that the run's model would not look at."""
    if run.dataflow is not None and run.model not in CONVENTIONS:
        return f"'dataflow' goes with a convention of others as 'model': {', '.join(CONVENTIONS)}"
    if run.zeros is not None and run.model != "row_stationary":
        return "'zeros' goes with 'model: row_stationary'"
    if run.rows is not None and (run.model != "row_stationary" or len(run.layers) != 1):
        return "'rows' goes with 'model: row_stationary' and one of 'layers'"
    if run.chips > 1 and run.gemm is not None:
        return "'chips' share a workload's mini-batch, not a 'gemm'"
    return None


def _run_fault(run: Run, quantity: str) -> str | None:
    """What a run lacks or has too much of, in words, or None."""
    subjects = [run.workload is not None, bool(run.workloads), run.gemm is not None]
    if quantity in ("co2e_tonnes", "co2e_lb"):
        return None if run.electricity_kwh and run.grid else "needs 'electricity_kwh' and 'grid'"
    if run.chip is None and run.array is None:
        return "needs 'chip', or 'array' for a convention of others"
    if run.array is not None and (run.model in ("chip", "row_stationary", "nvdla_sheet") or not run.gemm):
        return "an 'array' without a chip goes with a 'gemm' and a convention of others as 'model'"
    if lack := _stray_key(run):
        return lack
    if quantity == "die_mm2":
        return None
    if quantity in PEAKS:
        return None if run.mode else "a peak needs the chip's 'mode'"
    if quantity == "peak_tops_per_w" and not run.mode:
        return "a peak needs the chip's 'mode'"
    if sum(subjects) != 1:
        return "needs one of 'workload', 'workloads' and 'gemm'"
    if quantity == "speedup_at_equal_area" and not run.modes:
        return "'speedup_at_equal_area' needs 'modes'"
    return None
