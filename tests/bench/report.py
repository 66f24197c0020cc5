"""Results as text: lines while the benchmark runs, and docs/benchmarks.md. Standard library only."""
from models import WORKLOADS
from systems import PRECISIONS, SYSTEMS


def best_peer(systems, key):
    times = [r[key] for s, r in systems.items() if s != "nnc" and key in r]
    return min(times) if times else None


def ratio(run, key="median"):
    """How many times as long the fastest peer's step takes as ours."""
    ours, peer = run["systems"].get("nnc", {}).get(key), best_peer(run["systems"], key)
    return peer / ours if ours and peer else None


def duration(seconds):
    if seconds is None:
        return "–"
    if seconds < 1e-3:
        return f"{seconds * 1e6:.3g} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds:.3g} s"


def size(number):
    if number is None:
        return "–"
    for unit in ("kB", "MB"):
        number /= 1000
        if number < 1000:
            return f"{number:.3g} {unit}"
    return f"{number / 1000:.3g} GB"


def times(r):
    return "–" if r is None else f"{r:.2f}×"


def line(run):
    cells = [f"{s} {duration(r['median'])} (min {duration(r['minimum'])})"
             for s, r in run["systems"].items() if "median" in r]
    ours = run["systems"].get("nnc", {})
    if run["flops"] and "median" in ours:
        cells.append(f"{share(run, 'nnc')} of peak {run['peak'] / 1e9:.0f} GFLOP/s")
    best = ratio(run)
    if best:
        cells.append(f"best peer {times(best)} (min {times(ratio(run, 'minimum'))})")
    return f"  {run['threads']} thread{'s' if run['threads'] > 1 else ''}: " + " · ".join(cells)


def share(run, system):
    r = run["systems"].get(system, {})
    if "minimum" not in r or run["flops"] < 1e6:
        return "–"
    return f"{100 * run['flops'] / r['minimum'] / run['peak']:.0f} %"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(r) + " |" for r in rows]) + "\n"


def summary(results):
    runs = results["runs"]
    return "\n".join(f"{r['workload']}{suffix(r)}:{line(r)}" for r in runs)


def suffix(run):
    return "" if run["precision"] == "float32" else ", " + run["precision"]


HEAD = """# Benchmarks

Training steps of the same networks in `nnc` and in the frameworks people use, on the CPU. Written by `tests/bench/run`, which installs
the frameworks from PyPI, and checks before it measures that all of them compute the same losses.

```
tests/bench/run                             # everything, hours on two cores
tests/bench/run --quick --only mlp,lstm --systems nnc,torch --threads 1
```

The workloads are `tests/bench/workloads/*.nn` and, for the others, `tests/bench/models.py`; each system runs as is best for it: the
files `tests/bench/ops_*.py` say how. All have the same first weights, the same batch in memory, the same optimizer. A process per
system and workload is asked for blocks of steps in turn, the others being stopped, so that what disturbs the machine disturbs all;
figures are medians over {rounds} blocks of about {seconds} s, in brackets the fastest. The losses of the first {losses} steps must agree to
{tolerance} relative; what did not agree, or did not run, is named at the end.

{precisions}
Run on {date}: {cpu}, {cores} cores. {versions}.
"""

IN_F32 = """All compute in f32. The peak is that of vector multiply-adds in registers, measured beside the systems.
"""
IN_BOTH = """All compute in f32, and where products take most of the time once more in mixed precision: weights in f32, layers in bf16. Ours is
`precision = "mixed_bfloat16"`, PyTorch's is `torch.autocast`, Keras' is its policy of our name. The peak is that of vector
multiply-adds in f32, in mixed precision that of products of bf16 tiles (AMX) where the machine has them, both measured beside the systems.
"""


