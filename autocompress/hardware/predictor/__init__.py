"""Latency, peak RAM and energy of a file without running it often: learned from this machine's kernels."""
