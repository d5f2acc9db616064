"""The ways to quantize that `benchmarks/quantize.py` compares, each once in a process of its own.

    python benchmarks/quantize_ways.py stream q4_0 2 600M /dev/shm/models    one reading of ours, as JSON

Ours and ggml's run in this file as a child process; llama-quantize and llm-compressor are what they are. Start-up,
imports and compiling are left out on all sides.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import math
import os
import re
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import numpy as np

from tokenmill.bench.cell import Cell
from tokenmill.bench.quantize_cell import Asked, carry_out, measure, plan_of, remove, warm
from tokenmill.bench.quantize_models import is_folder_type, place_of
from tokenmill.bench.quantize_sizes import STREAM, size_of
from tokenmill.errors import TokenmillError
from tokenmill.quant.quantize import Plan
from tokenmill.quant.work import Buffers, encode
from tokenmill.resources.process import own_peak

#: Only the kernels, on weights in memory; ggml's own quantizer between our reads and writes; all with its start-up.
KERNELS, GGML, WHOLE = "kernels", "ggml", "whole process"
#: Processor seconds of a turn of the kernels alone, at least, and pairs of turns.
TURN, PAIRS = 0.2, 9
#: ggml's numbers of types, and the size of their blocks in weights and bytes.
GGML_TYPES = {"q8_0": (8, 32, 34), "q4_0": (2, 32, 18), "q4_k": (12, 256, 144), "q6_k": (14, 256, 210)}
#: Weights that ggml is given at once, as llama-quantize does it: whole rows, some hundred thousand weights.
AT_ONCE = 1 << 19

Reading = dict[str, Any]


def ours(way: str, to: str, threads: int, size: str, files: Path, library: Path | None = None) -> Reading:
    """Seconds, processor seconds and peak of one reading in a fresh process, or the `fault`."""
    line = [sys.executable, __file__, way, to, str(threads), size, str(files), str(library or "")]
    start = time.monotonic()
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode:
        return {
            "fault": done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"ended with {done.returncode}"
        }
    found: Reading = json.loads(done.stdout)
    return found | {"whole": time.monotonic() - start}


def llama(tool: Path, to: str, threads: int, size: str, files: Path) -> Reading:
    """llama-quantize on the same GGUF file; its own figure for the time, which leaves out its start."""
    model, out = place_of(size_of(size), to, files), files / ".llama-out.gguf"
    name = {"q4_k": "Q4_K_S"}.get(to, to.upper())
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    line = [str(tool), "--pure", str(model), str(out), name, str(threads)]
    done = subprocess.run(line, capture_output=True, text=True)
    whole, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    out.unlink(missing_ok=True)
    if done.returncode:
        return {"fault": f"llama-quantize ended with {done.returncode}: {done.stderr.strip()[-200:]}"}
    stated = re.search(r"quantize time\s*=\s*([\d.]+) ms", done.stdout + done.stderr)
    return {"seconds": float(stated[1]) / 1000 if stated else whole, "cpu": cpu, "whole": whole}


#: What the virtual environment of llm-compressor runs.
_PEER = """
import json, resource, sys, time
import torch
torch.set_num_threads(int(sys.argv[3]))
from llmcompressor import model_free_ptq
start, cpu = time.monotonic(), time.process_time()
model_free_ptq(sys.argv[1], sys.argv[2], scheme="W4A16", ignore=["lm_head"], max_workers=int(sys.argv[3]), device="cpu")
end = time.monotonic() - start, time.process_time() - cpu
peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print("READING", json.dumps({"seconds": end[0], "cpu": end[1], "peak": peak}))
"""


def llm_compressor(python: Path, threads: int, size: str, files: Path) -> Reading:
    """llm-compressor's `model_free_ptq` on the same folder, W4A16."""
    model, out = place_of(size_of(size), "w4a16", files), files / ".peer-out"
    line = [str(python), "-c", _PEER, str(model), str(out), str(threads)]
    done = subprocess.run(line, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": str(threads)})
    shutil.rmtree(out, ignore_errors=True)
    stated = re.search(r"^READING (.*)$", done.stdout, re.MULTILINE)
    if done.returncode or stated is None:
        return {"fault": f"llm-compressor ended with {done.returncode}: {done.stderr.strip()[-300:]}"}
    found: Reading = json.loads(stated[1])
    return found


# -- in the child


def _once(way: str, to: str, threads: int, size: str, files: Path, library: str) -> Reading:
    name = f".out-{os.getpid()}"
    asked = Asked(
        way=STREAM if way in (KERNELS, GGML) else way,
        size=size_of(size),
        to=to,
        threads=threads,
        model=place_of(size_of(size), to, files),
        out=files / (name if is_folder_type(to) else f"{name}.gguf"),
    )
    try:
        if way == KERNELS:
            return _kernels(plan_of(asked))
        if way == GGML:
            return _ggml(asked, Path(library))
        if way == WHOLE:
            plan = plan_of(asked)
            warm(plan)
            carry_out(plan, asked)
            return {"seconds": 0.0}
        reading = measure(Cell(group="", factors={}), asked, None)
        return {
            "seconds": reading.seconds,
            "cpu": reading.extra["work_cpu"],
            "peak": sum(reading.peak_rss.values()),
            "sqnr": reading.extra.get("sqnr"),
        }
    finally:
        remove(asked.out)


def _timed(threads: int, count: int, make: Callable[[], Callable[[int], None]]) -> Reading:
    """Calls what `make` gives to each thread for each number below `count`."""
    numbers = itertools.count()

    def work(step: Callable[[int], None]) -> None:
        while (number := next(numbers)) < count:
            step(number)

    crew = [threading.Thread(target=work, args=(make(),)) for _ in range(threads)]
    start, cpu = time.monotonic(), time.process_time()
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    return {"seconds": time.monotonic() - start, "cpu": time.process_time() - cpu, "peak": own_peak()}


def _kernels(plan: Plan) -> Reading:
    """Every chunk encoded from memory into the thread's own buffer, as streaming does it, by one thread and by two.

    They take turns of a fifth of a second or a pass, so that a neighbour on the machine, who stays for longer, slows
    both down: `growth` and `gain` are medians over pairs of turns, of processor seconds and of seconds.
    """
    from tokenmill.quant.files import Files

    warm(plan)
    chunks, files = plan.chunks, Files(plan.weights.files, ())
    spare = Buffers(chunks)
    inputs = [np.empty(chunk.input_size, np.uint8) for chunk in chunks]
    for number, content in enumerate(inputs):
        files.read(chunks[number], content, spare.spare(chunks[number]))

    def make() -> Callable[[int], None]:
        buffers = Buffers(chunks)

        def step(number: int) -> None:
            chunk, content = chunks[number % chunks.count], inputs[number % chunks.count]
            encode(chunk, content, buffers.outputs(chunk), buffers, files)

        return step

    try:
        passes = math.ceil(TURN / _timed(1, chunks.count, make)["cpu"])
        pairs = []
        for number in range(PAIRS):
            order = (1, 2) if number % 2 else (2, 1)
            taken = {threads: _timed(threads, chunks.count * passes, make) for threads in order}
            pairs.append((taken[1], taken[2]))
    finally:
        files.close()
    return {
        "seconds": median(one["seconds"] for one, _ in pairs) / passes,
        "cpu": median(one["cpu"] for one, _ in pairs) / passes,
        "growth": median(two["cpu"] / one["cpu"] for one, two in pairs),
        "gain": median(one["seconds"] / two["seconds"] for one, two in pairs),
        "peak": own_peak(),
    }


def _ggml(asked: Asked, library: Path) -> Reading:
    """Reads, widens BF16 to float with NumPy, has ggml quantize, and writes; pieces of rows, threads at equal work."""
    function = ctypes.CDLL(str(library)).ggml_quantize_chunk
    function.restype = ctypes.c_size_t
    function.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    kind, group, block = GGML_TYPES[asked.to]
    plan = plan_of(asked)
    pieces = []
    for part in plan.chunks.parts:
        rows, columns, tensor = part.rows, part.columns, part.placed.tensor
        step = max(1, AT_ONCE // columns)
        for begin in range(0, rows, step):
            there = part.placed.places[0].offset + begin * columns // group * block
            pieces.append((tensor.offset + 2 * begin * columns, there, min(step, rows - begin), columns))
    source = os.open(asked.model, os.O_RDONLY)
    target = os.open(asked.out, os.O_RDWR | os.O_CREAT)
    os.ftruncate(target, plan.output.size)

    def make() -> Callable[[int], None]:
        most = max(rows * columns for _, _, rows, columns in pieces)
        bits, floats, out = np.empty(most, np.uint16), np.empty(most, np.uint32), np.empty(2 * most, np.uint8)

        def step(number: int) -> None:
            offset, there, rows, columns = pieces[number]
            count, size = rows * columns, rows * columns // group * block
            os.preadv(source, [bits[:count].data], offset)
            np.left_shift(bits[:count], 16, out=floats[:count], dtype=np.uint32, casting="unsafe")
            written = function(kind, floats.ctypes.data, out.ctypes.data, 0, rows, columns, None)
            assert written == size, "ggml wrote another size"
            os.pwrite(target, out[:size].data, there)

        return step

    function(kind, np.zeros(group, np.float32).ctypes.data, np.zeros(block, np.uint8).ctypes.data, 0, 1, group, None)
    try:
        return _timed(asked.threads, len(pieces), make)
    finally:
        os.close(source)
        os.close(target)


def main() -> None:
    way, to, threads, size, files, library = sys.argv[1:7]
    try:
        found = _once(way, to, int(threads), size, Path(files), library)
    except TokenmillError as error:
        sys.exit(str(error))
    sys.stdout.buffer.write(msgspec.json.encode(found))


if __name__ == "__main__":
    main()
