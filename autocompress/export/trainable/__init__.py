"""An ONNX file as a trainable network with the file's own arithmetic, and its trained values back in the file."""
