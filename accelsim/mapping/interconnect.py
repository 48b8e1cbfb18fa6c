"""The way between a scratchpad and a unit of another core: hops over a ring or a mesh.

The scratchpads of all cores act as one memory whose words are dealt out to the cores in turn, so a byte is
in any core's scratchpad with the same chance, and crosses on average the mean distance of two cores (a core
and itself included). DRAM is reached through the same network. A byte occupies as many links as it makes
hops; all links work at the same time, each direction at its own bandwidth.
"""

from __future__ import annotations

from fractions import Fraction

from accelsim.chip import Chip
from accelsim.mapping.attojoules import attojoules


def mean_hops(topology: str, cores: int) -> Fraction:
    """Mean number of links from a core to a core: the shorter way round a ring, row then column in a mesh."""
    if topology == "ring":
        return Fraction(sum(min(step, cores - step) for step in range(cores)), cores)
    return sum((_mean_on_a_line(side) for side in mesh_sides(cores)), Fraction(0))


def links(topology: str, cores: int) -> int:
    """Links, each direction counted: between neighbours, once where a ring of two has one neighbour."""
    if cores == 1:
        return 0
    if topology == "ring":
        return 2 * cores if cores > 2 else 2
    rows, cols = mesh_sides(cores)
    return 2 * (rows * (cols - 1) + cols * (rows - 1))


def mesh_sides(cores: int) -> tuple[int, int]:
    """Rows and columns of the mesh nearest to a square that holds exactly ``cores``."""
    rows = max(side for side in range(1, cores + 1) if side * side <= cores and cores % side == 0)
    return rows, cores // rows


def hop_energy_aj_per_byte(chip: Chip) -> int:
    """Energy of a scratchpad byte's way over the network, half to even; 0 for a chip without one."""
    network = chip.interconnect
    if network is None:
        return 0
    one_hop = attojoules(network.energy_pj_per_byte_hop.value)
    return round(one_hop * mean_hops(network.topology, chip.cores))


def network_cycles_per_byte(chip: Chip) -> Fraction:
    """Cycles in which the links of the network move a scratchpad byte, all of them busy."""
    network = chip.interconnect
    if network is None or chip.cores == 1:
        return Fraction(0)
    width = links(network.topology, chip.cores) * network.bandwidth_bytes_per_cycle
    return mean_hops(network.topology, chip.cores) / width


def _mean_on_a_line(length: int) -> Fraction:
    """Mean distance of two of ``length`` places in a row, each drawn on its own: (n^2 - 1) / 3n."""
    return Fraction(length * length - 1, 3 * length)
