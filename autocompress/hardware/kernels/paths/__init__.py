"""Kernels as numbers, one file for each kind of code that the runtime has for them."""
