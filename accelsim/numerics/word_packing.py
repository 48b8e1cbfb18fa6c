"""Codes to the words that integer tiles read: looked up, joined along k, in tile order, in one pass.

A word of 32 bits holds four bytes or two 16-bit integers, neighbours along k. What lies beyond k is zero in
b, and in a what zero is there. Called inside of compiled loops; one call works on what fits in a cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numba.extending import register_jitable

from accelsim.numerics.compiled import kernel
from accelsim.numerics.nibbles import translate
from accelsim.numerics.word_joining import join_lines

_SHORT = 128  # elements of a line


@register_jitable
def tile_words(block: int, height: int) -> int:
    """From one tile of a block of words to the next: not all in the same sets of a cache."""
    return block * height + 16


@register_jitable
def _subtract(lines: Any, count: int, offset: int, sums: Any) -> None:
    """sums[j] -= offset * the sum of the elements j of four lines of signed bytes."""
    first, second = lines[:count], lines[count : 2 * count]
    third, fourth = lines[2 * count : 3 * count], lines[3 * count : 4 * count]
    times = np.int32(offset)
    for j in range(count):
        low = np.int32(np.int32(np.int8(first[j])) + np.int32(np.int8(second[j])))
        high = np.int32(np.int32(np.int8(third[j])) + np.int32(np.int8(fourth[j])))
        sums[j] = np.int32(sums[j] - np.int32(times * np.int32(low + high)))


@register_jitable
def _share_out(line: Any, cols: int, apart: int, at: int, panels: Any) -> None:
    """``cols`` elements to each panel."""
    for p in range(line.size // cols):
        place = at + p * apart
        for j in range(cols):
            panels[place + j] = line[p * cols + j]


@register_jitable
def _pack_rows(
    b: Any, corner: int, row_step: int, k: int, n: int, table: Any, first: int, last: int, cols: int,
    words: int, panels: Any, per_group: int, groups: int, offset: int, start: Any,
) -> None:  # fmt: skip
    """Words ``first`` to ``last`` (whole groups) of all panels of one matrix whose rows lie together.

    panels (panels, words, cols) int32, start (panels, groups, cols) int32, both flat from the matrix on.
    """
    side, length = 4 // table.itemsize, -(-n // cols) * cols
    # short lines without gaps are looked up together
    batch = last - first if row_step == n and n == length and n < _SHORT else 1
    lines, sums = np.zeros(batch * side * length, table.dtype), np.zeros(length, np.int32)
    at = np.zeros(4, np.int64)
    for word in range(first, last):
        if (word - first) % batch == 0:
            _look_up_rows(b, corner, row_step, k, n, table, word * side, batch * side, length, lines)
        begin = (word - first) % batch * side * length
        for i in range(side):
            at[i] = begin + i * length
        for p in range(length // cols):
            join_lines(lines, at, p * cols, cols, panels, (p * words + word) * cols)
        if offset:
            _subtract(lines[begin:], length, offset, sums)
            if (word + 1) % per_group == 0 or word + 1 == last:
                _share_out(sums, cols, groups * cols, word // per_group * cols, start)
                sums[:] = 0


@register_jitable
def _look_up_rows(
    b: Any, corner: int, row_step: int, k: int, n: int, table: Any, first: int, count: int, length: int,
    lines: Any,
) -> None:  # fmt: skip
    """``count`` rows from ``first`` on, each ``length`` elements from the last; zeros beyond k."""
    inside = max(0, min(count, k - first))
    if row_step == n and n == length:
        translate(b, corner + first * row_step, inside * n, table, lines, 0)
    else:
        for i in range(inside):
            translate(b, corner + (first + i) * row_step, n, table, lines, i * length)
    lines[inside * length : count * length] = 0


@register_jitable
def _pack_columns(
    b: Any, corner: int, col_step: int, k: int, width: int, table: Any, cols: int, words: int, panel: Any,
    per_group: int, offset: int, start: Any,
) -> None:  # fmt: skip
    """One panel of a matrix whose columns lie together: ``width`` columns from ``corner`` on."""
    side = 4 // table.itemsize
    line = np.zeros(words * side, table.dtype)
    joined = line.view(np.int32)
    if width < cols:
        panel[:] = 0
    start[: -(-words // per_group) * cols if offset else 0] = 0
    for j in range(width):
        translate(b, corner + j * col_step, k, table, line, 0)
        for word in range(words):
            panel[word * cols + j] = joined[word]
        if offset:
            for i in range(k):
                start[i // (per_group * side) * cols + j] -= np.int32(offset * np.int8(line[i]))


@register_jitable
def _pack_tiles(
    a: Any, corner: int, row_step: int, col_step: int, k: int, rows: int, table: Any, first: int, last: int,
    height: int, apart: int, offset: int, packed: Any,
) -> None:  # fmt: skip
    """Words ``first`` to ``last`` of ``rows`` rows from ``corner`` on, as tiles of (words, height).

    Tiles are ``apart`` words from each other. Rows that fill up the last one repeat the last row.
    """
    side, tiles, count = 4 // table.itemsize, -(-rows // height), last - first
    if row_step == 1:  # a transposed operand: neighbours in memory are rows
        length = tiles * height
        lines, joined = np.empty(side * length, table.dtype), np.empty(length, np.int32)
        at = np.arange(4) * length
        for word in range(count):
            for i in range(side):
                line = (first + word) * side + i
                if line < k:
                    translate(a, corner + line * col_step, rows, table, lines, i * length)
                else:
                    lines[i * length : (i + 1) * length] = offset
            join_lines(lines, at, 0, length, joined, 0)
            for row in range(rows, length):
                joined[row] = joined[rows - 1]
            deal_words(joined, tiles, height, apart, packed[word * height :])
        return
    begin, end = first * side, min(last * side, k)
    lines, at = np.empty(height * count * side, table.dtype), np.arange(height) * count
    joined = lines.view(np.int32)
    for t in range(tiles):
        for r in range(height):
            row = min(t * height + r, rows - 1)
            translate(a, corner + row * row_step + begin, end - begin, table, lines, r * count * side)
            lines[r * count * side + end - begin : (r + 1) * count * side] = offset
        side_by_side(joined, at, 0, count, height, packed[t * apart :])


@register_jitable
def deal_words(words: Any, tiles: int, height: int, apart: int, packed: Any) -> None:
    """``height`` words to each tile."""
    if height == 4:  # written out, so that they move together
        for t in range(tiles):
            source, target = words[t * 4 : t * 4 + 4], packed[t * apart : t * apart + 4]
            target[0] = source[0]
            target[1] = source[1]
            target[2] = source[2]
            target[3] = source[3]
        return
    if height == 8:
        for t in range(tiles):
            source, target = words[t * 8 : t * 8 + 8], packed[t * apart : t * apart + 8]
            target[0] = source[0]
            target[1] = source[1]
            target[2] = source[2]
            target[3] = source[3]
            target[4] = source[4]
            target[5] = source[5]
            target[6] = source[6]
            target[7] = source[7]
        return
    for t in range(tiles):
        for r in range(height):
            packed[t * apart + r] = words[t * height + r]


@register_jitable
def side_by_side(lines: Any, at: Any, shift: int, count: int, height: int, target: Any) -> None:
    """target[word * height + r] = lines[at[r] + shift + word]."""
    if height == 4:
        first, second = at[0] + shift, at[1] + shift
        third, fourth = at[2] + shift, at[3] + shift
        a, b = lines[first : first + count], lines[second : second + count]
        c, d = lines[third : third + count], lines[fourth : fourth + count]
        for word in range(count):
            target[4 * word] = a[word]
            target[4 * word + 1] = b[word]
            target[4 * word + 2] = c[word]
            target[4 * word + 3] = d[word]
        return
    if height == 8:
        fifth, sixth, seventh, eighth = at[4] + shift, at[5] + shift, at[6] + shift, at[7] + shift
        a, b = lines[at[0] + shift :], lines[at[1] + shift :]
        c, d = lines[at[2] + shift :], lines[at[3] + shift :]
        e, f = lines[fifth : fifth + count], lines[sixth : sixth + count]
        g, h = lines[seventh : seventh + count], lines[eighth : eighth + count]
        for word in range(count):
            target[8 * word] = a[word]
            target[8 * word + 1] = b[word]
            target[8 * word + 2] = c[word]
            target[8 * word + 3] = d[word]
            target[8 * word + 4] = e[word]
            target[8 * word + 5] = f[word]
            target[8 * word + 6] = g[word]
            target[8 * word + 7] = h[word]
        return
    for r in range(height):
        line = lines[at[r] + shift : at[r] + shift + count]
        for word in range(count):
            target[word * height + r] = line[word]


@register_jitable
def tiles_together(height: int) -> int:
    """Tiles that are packed in one go: 256 rows or so."""
    return -(-256 // height)


@register_jitable
def _words_together(per_group: int) -> int:
    """Words of b that are packed in one go: whole groups."""
    return per_group * -(-32 // per_group)


@kernel()
def _pack_a_piece(
    piece: int, a: Any, steps: Any, table: Any, shape: Any, cut: Any, tile: Any, offset: int, tiles: Any
) -> None:
    """One block of words of `tiles_together` tiles."""
    _, m, k, _ = shape
    words, _, block = cut
    height = tile[0]
    blocks, row_tiles, together = -(-words // block), -(-m // height), tiles_together(height)
    pieces, apart = -(-row_tiles // together), tile_words(block, height)
    matrix, rest = piece // (blocks * pieces), piece % (blocks * pieces)
    part, top = rest // pieces, rest % pieces * together
    _pack_tiles(
        a, matrix * steps[0] + top * height * steps[1], steps[1], steps[2], k,
        min(together * height, m - top * height), table, part * block, min(part * block + block, words),
        height, apart, offset, tiles[((matrix * blocks + part) * row_tiles + top) * apart :],
    )  # fmt: skip


@kernel()
def pack_b_piece(
    piece: int, b: Any, steps: Any, table: Any, shape: Any, cut: Any, cols: int, offset: int, panels: Any,
    start: Any,
) -> None:  # fmt: skip
    """`_words_together` words of all panels, or one panel where columns lie together."""
    _, _, k, n = shape
    words, per_group, _ = cut
    count, groups = -(-n // cols), -(-words // per_group)
    panel, starts = words * cols, groups * cols if offset else 0
    if steps[2] == 1:
        step = _words_together(per_group)
        pieces = -(-words // step)
        matrix, at = piece // pieces, piece % pieces * step
        _pack_rows(
            b, matrix * steps[0], steps[1], k, n, table, at, min(at + step, words), cols, words,
            panels[matrix * count * panel :], per_group, groups, offset, start[matrix * count * starts :],
        )  # fmt: skip
    else:
        matrix, col = piece // count, piece % count * cols
        _pack_columns(
            b, matrix * steps[0] + col * steps[2], steps[2], k, min(cols, n - col), table, cols, words,
            panels[piece * panel : (piece + 1) * panel], per_group, offset, start[piece * starts :],
        )  # fmt: skip


@register_jitable
def b_pieces_of(steps: Any, n: int, words: int, per_group: int, cols: int) -> int:
    """Into how many pieces `pack_b_piece` cuts one matrix."""
    return -(-words // _words_together(per_group)) if steps[2] == 1 else -(-n // cols)


@kernel(parallel=True)
def pack_words(
    a: Any, a_steps: Any, a_table: Any, b: Any, b_steps: Any, b_table: Any, shape: Any, cut: Any, tile: Any,
    offset: int, tiles: Any, panels: Any, start: Any,
) -> None:  # fmt: skip
    """Both operands of a stack of products, all of them.

    Parameters
    ----------
    a, b: uint8 buffers; steps: of a matrix, a row, a column; tables: values by code, uint8 (b's are
        read as signed) or int16.
    shape: (stack, m, k, n). cut: (words, words per group, words of a block of k). tile: (rows, columns).
    offset: that of a's table, 0 if its tile is not corrected.
    tiles: int32 (stack, blocks, m / rows, `tile_words`). panels: int32 (stack, n / columns, words, columns).
    start: int32 (stack, n / columns, groups, columns) or (1,).
    """
    stack, m, _, n = shape
    words, per_group, block = cut
    a_pieces = -(-words // block) * -(-m // (tiles_together(tile[0]) * tile[0]))
    b_pieces = b_pieces_of(b_steps, n, words, per_group, tile[1])
    flat = tiles.reshape(-1)
    for piece in prange(stack * (a_pieces + b_pieces)):
        if piece < stack * a_pieces:
            _pack_a_piece(piece, a, a_steps, a_table, shape, cut, tile, offset, flat)
        else:
            pack_b_piece(
                piece - stack * a_pieces, b, b_steps, b_table, shape, cut, tile[1], offset, panels, start
            )
