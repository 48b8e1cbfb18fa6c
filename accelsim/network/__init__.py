"""Layers' mathematics, forward and backward, on whatever executes their GEMMs and vector functions.

A new layer is one class here: its settings, shapes, parameters, mathematics and the work it asks of
a chip. `LAYERS` is the list of what a workload file may name.
"""

from accelsim.network.activation import Dropout, Gelu, Relu, Relu6, Sigmoid, Swish, Tanh
from accelsim.network.attention import Attention, CrossAttention
from accelsim.network.conv2d import Conv2d
from accelsim.network.embedding import Embedding, Positions, SharedEmbedding, TableLookup, Unembedding
from accelsim.network.executor import Executor, Operand, VectorUnit
from accelsim.network.graph import Add, Concat, EncoderDecoder, Join, Leaf, Network, Part, Residual, Sequence
from accelsim.network.layer import Layer, Memory, Parameter, ShapeError, Site
from accelsim.network.linear import Linear
from accelsim.network.lstm import Lstm
from accelsim.network.matrix_layer import ArrayLayer, MatrixLayer
from accelsim.network.normalisation import BatchNorm, LayerNorm
from accelsim.network.pooling import AveragePool, MaxPool
from accelsim.network.refit import Refit
from accelsim.network.reshaping import AsSequence, Flatten, MeanPositions, TakeLast

LAYERS: dict[str, type[Layer]] = {
    layer.kind: layer
    for layer in (
        Linear, Conv2d, BatchNorm, LayerNorm, Relu, Relu6, Sigmoid, Tanh, Gelu, Swish, Dropout,
        MaxPool, AveragePool, Flatten, AsSequence, TakeLast, MeanPositions, Embedding, Positions, Unembedding,
        Attention, CrossAttention, Lstm, Refit,
    )
}  # fmt: skip

__all__ = [
    "LAYERS",
    "Add",
    "ArrayLayer",
    "AsSequence",
    "Attention",
    "AveragePool",
    "BatchNorm",
    "Concat",
    "Conv2d",
    "CrossAttention",
    "Dropout",
    "Embedding",
    "EncoderDecoder",
    "Executor",
    "Flatten",
    "Gelu",
    "Join",
    "Layer",
    "LayerNorm",
    "Leaf",
    "Linear",
    "Lstm",
    "MatrixLayer",
    "MaxPool",
    "MeanPositions",
    "Memory",
    "Network",
    "Operand",
    "Parameter",
    "Part",
    "Positions",
    "Refit",
    "Relu",
    "Relu6",
    "Residual",
    "Sequence",
    "ShapeError",
    "SharedEmbedding",
    "Sigmoid",
    "Site",
    "Swish",
    "TableLookup",
    "TakeLast",
    "Tanh",
    "Unembedding",
    "VectorUnit",
]
