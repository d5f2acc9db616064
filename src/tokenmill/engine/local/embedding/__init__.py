"""Sentence embeddings from a model folder: an encoder, how its words become one vector, and its worker."""
