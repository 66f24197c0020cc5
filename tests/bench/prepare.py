"""Files that a run needs, made in the virtual environment.

    prepare.py data WORKLOAD DIRECTORY     the batch, NAME.npy each, from a fixed seed
    prepare.py weights FROM TO             a training binary's weights without the optimizer's
    prepare.py disk PACKAGE..              bytes installed by the packages and all they need, as JSON
"""
import json
import sys
from pathlib import Path


def data(workload, directory):
    import numpy as np

    from models import WORKLOADS
    arrays = WORKLOADS[workload].data(np.random.default_rng(1))
    for name, a in arrays.items():
        np.save(Path(directory) / f"{name}.npy", a)


def disk(packages):
    import re
    from importlib import metadata
    from packaging.requirements import Requirement
    seen, todo, total = set(), list(packages), 0
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            d = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        for file in d.files or []:
            path = file.locate()
            total += path.stat().st_size if path.exists() else 0
        for text in d.requires or []:
            r = Requirement(text)
            if r.marker is None or r.marker.evaluate({"extra": ""}):
                todo.append(r.name)
    versions = {p: metadata.version(p) for p in packages}
    print(json.dumps({"bytes": total, "versions": versions}))


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "data":
        data(*arguments)
    elif command == "weights":
        import weights
        weights.keep_weights(*arguments)
    else:
        disk(arguments)
