"""Lets a neural network grow while it trains.

`Layer` goes behind any layer of a model. Its channels are cut into chunks, and each chunk has a seed that can be given
a `Blueprint`, trains it in isolation, blends it into the network, and keeps or drops it. `AdamW` updates the parameters
of seeds; `split_parameters` says which of a model's parameters these are. `from_module` makes a blueprint of a torch
module, `to_module` a torch module of a blueprint. `Layer.snapshot` and `Layer.restore` go back to how a layer was, `TrainingSnapshot` does it for a
whole training, and `LossGuard` when the loss says so.
"""

from ._native import Error, ErrorClass, SnapshotMismatch, TransitionRefused, statistics
from .blueprint import Blueprint
from .importer import UnsupportedModule, from_module
from .layer import Action, Command, Layer, Lifecycle, Strategy
from .optimizer import AdamW, split_parameters
from .reference import to_module
from .snapshot import LossGuard, Snapshot, TensorSnapshot, TrainingSnapshot

__all__ = [
    "Action",
    "AdamW",
    "Blueprint",
    "Command",
    "Error",
    "ErrorClass",
    "Layer",
    "Lifecycle",
    "LossGuard",
    "Snapshot",
    "SnapshotMismatch",
    "Strategy",
    "TensorSnapshot",
    "TrainingSnapshot",
    "TransitionRefused",
    "UnsupportedModule",
    "from_module",
    "split_parameters",
    "statistics",
    "to_module",
]
