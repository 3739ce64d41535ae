"""Lightweight architectures for a budget: drawn, counted, forecast, scored without training, measured, and raced.

Costs that are counted decide first, as they are the cheapest to know; then an estimate from layers, set right by files
that were forecast or measured; then the forecast of the machine's profile; at last the clock. Each step sees fewer.
"""
