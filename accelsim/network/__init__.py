"""Layers' mathematics, forward and backward, on whatever executes their GEMMs and vector functions.

A new layer is one class here: its settings, shapes, parameters, mathematics and the work it asks of
a chip. `LAYERS` is the list of what a workload file may name.
"""

from accelsim.network.activation import (
    Dropout,
    Gelu,
    HardSigmoid,
    HardSwish,
    Relu,
    Relu6,
    Sigmoid,
    Swish,
    Tanh,
)
from accelsim.network.attention import Attention, CrossAttention
from accelsim.network.closings import Add, Join, Product
from accelsim.network.conv2d import Conv2d
from accelsim.network.embedding import (
    ClassToken,
    Embedding,
    Positions,
    SharedEmbedding,
    TableLookup,
    Unembedding,
)
from accelsim.network.executor import Blend, Executor, Operand, VectorUnit, WindowOperand
from accelsim.network.graph import (
    Branched,
    Concat,
    EncoderDecoder,
    Gated,
    Leaf,
    Network,
    Part,
    Residual,
    Sequence,
)
from accelsim.network.layer import Layer, Memory, Parameter, ShapeError, Site
from accelsim.network.linear import Linear
from accelsim.network.lstm import Lstm
from accelsim.network.matrix_layer import ArrayLayer, MatrixLayer
from accelsim.network.normalisation import BatchNorm, LayerNorm, RmsNorm, Scale
from accelsim.network.pooling import AveragePool, MaxPool
from accelsim.network.refit import Refit
from accelsim.network.reshaping import (
    AsImage,
    AsPositions,
    AsSequence,
    Flatten,
    MeanPositions,
    ShuffleChannels,
    TakeChannels,
    TakeFirst,
    TakeLast,
)
from accelsim.network.resizing import Resize

LAYERS: dict[str, type[Layer]] = {
    layer.kind: layer
    for layer in (
        Linear, Conv2d, BatchNorm, LayerNorm, RmsNorm, Scale, Relu, Relu6, Sigmoid, Tanh, Gelu, Swish,
        HardSigmoid, HardSwish, Dropout, MaxPool, AveragePool, Resize, Flatten, AsSequence, AsPositions,
        AsImage, TakeFirst, TakeLast, TakeChannels, ShuffleChannels, MeanPositions, Embedding, ClassToken,
        Positions, Unembedding, Attention, CrossAttention, Lstm, Refit,
    )
}  # fmt: skip

__all__ = [
    "LAYERS",
    "Add",
    "ArrayLayer",
    "AsImage",
    "AsPositions",
    "AsSequence",
    "Attention",
    "AveragePool",
    "BatchNorm",
    "Blend",
    "Branched",
    "ClassToken",
    "Concat",
    "Conv2d",
    "CrossAttention",
    "Dropout",
    "Embedding",
    "EncoderDecoder",
    "Executor",
    "Flatten",
    "Gated",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
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
    "Product",
    "Refit",
    "Relu",
    "Relu6",
    "Residual",
    "Resize",
    "RmsNorm",
    "Scale",
    "Sequence",
    "ShapeError",
    "SharedEmbedding",
    "ShuffleChannels",
    "Sigmoid",
    "Site",
    "Swish",
    "TableLookup",
    "TakeChannels",
    "TakeFirst",
    "TakeLast",
    "Tanh",
    "Unembedding",
    "VectorUnit",
    "WindowOperand",
]
