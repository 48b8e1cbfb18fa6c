"""Small ONNX graphs in the forms that exporters write, built by the onnx package's own helpers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

onnx: Any = __import__("pytest").importorskip("onnx", reason="the onnx package reads and writes ONNX files")


class Builder:
    """Collects nodes and weights; every method returns the name of the value it makes."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """A weight with these values."""
        name = f"w{len(self.weights)}"
        self.weights.append(onnx.numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def zeros(self, *shape: int) -> str:
        """A weight of this shape."""
        return self.constant(np.zeros(shape))

    def node(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """A node of any kind; the name of its first output."""
        number = len(self.nodes)
        names = [f"v{number}"] if outputs == 1 else [f"v{number}_{part}" for part in range(outputs)]
        self.nodes.append(onnx.helper.make_node(op, inputs, names, name=f"/{op}_{number}", **attributes))
        return names[0]

    def conv(self, x: str, inputs: int, channels: int, kernel: int, **attributes: Any) -> str:
        """A convolution with a bias."""
        groups = attributes.get("group", 1)
        weight, bias = self.zeros(channels, inputs // groups, kernel, kernel), self.zeros(channels)
        attributes.setdefault("pads", [kernel // 2] * 4)
        return self.node("Conv", x, weight, bias, kernel_shape=[kernel, kernel], **attributes)

    def linear(self, x: str, inputs: int, features: int) -> str:
        """A product with a constant and a bias, as sequences have it."""
        return self.node("Add", self.node("MatMul", x, self.zeros(inputs, features)), self.zeros(features))

    def write(
        self, path: Path, x: tuple[Any, ...], y: str, *, whole: bool = False, names: tuple[str, ...] = ("x",)
    ) -> Path:
        """The model with inputs of one shape and one output, as a file."""
        kind = onnx.TensorProto.INT64 if whole else onnx.TensorProto.FLOAT
        given = [onnx.helper.make_tensor_value_info(name, kind, x) for name in names]
        made = [onnx.helper.make_tensor_value_info(y, onnx.TensorProto.FLOAT, None)]
        graph = onnx.helper.make_graph(self.nodes, "small", given, made, self.weights)
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
        onnx.save(model, str(path))
        return path


def residual_cnn(path: Path) -> Path:
    """Stem, pool, a residual block with a projection, an inception of three branches, a classifier."""
    b = Builder()
    x = b.node("Relu", b.conv("x", 3, 8, 7, strides=[2, 2]))
    x = b.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    body = b.conv(b.node("Relu", b.conv(x, 8, 16, 3, strides=[2, 2])), 16, 16, 3)
    x = b.node("Relu", b.node("Add", body, b.conv(x, 8, 16, 1, strides=[2, 2])))
    x = b.node("Relu", b.node("Add", b.conv(x, 16, 16, 3), x))
    low, high = b.constant(0.0), b.constant(6.0)
    wide = b.node("Clip", b.conv(x, 16, 16, 3, group=16), low, high)
    x = b.node("Concat", b.conv(x, 16, 4, 1), b.conv(wide, 16, 8, 1), x, axis=1)
    x = b.node("Flatten", b.node("GlobalAveragePool", x), axis=1)
    y = b.node("Gemm", x, b.zeros(10, 28), b.zeros(10), transB=1)
    return b.write(path, ("batch", 3, 32, 32), b.node("Softmax", y, axis=1))


def dense_cnn(path: Path) -> Path:
    """Two dense layers whose concatenations list every earlier one, as torchvision writes them."""
    b = Builder()
    first = b.conv("x", 3, 8, 3)
    second = b.conv(b.node("Relu", first), 8, 4, 3)
    third = b.conv(b.node("Relu", b.node("Concat", first, second, axis=1)), 12, 4, 3)
    x = b.node("Concat", first, second, third, axis=1)
    axes = b.constant([2, 3], np.int64)
    x = b.node("Squeeze", b.node("ReduceMean", x, axes=[2, 3], keepdims=1), axes)
    return b.write(path, (1, 3, 16, 16), b.node("Gemm", x, b.zeros(16, 10), b.zeros(10)))


def layer_norm(b: Builder, x: str, width: int) -> str:
    """A layer norm in the nine nodes of older exports."""
    centred = b.node("Sub", x, b.node("ReduceMean", x, axes=[-1]))
    variance = b.node("ReduceMean", b.node("Pow", centred, b.constant(2.0)), axes=[-1])
    root = b.node("Sqrt", b.node("Add", variance, b.constant(1e-12)))
    scaled = b.node("Mul", b.node("Div", centred, root), b.zeros(width))
    return b.node("Add", scaled, b.zeros(width))


def gelu(b: Builder, x: str, tanh: bool) -> str:
    """A GELU by the error function, or by the hyperbolic tangent."""
    if tanh:
        cube = b.node("Mul", b.node("Pow", x, b.constant(3.0)), b.constant(0.044715))
        inner = b.node("Tanh", b.node("Mul", b.node("Add", x, cube), b.constant(0.79788)))
        return b.node("Mul", b.node("Mul", x, b.constant(0.5)), b.node("Add", inner, b.constant(1.0)))
    inner = b.node("Erf", b.node("Div", x, b.constant(1.41421)))
    return b.node("Mul", b.node("Mul", x, b.node("Add", inner, b.constant(1.0))), b.constant(0.5))


def heads(b: Builder, x: str, shape: tuple[int, ...], perm: list[int]) -> str:
    """(n, t, c) as (n, heads, t, c / heads), or its last two axes swapped."""
    return b.node("Transpose", b.node("Reshape", x, b.constant(shape, np.int64)), perm=perm)


def attention(b: Builder, q: str, k: str, v: str, t: int, width: int, count: int, mask: str) -> str:
    """softmax(q k^T / 2 + mask) v of several heads."""
    shape = (0, t, count, width // count)
    scores = b.node("MatMul", heads(b, q, shape, [0, 2, 1, 3]), heads(b, k, shape, [0, 2, 3, 1]))
    scores = b.node("Div", scores, b.constant(2.0))
    weights = b.node("Softmax", b.node("Add", scores, mask) if mask else scores, axis=-1)
    mixed = b.node("MatMul", weights, heads(b, v, shape, [0, 2, 1, 3]))
    mixed = b.node("Transpose", mixed, perm=[0, 2, 1, 3])
    return b.node("Reshape", mixed, b.constant((0, t, width), np.int64))


def encoder(path: Path) -> Path:
    """One layer as BERT's export has it: separate projections, layer norms and GELU written out."""
    b, t, width = Builder(), 8, 16
    x = b.node("Gather", b.zeros(50, width), "x")
    x = layer_norm(b, b.node("Add", x, b.zeros(1, t, width)), width)
    q, k, v = (b.linear(x, width, width) for _ in range(3))
    x = layer_norm(b, b.node("Add", b.linear(attention(b, q, k, v, t, width, 2, ""), width, width), x), width)
    inner = b.linear(gelu(b, b.linear(x, width, 64), False), 64, width)
    x = layer_norm(b, b.node("Add", inner, x), width)
    return b.write(path, ("batch", "sequence"), b.linear(x, width, 50), whole=True)


