"""How near to a tuned kernel one comes by beginning where a similar graph ended.

    python benches/gpu/similarity.py [--device cuda] [--count 200] [--seconds 5] [--jobs 12]

Tunes the forward kernel of random graphs, then takes each of them as if nothing were known of it but the others: what its
neighbours' tilings (similarity at least 0.8) give without any search, against what the search found. The goal: within 10 %
in at least 80 % of the cases. The planner's own tiling is judged in the same way, beside it. Several graphs are tuned at once:
they compile side by side, and `kasmina tune` times one after the other.

Writes build/bench/similarity.json and keeps what was measured in build/bench/similarity.sqlite, so a run that was stopped
goes on. The graphs are those of `cargo run --example random_blueprints`, or of --graphs, a file with one in each line.
"""

import argparse
import concurrent.futures
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from compare import OUTPUT, ROOT, commit

NEAR, GOAL = 1.10, 0.8
PROGRAM = ROOT / "build" / "bin" / "kasmina"


def graphs(arguments):
    if arguments.graphs:
        lines = Path(arguments.graphs).read_text().splitlines()
    else:
        command = ["cargo", "run", "--release", "--quiet", "--example", "random_blueprints", "--"]
        command += ["--count", str(arguments.count)]
        lines = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return lines[: arguments.count]


def tune(graph, seconds, arguments):
    """What tuning the forward kernel of a graph for so long comes to; None if it cannot run at all."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(graph)
        file.flush()
        command = [PROGRAM, "tune", file.name, "--pass", "forward", "--dtype", "f32", "--json"]
        command += ["--rows", str(arguments.rows), "--seeds", str(arguments.seeds)]
        command += ["--device", arguments.device, "--seconds", str(seconds)]
        environment = {**os.environ, "KASMINA_TUNING_DB": str(OUTPUT / "similarity.sqlite")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        print(f"left out: {done.stderr.strip()}", file=sys.stderr)
        return None
    return json.loads(done.stdout)[0]


def each(items, what, jobs, run):
    """Runs for each item, so many at once, and says every two seconds how far it is. Returns the results in order."""
    told = begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        tasks = [pool.submit(run, item) for item in items]
        for number, _ in enumerate(concurrent.futures.as_completed(tasks), 1):
            if time.monotonic() - told > 2:
                told = time.monotonic()
                left = (told - begun) / number * (len(items) - number)
                print(f"{what}: {number} of {len(items)}, {left:.0f} s left", flush=True)
    return [task.result() for task in tasks]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda (default) or cpu")
    parser.add_argument("--count", type=int, default=200, help="how many graphs (200)")
    parser.add_argument("--graphs", help="a file with a graph in each line")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to search for each graph (5)")
    parser.add_argument("--jobs", type=int, default=max(1, 3 * (os.cpu_count() or 1) // 4), help="graphs tuned at once")
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--seeds", type=int, default=64)
    arguments = parser.parse_args()
    OUTPUT.mkdir(parents=True, exist_ok=True)

    found = graphs(arguments)
    tuned = each(found, "tuned", arguments.jobs, lambda graph: tune(graph, arguments.seconds, arguments))
    cases = [(graph, result) for graph, result in zip(found, tuned) if result]
    begun = each(cases, "begun at neighbours", arguments.jobs, lambda case: tune(case[0], 0, arguments))
    results = []
    for (_, full), start in zip(cases, begun):
        if start:
            results.append(
                {
                    "tuned": min(full["best"]["seconds"], start["best"]["seconds"]),
                    "begun": start["best"]["seconds"],
                    "planned": start["planned"]["seconds"],
                    "had_neighbours": start["known"] + start["timed"] > 1,
                    "finished": full["finished"],
                }
            )
    if not results:
        sys.exit("no graph could be tuned")

    def near(which, cases):
        return sum(case[which] <= NEAR * case["tuned"] for case in cases) / max(len(cases), 1)

    summary = {
        "graphs": len(results),
        "had_neighbours": sum(case["had_neighbours"] for case in results),
        "finished": sum(case["finished"] for case in results),
        "near_of_begun": near("begun", results),
        "near_of_planned": near("planned", results),
    }
    print(f"{summary['graphs']} graphs, {summary['finished']} of them searched to the end")
    print(f"{summary['had_neighbours']} have neighbours whose tiling is another than the planner's")
    print(f"within 10 % of the tuned time: {summary['near_of_begun']:.1%} where neighbours ended")
    print(f"                               {summary['near_of_planned']:.1%} as planned")
    kept = summary["near_of_begun"] >= GOAL
    print(f"goal of {GOAL:.0%}: {'kept' if kept else 'MISSED'}" if arguments.device != "cpu" else "not judged on the CPU")
    path = OUTPUT / "similarity.json"
    path.write_text(json.dumps({"device": arguments.device, "commit": commit(), **summary, "cases": results}, indent=2))
    print(f"wrote {path}")
    sys.exit(not kept and arguments.device != "cpu")


if __name__ == "__main__":
    main()
