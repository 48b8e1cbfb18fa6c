"""The tables and figures of ablations, and what it costs to reach the same figure."""

from __future__ import annotations

import csv
import io

import pytest
from sample_records import FP16, sample_record

from accelsim.record.schema import EpochRecord, TensorRecord
from accelsim.record.study import StudyRow, study_row
from accelsim.report.study_ablations import ablation_markdown, gradient_state, octaves, operands_csv
from accelsim.report.study_figures import study_images
from accelsim.report.study_tables import StudyNames, cost_ratios, signed, study_markdown

NAMES = StudyNames(
    {"digits": "digits"},
    {"wide": "16 bits", "narrow": "4 bits", "flat": "one grid"},
    "wide",
    "narrow",
    {"flat": "grids"},
)


def tensor(layer: str, epoch: int, **fields: float) -> TensorRecord:
    """What was seen of one gradient."""
    seen = {"saturated": 0.0, "underflow": 0.0, "cosine": 1.0, "gain": 1.0, "scale": 0.25} | fields
    return TensorRecord(epoch=epoch, layer=layer, role="gradient_input", exponents=((-3, 9), (-1, 1)), **seen)


def row(system: str, values: list[float], metric: str = "accuracy", **fields: object) -> StudyRow:
    """A row of epochs with these figures."""
    made = study_row(sample_record(FP16) if system == "wide" else sample_record(), "digits", system)
    first = made.epochs[0].model_dump()
    epochs = tuple(
        EpochRecord.model_validate(first | {"epoch": number, "metric": {"name": metric, "value": value}})
        for number, value in enumerate(values, 1)
    )
    return made.model_copy(update={"epochs": epochs, "seed": 1, "tensors": (), **fields})


@pytest.mark.parametrize(
    ("metric", "ours", "theirs"),
    [
        ("accuracy", [0.5, 0.8, 0.9, 0.9], [0.6, 0.7, 0.85, 0.8]),
        ("bits per character", [4.0, 3.0, 2.0, 2.0], [3.9, 3.5, 2.5, 2.9]),
    ],
)
def test_cost_counts_to_the_best_figure_both_reach(
    metric: str, ours: list[float], theirs: list[float]
) -> None:
    """Both need three epochs, whichever way is up: the ratios are those of a training step."""
    narrow, wide = row("narrow", ours, metric), row("wide", theirs, metric)
    [(time, energy)] = cost_ratios([narrow, wide], "digits", "narrow", "wide")
    assert time == pytest.approx(wide.step_cycles / narrow.step_cycles)
    assert energy == pytest.approx(wide.step_energy_aj.total_aj / narrow.step_energy_aj.total_aj)
    assert f"| 4 bits | {time:.2f} / {energy:.2f} (1) |" in study_markdown([narrow, wide], NAMES)


def test_a_run_that_never_had_a_figure_has_no_cost() -> None:
    """Diverged from the first epoch on: there is nothing that both reach."""
    lost = row("narrow", [0.5]).model_copy(update={"epochs": (diverged(),)})
    assert cost_ratios([lost, row("wide", [0.5])], "digits", "narrow", "wide") == []


def diverged() -> EpochRecord:
    """An epoch without a finite figure."""
    fields = row("narrow", [0.5]).epochs[0].model_dump()
    return EpochRecord.model_validate(fields | {"metric": {"name": "bits per character", "value": None}})


@pytest.mark.parametrize(
    ("value", "text"), [(-0.31, "\N{MINUS SIGN}0.3"), (0.31, "+0.3"), (-0.04, "0.0"), (0.0, "0.0")]
)
def test_signs_are_those_of_print(value: float, text: str) -> None:
    """A true minus sign, a plus, and none where rounding leaves zero."""
    assert signed(value, 1) == text


def test_ablations_stand_apart_and_are_compared_with_what_they_ablate() -> None:
    """Differences from the ablated system; gradients as means over layers and kept products."""
    seen = (tensor("a", 2, gain=0.8, underflow=0.5), tensor("b", 2, gain=0.6, cosine=0.5), tensor("a", 1))
    rows = [row("wide", [0.8, 0.9]), row("narrow", [0.7, 0.8]), row("flat", [0.6, 0.7], tensors=seen)]
    state = gradient_state(rows[2], 2)
    assert state is not None
    assert (state.gain, state.cosine, state.to_zero) == (pytest.approx(0.7), 0.75, 0.25)
    assert gradient_state(rows[0], 2) is None
    text = ablation_markdown(rows, NAMES)
    assert "| grids | one grid | 70.0 (1) | \N{MINUS SIGN}10.0 (1) | 0.70 | 0.750 | 25.0 | 0.00 |" in text
    assert "| as published | 4 bits | 80.0 (1) |  | \N{EN DASH} |" in text
    assert "one grid" not in study_markdown(rows, NAMES)
    assert ablation_markdown(rows[:2], NAMES) == ""


def test_every_operand_of_every_kept_epoch_is_a_line() -> None:
    """The file of operands can be read by any spreadsheet."""
    rows = [row("flat", [0.6, 0.7], tensors=(tensor("a", 1), tensor("a", 2, gain=0.5)))]
    lines = list(csv.DictReader(io.StringIO(operands_csv(rows))))
    assert [(line["epoch"], line["gain"], line["octaves"]) for line in lines] == [
        ("1", "1.0", "3"),
        ("2", "0.5", "3"),
    ]


def test_octaves_leave_out_the_rarest() -> None:
    """Of a thousand numbers one may lie anywhere; of none there is no span."""
    far = tensor("a", 1).model_copy(update={"exponents": ((-40, 1), (-3, 998), (0, 1))})
    assert octaves(far) == 1
    assert octaves(far.model_copy(update={"exponents": ()})) is None


def test_five_epochs_are_kept_evenly() -> None:
    """Of a long run the first, the last and three between; of a short one all."""
    record = sample_record()
    assert record.training is not None
    for count, kept in ((3, {1, 2, 3}), (9, {1, 3, 5, 7, 9})):
        epochs = tuple(record.training.epochs[0].model_copy(update={"epoch": i + 1}) for i in range(count))
        tensors = tuple(tensor("a", i + 1) for i in range(count))
        training = record.training.model_copy(update={"epochs": epochs, "tensors": tensors})
        made = study_row(record.model_copy(update={"training": training}), "digits", "narrow")
        assert {one.epoch for one in made.tensors} == kept


def test_gradients_over_training_are_drawn() -> None:
    """Ablations get a figure of their own, and the ablated system its histogram on the grid."""
    seen = (tensor("a", 1), tensor("b", 1), tensor("a", 2), tensor("b", 2))
    rows = [
        row("wide", [0.8, 0.9]),
        row("narrow", [0.7, 0.8], tensors=seen),
        row("flat", [0.6, 0.7], tensors=seen),
    ]
    images = study_images(rows, NAMES)
    assert {"ablation_gradients", "gradient_exponents"} <= set(images)
    assert b"one grid" in images["ablation_gradients"]["svg"]
    assert b"one grid" not in images["learning_curves"]["svg"]
    assert set(study_images(rows[:2], NAMES)) == set(images) - {"ablation_gradients"}
