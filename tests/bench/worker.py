"""One peer at one workload, in a process of its own.

    worker.py SYSTEM WORKLOAD DIRECTORY THREADS PRECISION

DIRECTORY has the arrays of the data, NAME.npy, and weights.safetensors. As `./model bench --requests`
it reads numbers of steps, one a line, and answers each by {"steps": .., "seconds": .., "loss": ..}.
What a system prints besides goes to standard error.
"""
import importlib
import json
import os
import sys

from models import WORKLOADS
from systems import SYSTEMS


def main():
    name, workload, directory, threads, precision = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import numpy as np

    import weights
    w, s = WORKLOADS[workload], SYSTEMS[name]
    data = {k: np.load(f"{directory}/{k}.npy") for k in w.data_shapes()}
    start = weights.of_model(f"{directory}/weights.safetensors")
    module = importlib.import_module(s.module)
    arguments = dict(s.arguments)
    if precision in s.precisions and len(s.precisions) > 1:
        arguments["precision"] = precision
    system = module.System(w, start, data, int(threads), **arguments)
    for line in sys.stdin:
        steps = int(line)
        seconds, loss = system.steps(steps)
        answers.write(json.dumps({"steps": steps, "seconds": seconds, "loss": float(loss)}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
