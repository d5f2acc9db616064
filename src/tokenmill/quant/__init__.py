"""Makes the weights of a model small: streams them from the files they lie in into files that engines load."""
