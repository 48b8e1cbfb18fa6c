"""Speed of the kernels and of training; ``make bench`` runs it."""
