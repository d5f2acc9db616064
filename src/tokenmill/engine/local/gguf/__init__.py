"""Models in one GGUF file: what the local engine wants to know of them, and their tensors by its names."""
