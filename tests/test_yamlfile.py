"""YAML files: what is read, and the one line that every mistake earns."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, field_validator

from accelsim.errors import InputError
from accelsim.yamlfile import key_text, parse, position_of, read_yaml, split_unit
from accelsim.yamlfile.reading import MAX_FILE_BYTES


class Model(BaseModel):
    """The strictness that every configuration model has."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Conv(Model):
    """One member of a union told apart by ``kind``."""

    kind: Literal["conv"]
    channels: int = Field(ge=1)
    padding: Literal["same", "valid"] | int | list[int] = 0


class Pool(Model):
    """The other member."""

    kind: Literal["pool", "average_pool"]
    size: tuple[int, int]
    stride: Annotated[int, Field(multiple_of=2)] | None = None


class Residual(Model):
    """A member that holds more members."""

    kind: Literal["residual"]
    body: list[Layer]


Layer = Annotated[Conv | Pool | Residual, Field(discriminator="kind")]


class Net(Model):
    """A small configuration with every kind of field."""

    name: str = Field(min_length=1)
    learning_rate: float = Field(gt=0, le=10, description="step size")
    batch: int = Field(default=1, ge=1, lt=1000)
    flip: bool = False
    clock_mhz: float = 1.0
    layers: tuple[Layer, ...] = ()
    rates: dict[str, float] = {}
    word: str = ""

    @field_validator("word")
    @classmethod
    def _lower(cls, word: str) -> str:
        if word != word.lower():
            raise ValueError(f"must be lower case, got {word!r}")
        return word


Residual.model_rebuild()
Net.model_rebuild()


def net(tmp_path: Path, text: str | bytes) -> Net:
    """Parse a text as a file called net.yaml."""
    path = tmp_path / "net.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return parse(Net, read_yaml(path))


def complaint(tmp_path: Path, text: str | bytes) -> str:
    """The error text of a file, without its folder; one line."""
    with pytest.raises(InputError, match=r"net\.yaml") as caught:
        net(tmp_path, text)
    line = str(caught.value).replace(f"{tmp_path}/", "")
    assert line.isprintable()
    return line


GOOD = "name: a\nlearning_rate: 0.1\n"


def test_every_kind_of_value_is_read(tmp_path: Path) -> None:
    """Text, numbers (1e3 too), booleans, lists, nested unions and aliases arrive as the model says."""
    text = """
name: "a: b"
learning_rate: 1e0
batch: 1_0
flip: true
clock_mhz: 1000
layers:
  - {kind: conv, channels: 3, padding: same}
  - &pool {kind: pool, size: [2, 2]}
  - kind: residual
    body: [*pool, {kind: conv, channels: 1, padding: [1, 2]}]
rates: {yes: 1, no: 2., 12:30: .5}
"""
    read = net(tmp_path, text)
    assert (read.name, read.learning_rate, read.batch, read.flip, read.clock_mhz) == (
        "a: b",
        1,
        10,
        True,
        1000,
    )
    assert read.layers[2].body[0] == read.layers[1]  # type: ignore[union-attr]
    assert read.rates == {"yes": 1, "no": 2, "12:30": 0.5}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: a\n", "net.yaml:1:1: missing key 'learning_rate' (step size)"),
        (
            GOOD + "bach: 2\n",
            "net.yaml:3:1: unknown key 'bach' (did you mean 'batch'?); allowed: name, learning",
        ),
        (
            "name: a\nlerning_rate: 1\n",
            "net.yaml:2:1: unknown key 'lerning_rate' (did you mean 'learning_rate'?)",
        ),
        (GOOD + "batch: 2\nbatch: 3\n", "net.yaml:4:1: duplicate key 'batch'; first given on line 3"),
        (
            GOOD + "clock_ghz: 1\n",
            "net.yaml:3:1: unknown key 'clock_ghz': give this value in MHz, as 'clock_mhz'",
        ),
        (GOOD + "batch: 0\n", "net.yaml:3:1: batch: must be at least 1, got 0"),
        (GOOD + "batch: 1000\n", "net.yaml:3:1: batch: must be below 1000, got 1000"),
        (GOOD + "batch: 1e2\n", "net.yaml:3:1: batch: must be a whole number, got 100.0; write 100"),
        (GOOD + "batch: 1.5\n", "net.yaml:3:1: batch: must be a whole number, got 1.5"),
        (GOOD + "batch: '2'\n", "net.yaml:3:1: batch: must be a whole number, got '2'; remove the quotes"),
        (GOOD + "batch: true\n", "net.yaml:3:1: batch: must be a whole number, got true"),
        (GOOD + "batch:\n", "net.yaml:3:1: batch: must be a whole number, got nothing"),
        (GOOD + "batch: [1]\n", "net.yaml:3:1: batch: must be a whole number, got a list"),
        (GOOD + "batch: {a: 1}\n", "net.yaml:3:1: batch: must be a whole number, got a mapping"),
        (GOOD + "flip: yes\n", "net.yaml:3:1: flip: must be true or false, got 'yes'"),
        (GOOD + "flip: 1\n", "net.yaml:3:1: flip: must be true or false, got 1"),
        (
            GOOD + "clock_mhz: 1 GHz\n",
            "clock_mhz: must be a number, got '1 GHz'; write the number alone, in MHz",
        ),
        (GOOD + "rates: 3\n", "net.yaml:3:1: rates: must be a mapping, got 3"),
        (GOOD + "rates: {a: b}\n", "net.yaml:3:9: rates.a: must be a number, got 'b'"),
        (GOOD + "rates: {a: .nan}\n", "net.yaml:3:9: rates.a: must be a finite number, got .nan"),
        (GOOD + "batch: -.inf\n", "net.yaml:3:1: batch: must be a finite number, got -.inf"),
        (GOOD + "batch: 1e999\n", "net.yaml:3:1: batch: must be a number of sensible size, got 1e999"),
        (GOOD + f"batch: {'9' * 5000}\n", "net.yaml:3:1: batch: must be a number of sensible size, got 9999"),
        (GOOD + "word: Ab\n", "net.yaml:3:1: word: must be lower case, got 'Ab'"),
        (GOOD + "word: 5\n", "net.yaml:3:1: word: must be text, got 5; put it in quotes"),
        (GOOD + f"batch: {'x' * 99}\n", f"net.yaml:3:1: batch: must be a whole number, got '{'x' * 37}...'"),
        ("name: ''\nlearning_rate: 1\n", "net.yaml:1:1: name: must not be empty"),
        ("name: a\nlearning_rate: -1\n", "net.yaml:2:1: learning_rate: must be above 0, got -1"),
        ("name: a\nlearning_rate: 11\n", "net.yaml:2:1: learning_rate: must be at most 10, got 11"),
    ],
)
def test_a_wrong_key_or_value_is_one_clear_line(tmp_path: Path, text: str, line: str) -> None:
    """Each mistake in a key or a value names place, key, what is allowed and what was given."""
    assert line in complaint(tmp_path, text)


