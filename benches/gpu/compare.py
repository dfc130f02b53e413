"""Kasmina's CUDA backend beside what a torch user would pick instead, on one device and in one run.

    python benches/gpu/compare.py [--only transformer mixed] [--quick] [--device cpu --cut 512]

A process for each comparison sets its contestants up, compiles them and holds their outputs and gradients against f64,
all at once; what compiles for long is compiled in processes of its own before, into the caches. Then the comparisons
have the device to themselves, one after the other. Writes build/bench/gpu.json and build/bench/gpu.png and prints
tables. `--device cpu` tries all of it where there is no device; its times mean nothing.
"""

import argparse
import concurrent.futures
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

ROOT = Path(__file__).parents[2]
OUTPUT = ROOT / "build" / "bench"
LOGS = OUTPUT / "gpu"
# Seconds after which a process is given up.
LIMIT = 240


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", nargs="+", help="names of comparisons")
    options.add_argument("--quick", action="store_true", help="Kasmina and torch.compile alone, fewer repetitions")
    options.add_argument("--device", default="cuda")
    options.add_argument("--cut", type=int, default=1, help="divides the rows of every workload (at least 16 stay)")
    options.add_argument("--prepare", nargs="+", help=argparse.SUPPRESS)
    options.add_argument("--measure", help=argparse.SUPPRESS)
    options = options.parse_args()
    if options.device == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"
    if options.prepare or options.measure:
        return (prepare if options.prepare else measure)(options)
    about = compare(options)
    report(about)


def comparisons():
    from host import HOST
    from layers import COMPARISONS
    from training_step import PARTS

    return {**COMPARISONS, **PARTS, **HOST}


# In a process of its own.


def prepare(options):
    name, *contestants = options.prepare
    comparisons()[name].prepare(options, contestants)


def measure(options):
    """Writes `ready`, waits for a line, and writes records as JSON, a line each."""
    # Whatever else is printed goes to the log.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def ready():
        if options.device != "cpu":
            import torch

            torch.cuda.empty_cache()
        answers.write("ready\n")
        if not sys.stdin.readline():
            sys.exit("nobody waits for the records any more")

    for record in comparisons()[options.measure].run(options, ready):
        answers.write(json.dumps(record) + "\n")


# In the process that was called.


def compare(options):
    import torch
    from floors import goals

    all_comparisons = comparisons()
    unknown = set(options.only or ()) - set(all_comparisons)
    if unknown:
        sys.exit(f"there is no comparison {', '.join(sorted(unknown))}; there are {', '.join(all_comparisons)}")
    names = [name for name in all_comparisons if not options.only or name in options.only]
    LOGS.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()

    def say(text):
        print(f"[{time.monotonic() - start:4.0f} s] {text}", file=sys.stderr, flush=True)

    about = {
        "device": torch.cuda.get_device_name() if options.device != "cpu" else "cpu",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "commit": commit(),
        "cut": options.cut,
        "quick": options.quick,
        "results": [],
    }
    for record in measure_all({name: all_comparisons[name].to_prepare(options) for name in names}, say):
        record["goals"] = goals(record) if "contestants" in record else []
        about["results"].append(record)
        about["seconds"] = time.monotonic() - start
        # Every time, so that a run that is cut short leaves what it has.
        (OUTPUT / "gpu.json").write_text(json.dumps(about, indent=1))
    return about


def commit():
    """Of the repository; where it was carried to a machine without one, KASMINA_COMMIT may say it."""
    if told := os.environ.get("KASMINA_COMMIT"):
        return told
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None


def measure_all(to_prepare, say):
    """Sets all comparisons up side by side, and lets one after the other have the device once all are ready.

    `to_prepare[name]` are lists of contestants that are compiled before, each list in a process of its own.
    """
    from tables import line

    processors = os.cpu_count() or 1
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(max(processors // 4, 1)))
    with concurrent.futures.ThreadPoolExecutor(processors) as pool:
        tasks = {
            name: [pool.submit(prepare_apart, name, contestants, say) for contestants in lists]
            for name, lists in to_prepare.items()
        }

        def set_up(name):
            concurrent.futures.wait(tasks[name])
            child = Child(name)
            say(f"{name} is ready" if child.wait_until_ready() else f"{name} failed")
            return child

        with concurrent.futures.ThreadPoolExecutor(len(to_prepare)) as waiting:
            children = dict(zip(to_prepare, waiting.map(set_up, to_prepare)))
    for name, child in children.items():
        for record in child.records():
            say(line(record) if "contestants" in record else f"{name}: {record['failed']}")
            yield record


def prepare_apart(name, contestants, say):
    """Fills the caches of compilers. What fails here fails again where it is measured, and is reported there."""
    label = f"{name}: {'; '.join(contestants)}"
    with open(LOGS / f"prepare {label}.log", "w") as log:
        command = [sys.executable, __file__, *sys.argv[1:], "--prepare", name, *contestants]
        try:
            done = subprocess.run(command, stdout=log, stderr=log, timeout=LIMIT).returncode == 0
        except subprocess.TimeoutExpired:
            done = False
    say(f"prepared {label}" if done else f"could not prepare {label}")


class Child:
    """The process of one comparison."""

    def __init__(self, name):
        self.name, self.log = name, LOGS / f"{name}.log"
        command = [sys.executable, __file__, *sys.argv[1:], "--measure", name]
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self._limit()

    def _limit(self):
        self.timer = threading.Timer(LIMIT, self.process.kill)
        self.timer.daemon = True
        self.timer.start()

    def wait_until_ready(self):
        self.is_ready = self.process.stdout.readline() == "ready\n"
        self.timer.cancel()
        return self.is_ready

    def records(self):
        """Lets it measure. If it ends badly, the last record says so."""
        self._limit()
        if self.is_ready:
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
            yield from map(json.loads, self.process.stdout)
        status = self.process.wait()
        self.timer.cancel()
        if status:
            last = [text for text in self.log.read_text(errors="replace").splitlines() if text.strip()][-1:]
            yield {"work": self.name, "failed": f"ended with status {status}: {''.join(last)} (see {self.log})"}


def report(about):
    from tables import draw, goal_table, peer_table, time_table

    whole = [record for record in about["results"] if "contestants" in record]
    title = (
        f"{about['device']}, torch {about['torch']}, commit {about['commit'] or 'unknown'}, {about['seconds']:.0f} s"
    )
    print("\n\n".join([title, time_table(whole), peer_table(whole), goal_table(whole)]))
    for record in about["results"]:
        if "failed" in record:
            print(f"\n{record['work']} failed: {record['failed']}")
    draw({**about, "results": whole}, OUTPUT / "gpu.png")


if __name__ == "__main__":
    main()
