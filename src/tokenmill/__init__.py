"""Answers thousands of prompts with language models, and proves how close to the limit the run came."""

from __future__ import annotations

__version__ = "0.1.0"
