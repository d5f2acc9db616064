"""What every figure of the resources means, by the name it has in JSON."""

from __future__ import annotations

RESOURCE_DEFINITIONS = {
    "cores": "logical cores of this machine; a load of 100 % is one of them",
    "session": "number of the session, 0 for the first",
    "interval": "seconds between two samples",
    "samples": "samples taken in the session",
    "sampling_cost": "processor time the sampling took itself, ms for each second of the session",
    "start": "when the first point of the curves begins, seconds on the clock of the session",
    "times": "ends of the points of the curves; the first begins at start, each other one where the last one ends",
    "means": "points of a curve: mean since the point before, null where there was no sample",
    "maxima": "points of a curve: largest sample since the point before",
    "machine_cpu": "processor time of all programs on this machine / time, in percent of one core; without waiting for "
    "disks and without time stolen by other guests of the same machine",
    "machine_cpu_largest": "the largest sample of machine_cpu",
    "load": "mean over the session of the system's load average over 1 min",
    "pid": "number of the process",
    "peak_rss": "most memory of a process that lay in RAM: the kernel's own high-water mark at its end, not a sample; "
    "of the driver from the start of its process up to the end of the session, before answers are exported",
    "cpu": "processor time of the process / time, mean over the samples, in percent of one core; counted in ticks of "
    "1/100 s",
    "cpu_seconds": "processor time of the process, user and system; of the driver since the session began",
    "omitted": "processes beyond those listed",
    "gpu_memory_total": "memory of the GPU",
    "gpu_busy": "share of time in which the GPU worked, as its driver says, for whatever program",
    "gpu_memory": "largest sample of the memory in use on the GPU, by whatever program",
    "joules": "energy of one part of the machine over the session, for whatever program: by its counter, else by its "
    "power, straight lines between the samples",
    "count_size": "energy of one count of the counter",
    "power": "mean power, from counter or samples",
    "least_power": "power of the least point of the power curve",
    "energy": "sum over the parts and sessions that were measured; nothing else of the machine is in it",
    "energy_per_token": "energy / output tokens of answers",
    "energy_per_answer": "energy / answers that were accepted",
    "idle_share": "share of the energy that the machine would have taken idle; needs its idle power",
    "idle_share_at_most": "least power x time / energy: idle power can't be more than the least power of any point",
}
