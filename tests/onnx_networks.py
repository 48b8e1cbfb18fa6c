"""Whole networks in the forms that torchvision's and transformers' exports have, without their weights."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx_models as models
from onnx_models import Builder, onnx


class Bare(Builder):
    """A builder whose weights are shapes: their values are said to lie in a file that is not there."""

    def zeros(self, *shape: int) -> str:
        if math.prod(shape) <= 1024:
            return super().zeros(*shape)
        name = f"w{len(self.weights)}"
        tensor = onnx.TensorProto(name=name, data_type=onnx.TensorProto.FLOAT, dims=shape)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="elsewhere.bin")
        self.weights.append(tensor)
        return name

    def unit(self, x: str, inputs: int, channels: int, kernel: int = 1, act: str = "", **more: int) -> str:
        """A convolution without bias, a batch norm and a function."""
        strides = [more.get("stride", 1)] * 2
        groups = more.get("groups", 1)
        weight = self.zeros(channels, inputs // groups, kernel, kernel)
        x = self.node("Conv", x, weight, pads=[kernel // 2] * 4, strides=strides, group=groups)
        statistics = [self.zeros(channels) for _ in range(4)]
        return self.act(self.node("BatchNormalization", x, *statistics), act)

    def act(self, x: str, kind: str) -> str:
        """A function by its operator, a swish as its two; nothing for an empty text."""
        if kind == "Swish":
            return self.node("Mul", x, self.node("Sigmoid", x))
        return self.node(kind, x) if kind else x

    def squeeze(self, x: str, channels: int, narrow: int, act: str, gate: str) -> str:
        """Squeeze and excitation: mean, two convolutions of one pixel, a gate."""
        y = self.act(self.pixel(self.node("GlobalAveragePool", x), channels, narrow), act)
        y = self.pixel(y, narrow, channels)
        slope = {"alpha": 1 / 6, "beta": 0.5} if gate == "HardSigmoid" else {}
        return self.node("Mul", self.node(gate, y, **slope), x)

    def pixel(self, x: str, inputs: int, channels: int) -> str:
        """A 1 x 1 convolution with a bias."""
        return self.node("Conv", x, self.zeros(channels, inputs, 1, 1), self.zeros(channels))

    def classify(self, x: str, inputs: int, classes: int = 1000) -> str:
        """Mean over the image, flat, a linear layer."""
        flat = self.node("Flatten", self.node("GlobalAveragePool", x), axis=1)
        return self.gemm(flat, inputs, classes)

    def gemm(self, x: str, inputs: int, features: int) -> str:
        """A linear layer on rows."""
        return self.node("Gemm", x, self.zeros(features, inputs), self.zeros(features), transB=1)

    def ints(self, *values: int) -> str:
        """Whole numbers."""
        return self.constant(values, np.int64)

    def norm(self, x: str, width: int, epsilon: float = 1e-6) -> str:
        """A layer norm over the last axis."""
        return self.node(
            "LayerNormalization", x, self.zeros(width), self.zeros(width), axis=-1, epsilon=epsilon
        )

    def rms(self, x: str, width: int) -> str:
        """Root mean square normalisation as T5 and LLaMA write it."""
        mean = self.node("ReduceMean", self.node("Pow", x, self.constant(2.0)), axes=[-1])
        root = self.node("Sqrt", self.node("Add", mean, self.constant(1e-6)))
        scaled = self.node("Mul", x, self.node("Div", self.constant(1.0), root))
        return self.node("Mul", self.zeros(width), scaled)

    def picture(self, path: Path, y: str, extent: int = 224) -> Path:
        """The model of images of this extent."""
        return self.write(path, ("batch", 3, extent, extent), y)


def efficientnet_b0(path: Path) -> Path:
    """Inverted residuals with gates and swishes, 3 x 3 and 5 x 5 depthwise."""
    b = Bare()
    x = b.unit("x", 3, 32, 3, "Swish", stride=2)
    rows = [(1, 3, 1, 32, 16, 1), (6, 3, 2, 16, 24, 2), (6, 5, 2, 24, 40, 2), (6, 3, 2, 40, 80, 3),
            (6, 5, 1, 80, 112, 3), (6, 5, 2, 112, 192, 4), (6, 3, 1, 192, 320, 1)]  # fmt: skip
    for expand, kernel, first, inputs, outputs, times in rows:
        for index in range(times):
            given, stride = (inputs, first) if index == 0 else (outputs, 1)
            wide, y = given * expand, x
            y = b.unit(y, given, wide, 1, "Swish") if expand > 1 else y
            y = b.unit(y, wide, wide, kernel, "Swish", stride=stride, groups=wide)
            y = b.unit(b.squeeze(y, wide, given // 4, "Swish", "Sigmoid"), wide, outputs)
            x = b.node("Add", y, x) if index else y
    return b.picture(path, b.classify(b.unit(x, 320, 1280, 1, "Swish"), 1280))


def mobilenet_v3_large(path: Path) -> Path:
    """Hard swishes, as one operator or two, and gates on some of the blocks."""
    b = Bare()
    x, inputs = b.unit("x", 3, 16, 3, "HardSwish", stride=2), 16
    rows = [(3, 16, 16, 0, "Relu", 1), (3, 64, 24, 0, "Relu", 2), (3, 72, 24, 0, "Relu", 1),
            (5, 72, 40, 24, "Relu", 2), (5, 120, 40, 32, "Relu", 1), (5, 120, 40, 32, "Relu", 1),
            (3, 240, 80, 0, "HardSwish", 2), (3, 200, 80, 0, "HardSwish", 1), (3, 184, 80, 0, "HardSwish", 1),
            (3, 184, 80, 0, "HardSwish", 1), (3, 480, 112, 120, "HardSwish", 1),
            (3, 672, 112, 168, "HardSwish", 1), (5, 672, 160, 168, "HardSwish", 2),
            (5, 960, 160, 240, "HardSwish", 1), (5, 960, 160, 240, "HardSwish", 1)]  # fmt: skip
    for kernel, wide, outputs, narrow, act, stride in rows:
        y = b.unit(x, inputs, wide, 1, act) if wide != inputs else x
        y = b.unit(y, wide, wide, kernel, act, stride=stride, groups=wide)
        y = b.squeeze(y, wide, narrow, "Relu", "HardSigmoid") if narrow else y
        y = b.unit(y, wide, outputs)
        x, inputs = b.node("Add", x, y) if stride == 1 and inputs == outputs else y, outputs
    x = b.classify(b.unit(x, 160, 960, 1, "HardSwish"), 960, 1280)
    x = b.node("Mul", x, b.node("HardSigmoid", x, alpha=1 / 6, beta=0.5))
    return b.picture(path, b.gemm(x, 1280, 1000))


def regnet_y_400mf(path: Path) -> Path:
    """Grouped 3 x 3 with gates whose width follows the block's input."""
    b = Bare()
    x, inputs = b.unit("x", 3, 32, 3, "Relu", stride=2), 32
    for width, depth in ((48, 1), (104, 3), (208, 6), (440, 6)):
        for index in range(depth):
            stride = 2 if index == 0 else 1
            y = b.unit(b.unit(x, inputs, width, 1, "Relu"), width, width, 3, "Relu", stride=stride,
                       groups=width // 8)  # fmt: skip
            y = b.unit(b.squeeze(y, width, round(inputs / 4), "Relu", "Sigmoid"), width, width)
            side = b.unit(x, inputs, width, 1, stride=stride) if index == 0 else x
            x, inputs = b.node("Relu", b.node("Add", side, y)), width
    return b.picture(path, b.classify(x, 440))


def shufflenet_v2(path: Path) -> Path:
    """Channels split in two, one half through a branch, joined and shuffled."""
    b = Bare()
    x = b.node("MaxPool", b.unit("x", 3, 24, 3, "Relu", stride=2), kernel_shape=[3, 3], strides=[2, 2],
               pads=[1, 1, 1, 1])  # fmt: skip
    inputs, extent = 24, 56
    for outputs, times in ((116, 4), (232, 8), (464, 4)):
        half, extent = outputs // 2, extent // 2
        for index in range(times):
            if index == 0:
                side = b.unit(b.unit(x, inputs, inputs, 3, stride=2, groups=inputs), inputs, half, 1, "Relu")
                y, given = x, inputs
            else:
                first = b.node("Split", x, b.ints(half, half), outputs=2, axis=1)
                side, y, given = first, f"{first[:-1]}1", half
            y = b.unit(y, given, half, 1, "Relu")
            y = b.unit(y, half, half, 3, stride=1 if index else 2, groups=half)
            y = b.node("Concat", side, b.unit(y, half, half, 1, "Relu"), axis=1)
            y = b.node("Reshape", y, b.ints(1, 2, half, extent, extent))
            y = b.node("Transpose", y, perm=[0, 2, 1, 3, 4])
            x, inputs = b.node("Reshape", y, b.ints(1, outputs, extent, extent)), outputs
    x = b.node("ReduceMean", b.unit(x, 464, 1024, 1, "Relu"), axes=[2, 3], keepdims=0)
    return b.picture(path, b.gemm(x, 1024, 1000))


def squeezenet1_1(path: Path) -> Path:
    """Fire modules; pools that reach over the edge; a classifier of convolutions with a mean at the end."""
    b = Bare()
    pool = {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}
    x = b.node("Relu", b.conv("x", 3, 64, 3, strides=[2, 2], pads=[0] * 4))
    x = b.node("MaxPool", x, **pool)
    rows = [(64, 16, 64), (128, 16, 64), (0, 0, 0), (128, 32, 128), (256, 32, 128), (0, 0, 0),
            (256, 48, 192), (384, 48, 192), (384, 64, 256), (512, 64, 256)]  # fmt: skip
    for inputs, narrow, wide in rows:
        if not inputs:
            x = b.node("MaxPool", x, **pool)
            continue
        y = b.node("Relu", b.conv(x, inputs, narrow, 1))
        sides = [b.node("Relu", b.conv(y, narrow, wide, kernel)) for kernel in (1, 3)]
        x = b.node("Concat", *sides, axis=1)
    x = b.node("GlobalAveragePool", b.node("Relu", b.conv(x, 512, 1000, 1)))
    return b.picture(path, b.node("Flatten", x, axis=1))


def convnext_tiny(path: Path) -> Path:
    """7 x 7 depthwise, layer norms and linear layers with the channels last, a scale a channel."""
    b = Bare()

    def norm_of_image(x: str, width: int) -> str:
        turned = b.node("Transpose", x, perm=[0, 2, 3, 1])
        return b.node("Transpose", b.norm(turned, width), perm=[0, 3, 1, 2])

    x = norm_of_image(b.conv("x", 3, 96, 4, strides=[4, 4], pads=[0] * 4), 96)
    for width, depth in ((96, 3), (192, 3), (384, 9), (768, 3)):
        if width > 96:
            x = b.conv(norm_of_image(x, width // 2), width // 2, width, 2, strides=[2, 2], pads=[0] * 4)
        for _ in range(depth):
            y = b.norm(b.node("Transpose", b.conv(x, width, width, 7, group=width), perm=[0, 2, 3, 1]), width)
            y = b.linear(models.gelu(b, b.linear(y, width, 4 * width), False), 4 * width, width)
            y = b.node("Mul", b.node("Transpose", y, perm=[0, 3, 1, 2]), b.zeros(width, 1, 1))
            x = b.node("Add", y, x)
    x = norm_of_image(b.node("GlobalAveragePool", x), 768)
    return b.picture(path, b.gemm(b.node("Flatten", x, axis=1), 768, 1000))


def vit_b_16(path: Path, depth: int = 12) -> Path:
    """Patches, a class token, positions, and attention with the batch second and one weight for all three."""
    b, t, width = Bare(), 197, 768
    x = b.conv("x", 3, width, 16, strides=[16, 16], pads=[0] * 4)
    x = b.node("Transpose", b.node("Reshape", x, b.ints(1, width, 196)), perm=[0, 2, 1])
    x = b.node("Add", b.node("Concat", b.zeros(1, 1, width), x, axis=1), b.zeros(1, t, width))
    for _ in range(depth):
        y = b.node("Transpose", b.norm(x, width), perm=[1, 0, 2])
        y = b.linear(y, width, 3 * width)
        y = b.node("Unsqueeze", b.node("Reshape", y, b.ints(t, 1, 3, width)), b.ints(0))
        y = b.node("Squeeze", b.node("Transpose", y, perm=[3, 1, 2, 0, 4]), b.ints(3))
        parts = [b.node("Gather", y, b.constant(i, np.int64), axis=0) for i in range(3)]
        heads = [b.node("Transpose", b.node("Reshape", part, b.ints(t, 12, 64)), perm=[1, 0, 2])
                 for part in parts]  # fmt: skip
        q, k, v = (b.node("Reshape", each, b.ints(1, 12, t, 64)) for each in heads)
        q, k = (
            b.node("Mul", each, b.constant(0.35)) for each in (q, b.node("Transpose", k, perm=[0, 1, 3, 2]))
        )
        scores = b.node("MatMul", q, k)
        mixed = b.node("MatMul", b.node("Softmax", scores, axis=-1), v)
        y = b.node("Reshape", b.node("Transpose", mixed, perm=[2, 0, 1, 3]), b.ints(t, width))
        y = b.node("Reshape", b.gemm(y, width, width), b.ints(t, 1, width))
        x = b.node("Add", b.node("Transpose", y, perm=[1, 0, 2]), x)
        y = b.linear(models.gelu(b, b.linear(b.norm(x, width), width, 3072), False), 3072, width)
        x = b.node("Add", x, y)
    x = b.node("Gather", b.norm(x, width), b.constant(0, np.int64), axis=1)
    return b.picture(path, b.gemm(x, width, 1000))


def deeplab_head(path: Path) -> Path:
    """Spread convolutions side by side with a mean that is made as large again, and labels for each pixel."""
    b, wide = Bare(), 64

    def spread(x: str, rate: int) -> str:
        weight = b.zeros(16, wide, 3, 3)
        return b.node("Relu", b.node("Conv", x, weight, pads=[rate] * 4, dilations=[rate, rate]))

    x = b.unit(b.unit("x", 3, 32, 3, "Relu", stride=2), 32, wide, 3, "Relu", stride=4)
    mean = b.unit(b.node("GlobalAveragePool", x), wide, 16, 1, "Relu")
    sides = [b.unit(x, wide, 16, 1, "Relu"), *(spread(x, rate) for rate in (2, 4, 6))]
    larger = b.node("Resize", mean, "", "", b.ints(1, 16, 8, 8), mode="linear",
                    coordinate_transformation_mode="pytorch_half_pixel")  # fmt: skip
    x = b.pixel(b.unit(b.node("Concat", *sides, larger, axis=1), 80, 16, 3, "Relu"), 16, 21)
    x = b.node("Resize", x, "", "", b.ints(1, 21, 64, 64), mode="linear",
               coordinate_transformation_mode="pytorch_half_pixel")  # fmt: skip
    return b.picture(path, x, 64)


def inception_parts(path: Path) -> Path:
    """Channels taken one by one, seven taps across, seven down, averages that count padding or not."""
    b = Bare()
    channels = []
    for index, (scale, shift) in enumerate(((0.458, -0.030), (0.448, -0.088), (0.450, -0.188))):
        one = b.node("Unsqueeze", b.node("Gather", "x", b.constant(index, np.int64), axis=1), b.ints(1))
        channels.append(b.node("Add", b.node("Mul", one, b.constant(scale)), b.constant(shift)))
    image = b.node("Concat", *channels, axis=1)

    def oblong(x: str, inputs: int, down: int, across: int) -> str:
        weight = b.zeros(8, inputs, down, across)
        return b.node("Relu", b.node("Conv", x, weight, pads=[down // 2, across // 2] * 2))

    x = b.unit(image, 3, 8, 3, "Relu", stride=2)
    window = {"kernel_shape": [3, 3], "pads": [1] * 4, "strides": [1, 1]}
    pools = [b.node("AveragePool", x, count_include_pad=each, **window) for each in (1, 0)]
    x = b.node("Concat", oblong(oblong(x, 8, 1, 7), 8, 7, 1), *pools, axis=1)
    return b.picture(path, b.classify(x, 24, 10), 32)


def same_padding(path: Path) -> Path:
    """Padding as TensorFlow's networks have it: uneven, by an attribute or by an operator of its own."""
    b = Bare()
    x = b.node("Conv", "x", b.zeros(8, 3, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER")
    pads = b.ints(0, 0, 1, 1, 0, 0, 2, 2)
    x = b.node("Conv", b.node("Pad", x, pads), b.zeros(8, 1, 5, 5), strides=[2, 2], group=8)
    x = b.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_LOWER")
    return b.picture(path, b.classify(x, 8, 10), 32)


def whisper_encoder(path: Path, depth: int = 2) -> Path:
    """Two convolutions along time, sinusoids, and attention whose heads stand in the batch."""
    b, t, width = Bare(), 1500, 384
    x = "x"
    for inputs, stride in ((80, 1), (width, 2)):
        weight = b.zeros(width, inputs, 3)
        x = b.node("Conv", x, weight, b.zeros(width), pads=[1, 1], strides=[stride], kernel_shape=[3])
        x = models.gelu(b, x, False)
    x = b.node("Add", b.node("Transpose", x, perm=[0, 2, 1]), b.zeros(t, width))
    for _ in range(depth):
        y = b.norm(x, width, 1e-5)
        q = b.node("Mul", b.linear(y, width, width), b.constant(0.125))
        k, v = b.node("MatMul", y, b.zeros(width, width)), b.linear(y, width, width)
        q, k, v = (b.node("Transpose", b.node("Reshape", each, b.ints(1, t, 6, 64)), perm=[0, 2, 1, 3])
                   for each in (q, k, v))  # fmt: skip
        q, k, v = (b.node("Reshape", each, b.ints(6, t, 64)) for each in (q, k, v))
        scores = b.node("MatMul", q, b.node("Transpose", k, perm=[0, 2, 1]))
        mixed = b.node("MatMul", b.node("Softmax", scores, axis=-1), v)
        mixed = b.node("Transpose", b.node("Reshape", mixed, b.ints(1, 6, t, 64)), perm=[0, 2, 1, 3])
        y = b.linear(b.node("Reshape", mixed, b.ints(1, t, width)), width, width)
        x = b.node("Add", x, y)
        y = b.linear(models.gelu(b, b.linear(b.norm(x, width, 1e-5), width, 1536), False), 1536, width)
        x = b.node("Add", x, y)
    return b.write(path, ("batch", 80, 3000), b.norm(x, width, 1e-5))


def t5_encoder(path: Path) -> Path:
    """Root mean square norms, a table added to the scores, a feed-forward layer without biases."""
    b, t, width = Bare(), 8, 32
    x = b.node("Gather", b.zeros(100, width), "x")
    bias = b.constant(np.random.default_rng(1).normal(size=(1, 4, t, t)))
    y = b.rms(x, width)
    q, k, v = (b.node("MatMul", y, b.zeros(width, width)) for _ in range(3))
    y = b.node("MatMul", models.attention(b, q, k, v, t, width, 4, bias), b.zeros(width, width))
    x = b.node("Add", x, y)
    y = b.node("MatMul", b.rms(x, width), b.zeros(width, 64))
    x = b.node("Add", x, b.node("MatMul", b.node("Relu", y), b.zeros(64, width)))
    return b.write(path, (1, t), b.rms(x, width), whole=True)


def llama_layer(path: Path) -> Path:
    """Rotary positions, a causal mask and a gated feed-forward layer."""
    b, t, width, each = Bare(), 8, 32, 8
    x = b.node("Gather", b.zeros(100, width), "x")
    y = b.rms(x, width)
    cosines, sines = b.zeros(1, 1, t, each), b.zeros(1, 1, t, each)

    def turned(x: str) -> str:
        first, second = (b.node("Slice", x, b.ints(at), b.ints(at + 4), b.ints(3)) for at in (0, 4))
        halves = b.node("Concat", b.node("Neg", second), first, axis=-1)
        return b.node("Add", b.node("Mul", x, cosines), b.node("Mul", halves, sines))

    q, k, v = (models.heads(b, b.node("MatMul", y, b.zeros(width, width)), (1, t, 4, each), [0, 2, 1, 3])
               for _ in range(3))  # fmt: skip
    scores = b.node("MatMul", turned(q), b.node("Transpose", turned(k), perm=[0, 1, 3, 2]))
    mask = b.constant(np.triu(np.full((1, 1, t, t), -1e9), 1))
    mixed = b.node("MatMul", b.node("Softmax", b.node("Add", scores, mask), axis=-1), v)
    y = b.node("Reshape", b.node("Transpose", mixed, perm=[0, 2, 1, 3]), b.ints(1, t, width))
    x = b.node("Add", x, b.node("MatMul", y, b.zeros(width, width)))
    y = b.rms(x, width)
    gate, up = (b.node("MatMul", y, b.zeros(width, 48)) for _ in range(2))
    y = b.node("MatMul", b.node("Mul", b.act(gate, "Swish"), up), b.zeros(48, width))
    return b.write(path, (1, t), b.linear(b.node("Add", x, y), width, 100), whole=True)
