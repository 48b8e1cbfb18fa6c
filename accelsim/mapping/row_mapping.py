"""One convolution in row-stationary order: what is on the array at once, and the counts that follow.

The dataflow of Eyeriss (Chen et al., ISCA 2016, section V; JSSC 52(1), 2017, section IV). A PE slides one
kernel row over one input row: ``kernel`` x ``cols_out`` MACs. A *set* of ``kernel`` x ``strip`` PEs does
``strip`` output rows of one filter and channel; kernel rows lie down the array, output rows across it, and
a strip longer than the array is wide lies in segments one above the other. As many sets as fit work side by
side: ``sets`` on filters of their own and, for each of those, ``channel_sets`` on channels of their own,
whose sums go from set to set as they go from PE to PE. A PE works on ``filters`` and ``channels`` in turn,
whose rows it holds; ``simd`` of the filters and ``lanes`` of the channels in one cycle. (The designers'
letters: e strip, p filters, q channels, t sets, r channel sets, m and n filters and samples of a block.) So
the sums of ``filters`` x ``sets`` filters are added up over ``channels`` x ``channel_sets`` channels in one
*pass*; samples, strips and the rest of filters and channels follow pass by pass, each of which takes the
longest of

- filters/simd channels/lanes taps cols_out cycles per sample, in which the PEs compute, and
- filters sets rows cols_out / ``sum_words_per_cycle`` per sample, in which the sums of the strip's rows (the
  last strip has fewer) come and go;

filters are loaded before, ``filter_words_per_cycle`` at a time, once per strip and block of samples.

A *block* is the samples and filters whose sums wait in the global buffer, beside the inputs of one pass;
they must fit, and where the buffer has banks, each bank holds one of the two. Inputs cross DRAM once per
block's filters, rows that two strips share twice; weights once per strip and block's samples; outputs once.
In the global buffer inputs are read once per filters held in the array, the zeros around an image with them;
sums go out and back once per pass. Per kernel row of MACs one sum moves between PEs; four words are accessed
inside a PE per MAC, which the mode's energy per MAC includes. Nothing is compressed.

The order of additions is that of the passes, in each of them kernel rows after what a PE has added up; no
kernel of the simulator follows it, so values need sums in which no order shows (an ``exact`` accumulator).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from accelsim.chip import LocalStore
from accelsim.operations import Gemm


@dataclass(frozen=True)
class ConvolutionShape:
    """A convolution; ``filters`` and ``channels`` are those of one group.

    A kernel has ``kernel`` rows of ``taps`` columns; ``stride`` is down an image, ``step`` across. ``rows``
    and ``cols`` of inputs reach from its first tap to its last.
    """

    samples: int
    groups: int
    filters: int
    channels: int
    kernel: int
    taps: int
    stride: int
    step: int
    rows_in: int
    cols_in: int
    rows_out: int
    cols_out: int
    dilation: tuple[int, int] = (1, 1)

    @property
    def rows(self) -> int:
        """Input rows under the kernel."""
        return (self.kernel - 1) * self.dilation[0] + 1

    @property
    def cols(self) -> int:
        """Input columns under the kernel."""
        return (self.taps - 1) * self.dilation[1] + 1

    @property
    def weights(self) -> int:
        """Weights of one group."""
        return self.filters * self.channels * self.kernel * self.taps

    @property
    def cols_read(self) -> int:
        """Columns that windows touch, those of zeros around an image among them."""
        return (self.cols_out - 1) * self.step + self.cols

    @property
    def outputs(self) -> int:
        """Results of one group, all samples."""
        return self.samples * self.rows_out * self.cols_out * self.filters

    @property
    def macs(self) -> int:
        """Products of all groups and samples."""
        return self.groups * self.outputs * self.channels * self.kernel * self.taps


def shape_of(gemm: Gemm) -> ConvolutionShape:
    """The convolution behind a forward GEMM; any other product is one of 1 x 1 kernels on 1 x 1 images."""
    sliding = gemm.sliding
    if sliding is None:
        return ConvolutionShape(gemm.m, gemm.groups, gemm.n, gemm.k, 1, 1, 1, 1, 1, 1, 1, 1)
    down, across = sliding.down, sliding.across
    return ConvolutionShape(
        sliding.samples, gemm.groups, gemm.n, sliding.channels, down.taps, across.taps, down.stride,
        across.stride, down.extent, across.extent, down.positions, across.positions,
        (down.dilation, across.dilation),
    )  # fmt: skip


def _ceil(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)


@dataclass(frozen=True, kw_only=True)
class RowChoice:
    """What is chosen of a mapping, or fixed by a user; the words are those of the module's text."""

    strip: int
    sets: int
    filters: int
    channels: int
    block_samples: int
    block_filters: int
    channel_sets: int = 1


