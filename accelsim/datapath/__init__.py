"""Plan x operands -> results, bit for bit; scale rules; functions of the vector unit."""
