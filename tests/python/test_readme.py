"""The examples in the README and in docs/python.md run as they stand."""

import pathlib
import re

import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_the_example_in_the_readme_runs(capsys):
    run_examples("README.md", 1)
    assert capsys.readouterr().out == "['DORMANT', 'DORMANT', 'STABILIZATION', 'DORMANT']\n"


def test_the_examples_about_modules_run():
    names = run_examples("docs/python.md", 4)
    layer, adapter = names["layer"], names["blueprint"].initial_values()
    assert layer.bank_0[layer.array("slot")[2]].tolist() == torch.tensor(adapter).tolist()
    assert names["y"].shape == (8, 32) and names["module"].w1.shape == (8, 32)
    assert names["result"] is names["rows"] and names["passed"] is names["features"]


def run_examples(page, count):
    """Runs the examples of a page one after the other and returns the names they define."""
    examples = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert len(examples) == count
    names = {"__name__": "example"}
    for example in examples:
        exec(compile(example, page, "exec"), names)
    return names
