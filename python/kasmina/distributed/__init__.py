"""Data-parallel training: every rank of `torch.distributed` has a replica of a layer, and all stay the same.

`DistributedDataParallel` averages the gradients, and so keeps the parameters that train on the main loss alike.
`Replicas` does the same for everything else a layer has: commands, telemetry, isolated training, kernels, rollbacks,
snapshots, the time. What cannot be done alike on every rank is an error on every rank.
"""

from .ranks import RankLost, RanksDisagree
from .replicas import Replicas, ReplicaSnapshot

__all__ = ["RankLost", "RanksDisagree", "Replicas", "ReplicaSnapshot"]
