"""Kasmina's CPU backend beside eager torch and torch.compile, on one machine and in one run.

    python benches/cpu/compare.py [--cut N] [--repetitions N] [--threads 1 2] [--only transformer]

For each number of threads a process of its own runs all contestants in turn: each repetition calls every one of them
once, in random order, on inputs it has not just seen. Before that, the outputs and gradients of all of them are
compared with the same computation in f64. Writes build/bench/cpu.json and build/bench/cpu.png and prints a table.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

OUTPUT = Path(__file__).parents[2] / "build" / "bench"
BEST = "torch.compile"


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--cut", type=int, default=4, help="divides the rows of every workload (at least 16 stay)")
    options.add_argument("--repetitions", type=int, default=15)
    options.add_argument("--threads", type=int, nargs="+", default=sorted({1, min(2, os.cpu_count() or 1)}))
    options.add_argument("--only", nargs="+", help="names of workloads")
    options.add_argument("--contestant", action="store_true", help=argparse.SUPPRESS)
    options = options.parse_args()
    if options.contestant:
        print(json.dumps(measure(options)))
        return
    results = []
    for threads in options.threads:
        arguments = [*sys.argv[1:], "--contestant", "--threads", str(threads)]
        environment = {**os.environ, "KASMINA_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, __file__, *arguments]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"the run with {threads} threads failed")
        results += json.loads(done.stdout)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    about = {"processor": processor(), "torch": torch.__version__, "cut": options.cut, "results": results}
    (OUTPUT / "cpu.json").write_text(json.dumps(about, indent=1))
    print(f"{about['processor']}, torch {about['torch']}\n\n{table(results)}")
    draw(about, OUTPUT / "cpu.png")


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


def measure(options):
    """All workloads with one number of threads: a list of records."""
    from contest.correctness import PASSES
    from contest.grown import Kasmina
    from contest.plain import Torch, gathering, masking
    from contest.workloads import WORKLOADS, Problem

    (threads,) = options.threads
    torch.set_num_threads(threads)
    records = []
    for workload in WORKLOADS:
        if options.only and workload.name not in options.only:
            continue
        workload = workload.cut(options.cut)
        torch.manual_seed(0)
        torch.compiler.reset()
        problem = Problem(workload)
        contestants = {
            "kasmina": Kasmina(problem),
            "eager": Torch(gathering, problem),
            "compiled, gathering": Torch(gathering, problem, mode="default"),
            "compiled, masking": Torch(masking, problem, mode="default"),
        }
        *inputs, gradient = problem.rows(5)
        errors = compare(contestants, problem, inputs[0], gradient)
        for name, run in PASSES.items():
            milliseconds = time_all(contestants, run, inputs, gradient, options.repetitions)
            record = {
                "workload": workload.name,
                "rows": workload.rows,
                "hidden": workload.hidden,
                "seeds": workload.seeds,
                "type": workload.data_type,
                "threads": threads,
                "pass": name,
                "milliseconds": milliseconds,
                "largest_error": errors,
            }
            records.append(record)
            print(table([record]).splitlines()[-1], file=sys.stderr, flush=True)
    return records


def compare(contestants, problem, x, gradient):
    """The largest error of each contestant; fails if one is out of bounds."""
    from contest.correctness import Wrong, largest_error, reference

    wanted, errors = reference(problem, x, gradient), {}
    for name, contestant in contestants.items():
        try:
            errors[name] = largest_error(contestant, wanted, x, gradient)
        except Wrong as wrong:
            sys.exit(f"{name} is wrong: {wrong}")
    return errors


def time_all(contestants, run, inputs, gradient, repetitions):
    """Median and least milliseconds of each contestant."""
    order = list(contestants)
    times = {name: [] for name in order}
    for repetition in range(repetitions + 2):
        random.shuffle(order)
        for position, name in enumerate(order):
            x = inputs[(repetition * len(order) + position) % len(inputs)]
            start = time.perf_counter()
            result = run(contestants[name], x, gradient)
            elapsed = time.perf_counter() - start
            del result
            # The first two warm up.
            if repetition >= 2:
                times[name].append(elapsed * 1e3)
    return {name: {"median": statistics.median(all), "least": min(all)} for name, all in times.items()}


def best_compiled(record, kind):
    """The faster of the two ways to write the layer for torch.compile."""
    return min(value[kind] for name, value in record["milliseconds"].items() if name.startswith("compiled"))


def table(records):
    lines = [
        "| workload | threads | pass | kasmina ms | eager | torch.compile | times as fast (median) | (least) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for record in records:
        ours, eager = (record["milliseconds"][name] for name in ("kasmina", "eager"))
        best = {kind: best_compiled(record, kind) for kind in ("median", "least")}
        lines.append(
            f"| {record['workload']} {record['rows']}x{record['hidden']} {record['type']} | {record['threads']} "
            f"| {record['pass']} | {ours['median']:.2f} | {eager['median']:.2f} | {best['median']:.2f} "
            f"| {best['median'] / ours['median']:.2f} | {best['least'] / ours['least']:.2f} |"
        )
    return "\n".join(lines)


def draw(about, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    records = about["results"]
    threads = sorted({record["threads"] for record in records})
    figure, axes = plt.subplots(1, len(threads), figsize=(6.5 * len(threads), 5), squeeze=False, layout="constrained")
    for axis, count in zip(axes[0], threads):
        own = [record for record in records if record["threads"] == count]
        bars = {
            "eager": [r["milliseconds"]["eager"]["median"] / r["milliseconds"]["kasmina"]["median"] for r in own],
            BEST: [best_compiled(r, "median") / r["milliseconds"]["kasmina"]["median"] for r in own],
        }
        for offset, (name, ratios) in enumerate(bars.items()):
            places = [position + 0.4 * offset - 0.2 for position in range(len(own))]
            axis.bar_label(axis.bar(places, ratios, 0.38, label=name), fmt="%.1f", fontsize=8)
        short = {"forward": "fwd", "forward and backward": "fwd+bwd"}
        axis.set_xticks(range(len(own)), [f"{r['workload']}\n{short[r['pass']]}" for r in own], fontsize=7, rotation=45)
        axis.axhline(1, color="black", linewidth=1)
        axis.set_title(f"{count} thread{'s' if count > 1 else ''}")
        axis.set_ylabel("time relative to Kasmina's")
        axis.legend()
    figure.suptitle(f"The layer on {about['processor']}, torch {about['torch']}")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
