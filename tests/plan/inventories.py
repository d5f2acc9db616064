"""Inventories for the tests: the kinds of engines there are, and a file as people write it."""

from __future__ import annotations

KINDS = ("http", "https", "local", "ollama", "openai", "scripted")

FLEET = """\
# Our fleet. Ask Ada before adding to it.

[[node]]
name = "gpu-a"
url = "http://10.0.0.5:11434"  # the quiet one
device = "gpu:0"

# The big machine. Two GPUs, one server each.
[[node]]
name = "gpu-b"
url = "http://10.0.0.6:11434"
engine = "ollama"
host = "box-6"
device = ["gpu:0", "gpu:1"]
priority = 1

[[node]]   # paid by the token
name = "hosted"
url = "https://api.example.org/v1/"
key = "env:EXAMPLE_KEY"
model = "large"
"""
