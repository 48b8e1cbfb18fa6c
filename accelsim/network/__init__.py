"""Layers' mathematics, forward and backward, on whatever executes their GEMMs and vector functions.

A new layer is one class here: its settings, shapes, parameters, mathematics and the work it asks of
a chip. `LAYERS` is the list of what a workload file may name.
"""

from accelsim.network.conv2d import Conv2d
from accelsim.network.executor import Executor, Operand, VectorUnit
from accelsim.network.graph import Add, Leaf, Network, Residual, Sequence
from accelsim.network.layer import Layer, Parameter, ShapeError, Site
from accelsim.network.linear import Linear
from accelsim.network.matrix_layer import MatrixLayer
from accelsim.network.vector_layers import AveragePool, BatchNorm, Flatten, MaxPool, Relu

LAYERS: dict[str, type[Layer]] = {
    layer.kind: layer for layer in (Linear, Conv2d, BatchNorm, Relu, MaxPool, AveragePool, Flatten)
}

__all__ = [
    "LAYERS",
    "Add",
    "AveragePool",
    "BatchNorm",
    "Conv2d",
    "Executor",
    "Flatten",
    "Layer",
    "Leaf",
    "Linear",
    "MatrixLayer",
    "MaxPool",
    "Network",
    "Operand",
    "Parameter",
    "Relu",
    "Residual",
    "Sequence",
    "ShapeError",
    "Site",
    "VectorUnit",
]
