#!/usr/bin/env bash
# One command for a machine with a CUDA device: kernels against the CPU's, the layer tests, and the digits example.
#
# Needs Python with torch, pytest, scikit-learn and matplotlib (the repository's .venv, if it is there, else python3), and
# the built libraries in build/lib. Where there is no cargo, build on another machine (`make build`, and README.md beside
# this file for the first part) and carry build/lib, build/gpu-tests and build/random-graphs.jsonl along.
set -euo pipefail
cd "$(dirname "$0")/../.."

python=python3
if [ -x .venv/bin/python ]; then python=.venv/bin/python; fi
export PYTHONPATH=python${PYTHONPATH:+:$PYTHONPATH}

$python - <<'CHECK'
import importlib.util, sys
missing = [name for name in ("torch", "pytest", "sklearn", "matplotlib") if importlib.util.find_spec(name) is None]
if missing:
    sys.exit(f"{sys.executable} lacks {', '.join(missing)}: install them, or run `make build` for a .venv that has them")
import torch
if not torch.cuda.is_available():
    sys.exit("torch sees no CUDA device")
print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}")
CHECK

if [ -x build/gpu-tests ]; then
    KASMINA_TEST_GPU=1 build/gpu-tests
elif command -v cargo >/dev/null; then
    KASMINA_TEST_GPU=1 cargo test --test gpu
else
    echo "no cargo and no build/gpu-tests: kernels are not compared with the CPU's"
fi
graphs=()
if [ -f build/random-graphs.jsonl ]; then
    graphs=(--graphs build/random-graphs.jsonl)
elif ! command -v cargo >/dev/null; then
    echo "no cargo and no build/random-graphs.jsonl: random graphs are not compared with torch"
    graphs=(--ignore tests/python/test_random_graphs.py)
fi
$python -m pytest tests/python --device cuda --quiet -p no:cacheprovider "${graphs[@]}"
$python examples/digits/train.py --device cuda --output build/demo-cuda "$@"
