"""Folders of compressed-tensors, in its layout `pack-quantized`, as transformers loads them."""
