"""The fault campaign: small trainings, each with random faults, and at the end one line that says how many were corrupted.

    python tests/campaign/run.py [--runs 1000] [--seed 1] [--only NUMBER] [--output build/campaign]

A run is corrupted if one of these is not so: host weights and outputs are finite; seeds that apply no blueprint leave every bit
of outputs and gradients alone, compared in each step, with a twin without the layer while there are no others; what is restored
or resumed equals the snapshot or checkpoint bit for bit; the state's invariants hold after every epoch; every accepted command is
applied or refused exactly once. And the end of a run that was killed, had damaged state arrays or a full disk equals, bit for
bit, that of a twin that was left in peace. The same seed gives the same faults; only the moments of some kills are the
machine's.

This process only forks: each run, each continuation after a kill, and each twin is a process of its own.
"""

import argparse
import collections
import ctypes
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "python"), str(ROOT / "tests" / "python")]

# All of it is imported before the first child, and nothing computed: each has threads and a library of its own.
import torch
import torch._dynamo
import training
from plan import Plan, plan

# Room for a run's checkpoint, the next one beside it, and some kernels.
_DISK_BYTES = 4 << 20
# A run takes a fraction of this; one that takes longer hangs.
_MOST_SECONDS = 120
_MOST_LIVES = 20


def in_a_child(place, plan, answer, after=None):
    """Runs a plan in a child; kills that after so many seconds, if any. Returns whether it ended by itself."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            log = os.open(f"{place}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1), os.dup2(log, 2)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if plan.has("compile"):
                os.environ["KASMINA_COMPILE_SECONDS"] = "0.002"
            training.run(plan, place, answer)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(status)
    deadline = time.monotonic() + (_MOST_SECONDS if after is None else after)
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            break
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            if after is None:
                raise TimeoutError(f"it did not end within {_MOST_SECONDS} seconds")
            break
        time.sleep(0.005)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return False
    if status != 0:
        raise RuntimeError(f"it ended with {status}")
    return True


class Disk:
    """A small file system of its own for each run's files, where one may be mounted; else a folder."""

    def __init__(self, place):
        self.place = place
        self._library = ctypes.CDLL(None, use_errno=True)
        options = f"size={_DISK_BYTES}".encode()
        self.mounted = self._library.mount(b"none", place.encode(), b"tmpfs", 0, options) == 0

    def end(self):
        if self.mounted:
            self._library.umount2(self.place.encode(), 2)


def attempt(plan, folder):
    """A run with all of its lives, and its twin. Returns what is wrong, and what was counted."""
    place, peace = os.path.join(folder, "run"), os.path.join(folder, "twin")
    os.makedirs(place), os.makedirs(peace)
    answers = [os.path.join(folder, name) for name in ("run.json", "twin.json")]
    counts, disk = collections.Counter(), Disk(place) if plan.has("disk") else None
    dice = random.Random(plan.number)
    # Where the kernels are: in the run's own file system if that fills up, and cold where compiling must fail.
    own = plan.has("disk") or plan.has("compile")
    try:
        shared = os.environ["KASMINA_CACHE_DIR"]
        if own:
            os.environ["KASMINA_CACHE_DIR"] = os.path.join(place, "kernels")
            if plan.has("compile"):
                shutil.copytree(shared, os.environ["KASMINA_CACHE_DIR"])
        kills = 2 if plan.has("kill") else 0
        for life in range(_MOST_LIVES):
            after = dice.uniform(0.02, 0.5) if life < kills else None
            if in_a_child(place, plan, answers[0], after):
                break
            counts["kills"] += 1
        os.environ["KASMINA_CACHE_DIR"] = shared
        with open(answers[0]) as file:
            result = json.load(file)
        wrong = result["wrong"]
        counts.update(result["counts"])
        if plan.has_twin():
            in_a_child(peace, plan.in_peace(), answers[1])
            with open(answers[1]) as file:
                twin = json.load(file)
            counts["ends compared with a twin"] += 1
            if twin["digest"] != result["digest"]:
                wrong.append("it does not end as its twin does, which was left in peace")
            wrong += [f"the twin: {sentence}" for sentence in twin["wrong"]]
        return wrong, counts
    except (OSError, RuntimeError, TimeoutError) as error:
        logs = [f"{path}.log" for path in (place, peace)]
        texts = [open(log).read()[-2000:] for log in logs if os.path.exists(log)]
        return [f"{error}: {' '.join(texts)}"], counts
    finally:
        os.environ["KASMINA_CACHE_DIR"] = shared
        if disk is not None:
            disk.end()


def warm(folder):
    """Fills the cache with kernels that runs share, so that they spend their time on other things."""
    for number in range(20):
        place = os.path.join(folder, f"warm-{number}")
        os.makedirs(place)
        in_a_child(place, Plan(number, []), os.path.join(folder, "warm.json"))
        shutil.rmtree(place)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="the number of the one run to do")
    parser.add_argument("--output", default=str(ROOT / "build" / "campaign"))
    arguments = parser.parse_args()
    os.makedirs(arguments.output, exist_ok=True)
    torch.set_num_threads(1)
    folder = tempfile.mkdtemp(prefix="kasmina-campaign-")
    os.environ["KASMINA_CACHE_DIR"] = os.path.join(folder, "kernels")
    warm(folder)

    numbers = range(arguments.runs) if arguments.only is None else [arguments.only]
    totals, corrupted, start = collections.Counter(), {}, time.monotonic()
    for number in numbers:
        run = plan(arguments.seed, number)
        place = os.path.join(folder, str(number))
        wrong, counts = attempt(run, place)
        totals.update(counts)
        if wrong:
            corrupted[number] = wrong
            print(f"run {number} ({', '.join(fault.kind for fault in run.faults)}): {'; '.join(wrong[:3])}", flush=True)
        shutil.rmtree(place, ignore_errors=True)
        if (number + 1) % 100 == 0:
            print(f"{number + 1} runs in {time.monotonic() - start:.0f} s, {len(corrupted)} corrupted", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    seconds = time.monotonic() - start
    report = {"seed": arguments.seed, "runs": len(numbers), "seconds": seconds, "counts": totals, "corrupted": corrupted}
    with open(os.path.join(arguments.output, "report.json"), "w") as file:
        json.dump(report, file, indent=1, sort_keys=True)
    for name, count in sorted(totals.items()):
        print(f"{count:>9} {name}")
    print(f"runs: {len(numbers)} corrupted: {len(corrupted)}")
    sys.exit(1 if corrupted else 0)


if __name__ == "__main__":
    main()
