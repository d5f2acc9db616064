"""Makes workers appear: on this machine, under torchrun, in a SLURM allocation, on a Ray cluster.

The driver keeps the record, the strategy and the leases as in any run. A launcher only starts processes; each of them
joins the run's door over TCP, takes a seat, and answers requests as the worker of a local node does. What is lost
costs only what was in flight there, and what joins later is taken in.
"""
