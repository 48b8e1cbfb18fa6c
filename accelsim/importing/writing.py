"""Layers -> the text of a workload file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Item = tuple[str, dict[str, Any]]
"""One layer: its kind and its settings.

``residual`` holds lists of items under ``body`` and ``shortcut``, ``gated`` under ``body`` and ``gate``,
``concat`` lists of them.
"""


@dataclass(frozen=True)
class Head:
    """The keys of a workload file above its network. ``data`` is the mapping under that key."""

    comment: str
    name: str
    description: str
    data: dict[str, Any]
    batch: int
    epochs: int


def workload_text(head: Head, items: Sequence[Item]) -> str:
    """A workload file word for word; optimiser and learning rate are the common ones of CNN training."""
    lines = [f"# {line}" for line in head.comment.splitlines()]
    lines += [
        f"name: {head.name}",
        f"description: {_scalar(head.description)}",
        f"data: {_flow(head.data)}",
        f"batch: {head.batch}",
        f"epochs: {head.epochs}",
        "optimizer: {kind: sgd, momentum: 0.9, weight_decay: 0.0001}",
        "learning_rate: {schedule: cosine, initial: 0.1}",
        "",
        "network:",
        *_layers(items, 2),
    ]
    return "\n".join(lines) + "\n"


def _layers(items: Sequence[Item], indent: int) -> list[str]:
    lines: list[str] = []
    for kind, settings in items:
        lead = " " * indent + "- "
        if kind in ("residual", "gated"):
            lines.append(f"{lead}{kind}:")
            for branch in ("body", "shortcut", "gate"):
                if settings.get(branch):
                    lines.append(" " * (indent + 4) + f"{branch}:")
                    lines += _layers(settings[branch], indent + 6)
        elif kind == "concat":
            lines += [f"{lead}concat:", " " * (indent + 4) + "branches:"]
            for branch in settings["branches"]:
                lines += _branch(branch, indent + 6)
        else:
            lines.append(f"{lead}{kind}: {_flow(settings)}" if settings else f"{lead}{kind}")
    return lines


def _branch(items: Sequence[Item], indent: int) -> list[str]:
    """A list as an item of a list; an empty one is the identity."""
    if not items:
        return [" " * indent + "- []"]
    lines = _layers(items, indent + 2)
    return [" " * indent + "- " + lines[0].lstrip(), *lines[1:]]


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_flow(each) for each in value) + "]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.12f}".rstrip("0") if value < 1e-4 else repr(value)
    if isinstance(value, str) and not re.fullmatch(r"(?!(?:null|true|false)$)[A-Za-z_]\w*", value):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)