@dataclass(frozen=True, kw_only=True)
class RowMapping(RowChoice):
    """How a convolution runs."""

    shape: ConvolutionShape
    store: LocalStore
    lanes: int = 1
    simd: int = 1

    @property
    def strips(self) -> int:
        """Strips of one image."""
        return _ceil(self.shape.rows_out, self.strip)

    @property
    def rows_in(self) -> int:
        """Input rows that a strip needs."""
        return (self.strip - 1) * self.shape.stride + self.shape.rows

    @property
    def sample_blocks(self) -> int:
        """Blocks that the samples make."""
        return _ceil(self.shape.samples, self.block_samples)

    @property
    def filter_blocks(self) -> int:
        """Blocks that the filters make."""
        return _ceil(self.shape.filters, self.block_filters)

    @property
    def rounds(self) -> int:
        """Passes that add to the same sums."""
        return _ceil(self.shape.channels, self.channels * self.channel_sets)

    @property
    def _filter_groups(self) -> int:
        """Passes that one sample, strip and round take one after another, each for filters of its own."""
        return _ceil(self.shape.filters, self.filters * self.sets)

    @property
    def _passes_of_strip(self) -> int:
        """Passes of one group and strip, each over one sample."""
        return self.shape.samples * self._filter_groups * self.rounds

    @property
    def passes(self) -> int:
        """Passes of one group, each over one sample."""
        return self._passes_of_strip * self.strips

    @property
    def _pass_cycles(self) -> int:
        """Cycles in which the PEs compute in a pass."""
        at_once = _ceil(self.filters, self.simd) * _ceil(self.channels, self.lanes)
        return at_once * self.shape.taps * self.shape.cols_out

    def stream_cycles(self) -> int:
        """Cycles in which the PEs compute, all groups."""
        return self.shape.groups * self.passes * self._pass_cycles

    def waiting_cycles(self) -> int:
        """Cycles in which they wait for sums, all groups."""
        full, last = divmod(self.shape.rows_out, self.strip)
        waits = full * self._wait(self.strip) + self._wait(last)
        return self.shape.groups * self._passes_of_strip * waits

    def _wait(self, rows: int) -> int:
        """Cycles in which they wait in one pass over a strip of ``rows`` output rows."""
        words = self.filters * self.sets * rows * self.shape.cols_out
        return max(_ceil(words, self.store.sum_words_per_cycle) - self._pass_cycles, 0)

    def weight_reads(self) -> int:
        """Weights that are loaded into the PEs, all groups."""
        return self.shape.groups * self.shape.weights * self.strips * self.sample_blocks

    def loading_cycles(self) -> int:
        """Cycles in which filters are loaded, all groups."""
        words = self.weight_reads() // max(self.shape.groups, 1)
        return self.shape.groups * _ceil(words, self.store.filter_words_per_cycle)

    def cycles(self) -> int:
        """All of them."""
        return self.loading_cycles() + self.stream_cycles() + self.waiting_cycles()

    @property
    def _rows_read(self) -> int:
        """Rows of one sample and channel that the strips read together."""
        return max(self.strips * self.rows_in, self.shape.rows_in)

    @property
    def loads(self) -> tuple[Fraction, int]:
        """How often inputs and weights cross from DRAM, over their size."""
        inputs = Fraction(self._rows_read * self.filter_blocks, self.shape.rows_in)
        return inputs, self.strips * self.sample_blocks

    def dram_words(self) -> int:
        """Words over DRAM, all groups."""
        rows = self.shape.samples * self._rows_read * self.shape.channels
        inputs = rows * self.shape.cols_in * self.filter_blocks
        return self.shape.groups * (inputs + self.shape.outputs) + self.weight_reads()

    def first_words(self) -> tuple[int, int]:
        """Inputs and weights that must arrive before the first pass starts."""
        shape, channels = self.shape, min(self.channels * self.channel_sets, self.shape.channels)
        inputs = channels * min(self.rows_in, shape.rows_in) * shape.cols_in
        return inputs, min(self.filters * self.sets, shape.filters) * channels * shape.kernel * shape.taps

    def input_reads(self) -> int:
        """Inputs read from the global buffer, all groups."""
        rows = self.shape.samples * self._rows_read * self.shape.channels
        return self.shape.groups * rows * self.shape.cols_read * self._filter_groups

    def waiting_sums(self) -> int:
        """Sums that go to the global buffer and come back for another pass, all groups."""
        return self.shape.groups * self.shape.outputs * (self.rounds - 1)

    def passed_sums(self) -> int:
        """Sums that move from a PE to the next, all groups."""
        return self.shape.macs // (self.shape.taps * self.channels)

    def buffer_words(self) -> tuple[int, int]:
        """Words read from and written into the global buffer by the array, all groups."""
        waiting = self.waiting_sums()
        return self.input_reads() + waiting, waiting + self.shape.groups * self.shape.outputs

    @property
    def held_words(self) -> tuple[int, int]:
        """Inputs and sums of a block, which the global buffer holds."""
        shape = self.shape
        inputs = self.channels * self.channel_sets * self.rows_in * shape.cols_read
        return (
            self.block_samples * inputs,
            self.block_samples * self.block_filters * self.strip * shape.cols_out,
        )
