"""Making good what compression cost: training, distillation, BatchNorm statistics."""