def steps(some, systems):
    """The tables of one precision and one number of threads."""
    peers = [s for s in systems if s != "nnc"]
    title = {s: SYSTEMS[s].title for s in systems}
    threads, mixed = some[0]["threads"], some[0]["precision"] != "float32"
    name = "One thread" if threads == 1 else f"{threads} threads"
    name += ", mixed precision" if mixed else ""
    out = [f"## {name}\n\nHow many times as long a step takes elsewhere as in `nnc`; above 1 ours is "
           "faster.\n"]
    rows = []
    for r in some:
        ours = r["systems"].get("nnc", {}).get("median")
        cells = [WORKLOADS[r["workload"]].title]
        for s in peers:
            t = r["systems"].get(s, {}).get("median")
            cells.append(times(t / ours) if t and ours else "–")
        best = ratio(r)
        rows.append([*cells, f"**{times(best)}**" if best else "–", share(r, "nnc")])
    out.append(table(["", *[title[s] for s in peers], "the best of them",
                      "ours of tile peak" if mixed else "ours of FMA peak"], rows))
    out.append("Time of a step:\n")
    rows = []
    for r in some:
        cells = [WORKLOADS[r["workload"]].title]
        for s in systems:
            q = r["systems"].get(s, {})
            cells.append(f"{duration(q['median'])} ({duration(q['minimum'])})"
                         if "median" in q else "–")
        rows.append(cells)
    out.append(table(["", *[title[s] for s in systems]], rows))
    return out


def document(results):
    runs = sorted(results["runs"], key=lambda r: list(WORKLOADS).index(r["workload"]))
    systems = [s for s in SYSTEMS if any(s in r["systems"] for r in runs)]
    ran = {r["precision"] for r in runs}
    tolerances = [f"{t:g} ({p})" for p, t in results["tolerance"].items() if p in ran]
    peers = [s for s in systems if s != "nnc"]
    title = {s: SYSTEMS[s].title for s in systems}
    versions = {}
    for s in peers:
        versions |= results["disk"].get(s, {}).get("versions", {})
    out = [HEAD.format(**results["machine"], **{k: results[k] for k in
                       ("rounds", "seconds", "losses", "date")},
                       tolerance=" and ".join(tolerances),
                       precisions=IN_BOTH if len(ran) > 1 else IN_F32,
                       versions=", ".join(f"{k} {v}" for k, v in versions.items()))]
    for precision in PRECISIONS:
        for threads in sorted({r["threads"] for r in runs if r["precision"] == precision}):
            out += steps([r for r in runs if (r["precision"], r["threads"]) == (precision, threads)],
                         [s for s in systems if precision in SYSTEMS[s].precisions])
    last = max(r["threads"] for r in runs)
    first = min((r["precision"] for r in runs), key=PRECISIONS.index)
    some = [r for r in runs if r["threads"] == last and r["precision"] == first]
    out.append("## From the shell to the first step\n\nImports and compilation included, nothing "
               "remembered from earlier runs. For `nnc`: compiling and the program's first step; then "
               "the first step of the program alone.\n")
    rows = []
    for r in some:
        q = r["systems"]
        rows.append([WORKLOADS[r["workload"]].title, duration(q.get("nnc", {}).get("first_step")),
                     duration(q.get("nnc", {}).get("first_step_binary")),
                     *[duration(q.get(s, {}).get("first_step")) for s in peers]])
    out.append(table(["", "nnc", "its program", *[title[s] for s in peers]], rows))
    out.append("## Memory\n\nThe most that the process had resident.\n")
    out.append(table(["", *[title[s] for s in systems]],
                     [[WORKLOADS[r["workload"]].title,
                       *[size(r["systems"].get(s, {}).get("memory")) for s in systems]]
                      for r in some]))
    out.append("## Disk\n\nWhat has to be installed: the packages from PyPI with all they need, "
               "without Python; of `nnc` the compiler with its libraries, of which LLVM is the most. "
               "What it makes needs nothing.\n")
    rows = [[title[s], size(results["disk"][s]["bytes"])] for s in systems]
    programs = results.get("binary_bytes", {}).values()
    if programs:
        rows.append(["a training program of nnc",
                     f"{size(min(programs))} to {size(max(programs))}"])
    out.append(table(["", "size"], rows))
    failed = [f"- {WORKLOADS[r['workload']].title}{suffix(r)}, {r['threads']} threads, {title[s]}: {q[key]}"
              for r in runs for s, q in r["systems"].items() for key in ("error", "disagrees")
              if key in q]
    if failed:
        out.append("## What did not run or did not agree\n\n" + "\n".join(failed) + "\n")
    return "\n".join(out)
