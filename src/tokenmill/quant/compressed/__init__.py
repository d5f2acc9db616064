"""Folders of compressed-tensors, in its layout `pack-quantized`, as vLLM and transformers load them."""
