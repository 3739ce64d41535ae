"""Networks drawn at random, to learn from what a machine's kernels take: real operators, no use for their answers."""
