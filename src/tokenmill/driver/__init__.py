"""The shell around the pure parts: it prepares a run, drives it, and asks what it meant.

Called `driver` and not `run` because `tokenmill.run` is the function that people call.
"""