@pytest.mark.parametrize(
    ("layer", "line"),
    [
        ("{kind: con, channels: 1}", "net.yaml:4:5: layers[0]: unknown 'kind' 'con' (did you mean 'conv'?)"),
        ("{channels: 1}", "net.yaml:4:5: layers[0]: missing key 'kind'"),
        ("{kind: conv}", "net.yaml:4:5: layers[0]: missing key 'channels'"),
        (
            "{kind: conv, chanels: 1}",
            "unknown key 'chanels' in layers[0] (did you mean 'channels'?); allowed: kind",
        ),
        ("{kind: conv, channels: 0}", "net.yaml:4:18: layers[0].channels: must be at least 1, got 0"),
        (
            "{kind: conv, channels: 1, padding: sam}",
            "layers[0].padding: must be one of same, valid or a whole number or a list (each item a whole "
            "number), got 'sam'",
        ),
        (
            "{kind: conv, channels: 1, padding: [1, x]}",
            "net.yaml:4:44: layers[0].padding[1]: must be a whole number",
        ),
        ("{kind: pool, size: 2}", "net.yaml:4:18: layers[0].size: must be a list of 2 items, got 2"),
        ("{kind: pool, size: [2]}", "net.yaml:4:18: layers[0].size: too few items: item 2 is missing"),
        ("{kind: pool, size: [2, 2, 2]}", "net.yaml:4:18: layers[0].size: must be a list of 2 items, got 3"),
        ("{kind: pool, size: [2, 2], stride: 3}", "layers[0].stride: must be a multiple of 2, got 3"),
        ("{kind: residual, body: [{kind: pool}]}", "net.yaml:4:29: layers[0].body[0]: missing key 'size'"),
        (
            "5",
            "net.yaml:4:5: layers[0]: must be a mapping with the keys kind, channels, padding or a mapping",
        ),
    ],
)
def test_a_mistake_inside_a_union_is_told_in_the_words_of_the_file(
    tmp_path: Path, layer: str, line: str
) -> None:
    """A wrong layer is explained by its own kind, with no name of a Python class or branch."""
    assert line in complaint(tmp_path, f"{GOOD}layers:\n  - {layer}\n")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "net.yaml:1:1: the file is empty"),
        ("# only a comment\n---\n", "net.yaml:1:1: the file is empty"),
        ("- a\n- b\n", "net.yaml:1:1: the top level must be a mapping (key: value), got a list"),
        ("hello", "net.yaml:1:1: the top level must be a mapping (key: value), got 'hello'"),
        ("name: a\n\tb: c\n", "net.yaml:2:1: not valid YAML: a tab cannot be used here: indent with spaces"),
        ("name: a: b\n", "net.yaml:1:8: not valid YAML: a ':' is not allowed here"),
        (
            "name: a\n  b: 1\n",
            "net.yaml:2:4: not valid YAML: a ':' is not allowed here: check the indentation",
        ),
        ("a:\n  b: 1\n c: 2\n", "net.yaml:3:2: not valid YAML: this line does not fit the lines above"),
        ("name: 'a\n", "not valid YAML: found unexpected end of stream"),
        ("name: a\nbatch 1\n", "not valid YAML: a ':' is missing after this key"),
        ("rates: {a: 1\nb: 2\n", "net.yaml:2:2: not valid YAML: the '{' of line 1 is not closed"),
        ("layers: [1\nb: 2\n", "not valid YAML: the '[' of line 1 is not closed"),
        ("a: 1\n---\nb: 1\n", "net.yaml:2:1: not valid YAML: a second document starts here"),
        ("a: *b\n", "net.yaml:1:4: not valid YAML: found undefined alias 'b'"),
        (
            "a: !!python/object/apply:os.system [ls]\n",
            "net.yaml:1:1: a: the tag '!!python/object/apply:os.system' is",
        ),
        ("<<: {a: 1}\n", "net.yaml:1:1: merge keys ('<<') are not supported"),
        ("[a]: 1\n", "net.yaml:1:1: a key must be text, got a list"),
        ('"a\\nb": 1\n', "net.yaml:1:1: a key must be printable text on one line, got 'a\\nb'"),
        ("a: \0\n", "net.yaml:1:4: not a text file: it contains the control character U+0000"),
        (b"a: 1\nb: \xff\xfe\n", "net.yaml:2:4: not a text file: byte 0xff is not UTF-8"),
        (b"\x89PNG\r\n\x1a\n", "net.yaml:1:1: not a text file: byte 0x89 is not UTF-8"),
        ("a: " + "[" * 3000, "net.yaml:1:1: nested deeper than 40 levels"),
        ("a: " + "[" * 60 + "]" * 60, "net.yaml:1:44: nested deeper than 40 levels"),
        ("a: &a [*a]\n", "nested deeper than 40 levels"),
        (b"a" * (MAX_FILE_BYTES + 1), "net.yaml: the file is larger than 256 KiB"),
    ],
)
def test_a_file_that_is_no_configuration_is_one_clear_line(
    tmp_path: Path, text: str | bytes, line: str
) -> None:
    """Broken, hostile, empty and binary files are refused with a place and a reason."""
    assert line in complaint(tmp_path, text)


