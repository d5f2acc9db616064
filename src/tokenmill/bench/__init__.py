"""Sweeps: the same work done in several ways, in turns, so that the ways can be compared.

A `Suite` says which ways there are (`Cell`) and does one of them once (`Reading`); a new suite is one file and one line
in `suites`. What is the same for all of them is here: the random order, a fresh process for each reading, the folder
that survives an interruption, the statistics and the tables.
"""
