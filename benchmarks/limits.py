"""What stands between a missed target and its figure, as far as it is known."""

from __future__ import annotations

from benchmarks.measuring import Row

_LIMITS: tuple[tuple[str, str, str], ...] = (
    (
        "products",
        "16 bits",
        "each product is an addition and a rounding of its own, a chain in the order of k: several vector "
        "instructions where float32 has one fused multiply-add",
    ),
    (
        "products",
        "a rounding at every add",
        "an addition and a rounding per product where no certificate holds, as in products with FP4: at best "
        "one third of the instructions' rate of a fused multiply-add",
    ),
    (
        "certificates",
        "",
        "sums that leave the accumulator's exact integers, as long chunks and large values make them, are "
        "added one by one",
    ),
    ("products", "one rounding per 64", "packing both operands and the calls from Python, at this size"),
    (
        "networks",
        "a rounding at every add",
        "as for squares: several instructions per product where float32 has one; gradients in FP4 have no "
        "certificate, and their products read every layer's windows once more to pack them",
    ),
    (
        "networks",
        "one rounding per 64",
        "packing: every layer's windows are read once more than the product alone would",
    ),
    (
        "threads",
        "one rounding per 64",
        "a few milliseconds of work: starting threads, and the caches and memory that both share",
    ),
    ("threads", "", "both threads share caches, memory and whatever else runs on this machine"),
    (
        "elements",
        "stochastic",
        "64 random bits an element, two 64-bit products each, by the definition of the stream",
    ),
    ("elements", "", "the memory: four bytes of a float on one side"),
    (
        "statistics",
        "SAWB",
        "blocks of 256 are added in a fixed order; eight of them side by side leave the memory as the bound, "
        "and reading eight places at once is no faster than a copy",
    ),
    ("mapping", "", "Python objects, one for each layer and phase"),
    ("shares", "", "the rest of training: normalisation, im2col, optimiser and the loop in Python"),
    ("portable", "stochastic", "the random stream's products of 64 bits, which SSE2 has no instruction for"),
    ("portable", "fp16", "a tie needs what the sum dropped, and subnormal sums another place to round"),
    ("portable", "", "no dot-product instruction and vectors of four"),
)


def limit_of(row: Row) -> str:
    """Why the row misses its target, or nothing if it does not."""
    if row.verdict != "missed":
        return ""
    reasons = (why for section, words, why in _LIMITS if section == row.section and words in row.case)
    return next(reasons, "not known")
