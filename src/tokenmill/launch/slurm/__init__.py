"""Runs on a SLURM cluster: a batch script is written, submitted and followed; the driver works inside the allocation.

The host where a user types need not be one that computes. What both sides share is the run folder: the record, the
script, the log and the file by which workers find the driver lie there.
"""
