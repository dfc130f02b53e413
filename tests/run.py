"""Runs the suites (all of them, or those named) and counts what passed.

Each suite's output is shown as it comes and kept in build/test/<suite>.log. A suite that ends badly without saying how
many of its tests failed (it did not compile, say) counts as one failure.
"""

import os
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
LOGS = ROOT / "build" / "test"
C_FILES = "git ls-files '*.c' '*.cpp' '*.hpp'"

# Each suite: its commands, and the pattern of the lines that count, with groups `passed` and `failed`.
SUITES = {
    "format": (["cargo fmt --check", f"{C_FILES} | xargs -r clang-format --dry-run -Werror"], None),
    "lint": (["cargo clippy --all-targets --quiet -- -D warnings"], None),
    "rust": (["cargo test --no-fail-fast"], r"^test result: \S+ (?P<passed>\d+) passed; (?P<failed>\d+) failed"),
    "c": (
        ["ctest --test-dir build/cmake --output-on-failure"],
        r"\d+% tests passed(?:, (?P<failed>\d+) tests failed)? out of (?P<total>\d+)",
    ),
    "python": (
        [f"{sys.executable} -m pytest tests/python --quiet -p no:cacheprovider"],
        r"^(?:=+ )?(?:(?P<failed>\d+) failed, )?(?P<passed>\d+) passed|^(?:=+ )?(?P<only_failed>\d+) failed",
    ),
}


def run(name):
    """Runs one suite; returns how many passed, how many failed, and the seconds it took."""
    commands, pattern = SUITES[name]
    passed = failed = 0
    start = time.monotonic()
    with open(LOGS / f"{name}.log", "w") as log:
        for command in commands:
            print(f"\n--- {name}: {command}", flush=True)
            process = subprocess.Popen(
                ["bash", "-o", "pipefail", "-c", command],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
            counted_failures = 0
            for line in process.stdout:
                print(line, end="", flush=True)
                log.write(line)
                found = pattern and re.search(pattern, line)
                if found:
                    counts = {key: int(value) for key, value in found.groupdict().items() if value}
                    bad = counts.get("failed", counts.get("only_failed", 0))
                    counted_failures += bad
                    passed += counts.get("passed", counts.get("total", bad) - bad)
            ended_well = process.wait() == 0
            failed += counted_failures or (0 if ended_well else 1)
            if pattern is None and ended_well:
                passed += 1
    return passed, failed, time.monotonic() - start


def main():
    names = sys.argv[1:] or list(SUITES)
    for name in names:
        if name not in SUITES:
            sys.exit(f"there is no suite {name!r}; the suites are {', '.join(SUITES)}")
    LOGS.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("CARGO_TERM_COLOR", "never")
    results = {name: run(name) for name in names}

    print(f"\n{'suite':<10}{'passed':>8}{'failed':>8}{'seconds':>9}")
    for name, (passed, failed, seconds) in results.items():
        print(f"{name:<10}{passed:>8}{failed:>8}{seconds:>9.1f}")
    passed = sum(result[0] for result in results.values())
    failed = sum(result[1] for result in results.values())
    print(f"\n{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
