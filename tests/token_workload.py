"""Small networks on token ids, built from the words of a workload file."""

from __future__ import annotations

from pathlib import Path

from tiny_workload import written

from accelsim.workload import Workload, load_workload

HEAD = """\
name: tokens
description: A network on token ids
data: {{shape: [{positions}], tokens: {tokens}, targets: [{targets}], classes: {tokens}, samples: 100}}
batch: 4
epochs: 2
optimizer: {{kind: adam}}
learning_rate: {{schedule: constant, initial: 0.01}}
network:
"""

TRANSLATOR = """\
  - encoder_decoder:
      source: 5
      encoder:
        - embedding: {tokens: 7, features: 6, name: source}
        - positions: {kind: sinusoidal}
        - residual: {body: [layer_norm, linear: {features: 18}, attention: {heads: 2}]}
      decoder:
        - embedding: {tokens: 7, features: 6, name: target}
        - positions: {kind: learned}
        - residual: {body: [layer_norm, linear: {features: 18}, attention: {heads: 3, causal: true}]}
        - residual: {body: [layer_norm, linear: {features: 6}, cross_attention: {heads: 2}]}
        - residual: {body: [layer_norm, cross_attention: {heads: 1}]}
        - layer_norm
        - unembedding: {of: target}
"""


def token_workload(
    folder: Path, layers: str, positions: int = 9, targets: int = 4, tokens: int = 7
) -> Workload:
    """The workload of these layers, two spaces before each."""
    head = HEAD.format(positions=positions, targets=targets, tokens=tokens)
    return load_workload(written(folder, head + layers))