def test_multiplying_aliases_are_bounded(tmp_path: Path) -> None:
    """Nine levels of nine aliases (a billion values) stop at the first hundred thousand."""
    levels = [
        f"{key}: &{key} [{', '.join(['*' + before] * 9)}]"
        for before, key in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    text = "\n".join(["a: &a [" + ", ".join("x" * 9) + "]", *levels])
    assert "more than 100000 values after its aliases are written out" in complaint(tmp_path, text)


def test_a_missing_file_and_a_directory_are_told_apart(tmp_path: Path) -> None:
    """A path that cannot be read says why."""
    with pytest.raises(InputError, match=r"nothing\.yaml: cannot read the file: no such file or directory"):
        read_yaml(tmp_path / "nothing.yaml")
    with pytest.raises(InputError, match="this is a directory; a YAML file is wanted"):
        read_yaml(tmp_path)
    with pytest.raises(InputError, match="cannot read the file: embedded null byte"):
        read_yaml("a\0b.yaml")


def test_positions_are_those_of_keys_and_items(tmp_path: Path) -> None:
    """A later check can point at any key; a key that is not there points at what encloses it."""
    path = tmp_path / "net.yaml"
    path.write_text("# first line\nname: a\nlayers:\n  - kind: conv\n    channels: 3\n", encoding="utf-8")
    document = read_yaml(path)
    assert position_of(document, ()) == f"{path}:2:1"
    assert position_of(document, ("layers", 0)) == f"{path}:4:5"
    assert position_of(document, ("layers", 0, "channels")) == f"{path}:5:5"
    assert position_of(document, ("layers", 0, "padding", 3)) == f"{path}:4:5"
    assert key_text(("layers", 0, "channels")) == "layers[0].channels"


def test_units_are_read_from_the_end_of_a_key() -> None:
    """The unit of a key is its last words, written as people write it."""
    assert split_unit("clock_mhz") == ("clock", "MHz")
    assert split_unit("read_energy_pj_per_byte") == ("read_energy", "pJ/byte")
    assert split_unit("area_um2_per_pe") == ("area", "um2/PE")
    assert split_unit("rows") == ("rows", "")


@given(st.text(alphabet=st.sampled_from("ab01.:-[]{}&*!'\"#\n\t ,?|>%@e_~"), max_size=60))
def test_no_text_escapes_as_another_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Random YAML-like text is read or refused with one printable line, never another exception."""
    file = tmp_path_factory.getbasetemp() / "random.yaml"
    file.write_text(text, encoding="utf-8")
    refusal = ""
    try:
        parse(Net, read_yaml(file))
    except InputError as error:
        refusal = str(error)
    assert refusal.isprintable()
