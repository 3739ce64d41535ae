"""Families of small networks, and single architectures of them built from nothing."""