def decoder(path: Path) -> Path:
    """One layer as GPT-2's export has it: one projection split in three, a causal mask, products on rows."""
    b, t, width = Builder(), 8, 16
    table = b.zeros(50, width)
    x = b.node("Add", b.node("Gather", table, "x"), b.zeros(1, t, width))
    y = b.node("LayerNormalization", x, b.zeros(width), b.zeros(width), axis=-1, epsilon=1e-5)
    rows = b.node("Reshape", y, b.constant((-1, width), np.int64))
    rows = b.node("Gemm", rows, b.zeros(width, 3 * width), b.zeros(3 * width))
    joined = b.node("Reshape", rows, b.constant((-1, t, 3 * width), np.int64))
    first = b.node("Split", joined, b.constant([width] * 3, np.int64), outputs=3, axis=2)
    q, k, v = (f"{first[:-1]}{part}" for part in range(3))
    mask = b.constant(np.triu(np.full((1, 1, t, t), -1e9), 1))
    y = b.linear(attention(b, q, k, v, t, width, 4, mask), width, width)
    x = b.node("Add", y, x)
    y = b.linear(gelu(b, b.linear(x, width, 64), True), 64, width)
    x = b.node("Add", x, y)
    scores = b.node("MatMul", x, b.node("Transpose", table, perm=[1, 0]))
    return b.write(path, (1, t), scores, whole=True)


def recurrent(path: Path) -> Path:
    """A bidirectional LSTM with the batch first, as torch exports it, and a linear layer on every step."""
    b, t, width = Builder(), 6, 5
    x = b.node("Transpose", "x", perm=[1, 0, 2])
    x = b.node("LSTM", x, b.zeros(2, 4 * 7, width), b.zeros(2, 4 * 7, 7), b.zeros(2, 8 * 7),
               hidden_size=7, direction="bidirectional", outputs=3)  # fmt: skip
    x = b.node("Transpose", x, perm=[0, 2, 1, 3])
    x = b.node("Reshape", x, b.constant((0, 0, -1), np.int64))
    x = b.node("Transpose", x, perm=[1, 0, 2])
    return b.write(path, ("batch", t, width), b.linear(x, 14, 3))


def last_state(path: Path, direction: str = "forward") -> Path:
    """A classifier on the last state of an LSTM, which ONNX gives as a second output."""
    b = Builder()
    x, count = b.node("Transpose", "x", perm=[1, 0, 2]), 2 if direction == "bidirectional" else 1
    y = b.node("LSTM", x, b.zeros(count, 4 * 7, 5), b.zeros(count, 4 * 7, 7), hidden_size=7,
               direction=direction, outputs=3)  # fmt: skip
    state = b.node("Squeeze", f"{y[:-1]}1", b.constant([0], np.int64)) if count == 1 else f"{y[:-1]}1"
    return b.write(path, (1, 6, 5), b.linear(state, 7, 3))


def masked_encoder(path: Path) -> Path:
    """An attention on words and segments whose mask is an input, as BERT's full export has it."""
    b, t, width = Builder(), 8, 16
    words = b.node("Gather", b.zeros(50, width), "input_ids")
    x = b.node("Add", words, b.node("Gather", b.zeros(2, width), "token_type_ids"))
    wide = b.node("Unsqueeze", "attention_mask", b.constant([1, 2], np.int64))
    hidden = b.node("Sub", b.constant(1.0), b.node("Cast", wide, to=onnx.TensorProto.FLOAT))
    mask = b.node("Mul", hidden, b.constant(-1e9))
    q, k, v = (b.linear(x, width, width) for _ in range(3))
    y = attention(b, q, k, v, t, width, 2, mask)
    names = ("attention_mask", "input_ids", "token_type_ids")
    return b.write(path, (1, t), b.node("Add", y, x), whole=True, names=names)
