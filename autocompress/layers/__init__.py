"""Modules that take the place of other modules."""
