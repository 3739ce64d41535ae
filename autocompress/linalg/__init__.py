"""Tensor maths: tensors in, tensors out."""
