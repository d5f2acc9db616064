"""The embedded engine: continuous batching in a child process, over our own plainly written decoders."""
