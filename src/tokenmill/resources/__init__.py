"""What a run takes of the machine it runs on, sampled while it goes on: processor, memory, GPU, power and energy.

Reading counters and understanding what was read are kept apart: the second is pure. The sampler is one thread, so
that a driver of a GPU that takes its time never holds up the run.
"""

from tokenmill.resources.sampler import Sampler

__all__ = ["Sampler"]
