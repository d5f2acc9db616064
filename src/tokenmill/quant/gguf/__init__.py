"""GGUF, the one-file format of llama.cpp and what is built on it: read with distrust, planned, never guessed."""
