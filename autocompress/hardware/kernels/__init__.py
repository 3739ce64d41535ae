"""What the runtime really runs for a file: its kernels, with types, shapes and attributes."""
