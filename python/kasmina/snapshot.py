"""Going back: snapshots of layers, of any tensors and of a whole training, and the guard that restores them when the loss
says so. All of it stays on the tensors' own devices, in memory that is allocated once.
"""

import copy
import ctypes

import torch

from . import _native
from .optimizer import is_bank


class Snapshot:
    """A layer as it was: what `Layer.snapshot` gives and `Layer.restore` takes. It belongs to that layer."""

    def __init__(self, owner):
        self._owner = owner

    @property
    def epoch(self):
        """Epochs that had ended when it was taken."""
        return self._info().epoch

    @property
    def bytes(self):
        """Bytes of device memory that it occupies."""
        return self._info().bytes

    @property
    def handle(self):
        """What the C ABI takes."""
        return self._owner.handle

    def _info(self):
        info = _native.SnapshotInfo(struct_size=ctypes.sizeof(_native.SnapshotInfo))
        _native.call("kasmina_snapshot_get_info", self.handle, ctypes.byref(info))
        return info

    def __repr__(self):
        return f"kasmina.Snapshot(epoch={self.epoch}, bytes={self.bytes})"


class TensorSnapshot:
    """Copies of tensors, such as the parameters, buffers and optimiser state of a host network, each on its own device.

    They are allocated and taken now; `take` takes them anew and `restore` writes them back, without allocating anything. A
    tensor that has got another shape, type or device since is refused before anything is written.
    """

    def __init__(self, tensors):
        self._tensors = list(tensors)
        self._copies = [tensor.detach().clone() for tensor in self._tensors]

    @torch.no_grad()
    def take(self):
        """Copies the tensors as they are after what is queued on the current streams."""
        self._check()
        for kept, tensor in zip(self._copies, self._tensors):
            kept.copy_(tensor)

    @torch.no_grad()
    def restore(self):
        """Writes the copies back into the tensors."""
        self._check()
        for kept, tensor in zip(self._copies, self._tensors):
            tensor.copy_(kept)

    def is_of(self, tensors):
        """Whether it is of these very tensors, and fits them still."""
        same = len(tensors) == len(self._tensors) and all(ours is theirs for ours, theirs in zip(self._tensors, tensors))
        return same and all(_layout(kept) == _layout(tensor) for kept, tensor in zip(self._copies, tensors))

    def _check(self):
        for index, (kept, tensor) in enumerate(zip(self._copies, self._tensors)):
            if _layout(kept) != _layout(tensor):
                raise ValueError(
                    f"kasmina: tensor {index} of the snapshot was {_layout(kept)} and is {_layout(tensor)} by now; make "
                    "another snapshot"
                )


class TrainingSnapshot:
    """Everything that a training step changes: the Kasmina layers in a module, its other parameters and buffers, and the
    state and the settings of its optimisers (with what these have made since they began).

    It is taken now; `take` takes it anew, allocating only if there are other tensors than before, and `restore` puts it all
    back.
    Gradients, learning rate schedules and random number generators are not part of it.
    """

    def __init__(self, module, *optimizers):
        self._module, self._optimizers = module, optimizers
        self._layers, self._tensors, self._states = {}, None, []
        self.take()

    def take(self):
        """Takes it as it is after what is queued on the current streams."""
        self._layers = {layer: _taken(layer, self._layers.get(layer)) for layer in _layers(self._module)}
        tensors = [p for p in self._module.parameters() if not is_bank(p)] + list(self._module.buffers())
        self._states = [_optimizer_state(optimizer, tensors) for optimizer in self._optimizers]
        if self._tensors is None or not self._tensors.is_of(tensors):
            self._tensors = TensorSnapshot(tensors)
        else:
            self._tensors.take()

    def restore(self, reason=""):
        """Puts everything back; `reason` is for the layers' records. Returns what `Layer.restore` does, for each layer."""
        restored = [layer.restore(snapshot, reason) for layer, snapshot in self._layers.items()]
        for optimizer, (state, groups) in zip(self._optimizers, self._states):
            optimizer.state.clear()
            optimizer.state.update(_containers(state))
            for group, kept in zip(optimizer.param_groups, groups):
                group.update(_containers(kept))
        self._tensors.restore()
        return restored


class LossGuard:
    """Puts a training back when its loss is not finite or spikes.

        guard = kasmina.LossGuard(model, optimizer)
        for x, y in batches:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            if reason := guard.observe(loss):
                continue  # the weights are those of the last snapshot; the guard says why
            loss.backward()
            optimizer.step()

    A loss spikes if it is above the running mean of the accepted ones (of which `decay` stays from one to the next) by
    more than `deviations` standard deviations and by more than the fraction `rise` of the mean, once `warm_up` of them were
    accepted. At the first accepted loss and every `every` further ones the guard takes a `TrainingSnapshot` of the weights
    that gave this loss. If it restores one snapshot more than `attempts` times, the same is bound to happen again, and it
    raises a RuntimeError.

    Where several processes train one model, give every one of them the same loss (its mean over the processes): they then
    restore at the same step. Reading the loss waits for the device; `observe` need not be called in each step.
    """

    def __init__(
        self, module, *optimizers, every=100, attempts=3, deviations=6.0, rise=0.5, decay=0.9, warm_up=10
    ):
        thresholds = {"deviations": deviations, "rise": rise, "decay": decay, "warm_up": warm_up}
        for name, value in {**thresholds, "every": every, "attempts": attempts}.items():
            if value <= 0:
                raise ValueError(f"kasmina: {name} of a loss guard is {value}; it must be above 0")
        self._guard = _native.LossGuard(struct_size=ctypes.sizeof(_native.LossGuard), **thresholds)
        self._module, self._optimizers = module, optimizers
        self._every, self._attempts = every, attempts
        self._snapshot, self._since, self._restores = None, 0, 0

    def observe(self, loss):
        """Judges a loss before its backward pass. None if it is to be trained on; else everything is as it was at the last
        snapshot, gradients are cleared, and the reason is returned: go on with the next step.
        """
        loss = float(loss.detach()) if torch.is_tensor(loss) else float(loss)
        reason = _native.take_text("kasmina_loss_guard_judge", ctypes.byref(self._guard), loss)
        if reason is None:
            if self._snapshot is None or self._since >= self._every:
                self.take()
            self._since += 1
            return None
        if self._snapshot is None:
            raise RuntimeError(f"kasmina: {reason}, and no loss was accepted before, so there is nothing to restore")
        self._restores += 1
        if self._restores > self._attempts:
            raise RuntimeError(
                f"kasmina: {reason}; the last snapshot was restored {self._attempts} times without a way past this. "
                "Change something, such as the learning rate or the data, and begin with a new guard"
            )
        self._snapshot.restore(reason)
        for optimizer in self._optimizers:
            optimizer.zero_grad()
        return reason

    def take(self):
        """Takes a snapshot now, such as at the end of an epoch: of weights that gave an accepted loss."""
        if self._snapshot is None:
            self._snapshot = TrainingSnapshot(self._module, *self._optimizers)
        else:
            self._snapshot.take()
        self._since = self._restores = 0


def _layout(tensor):
    return tuple(tensor.shape), tensor.dtype, tensor.device


def _layers(module):
    from .layer import Layer

    return [layer for layer in module.modules() if isinstance(layer, Layer)]


def _taken(layer, snapshot):
    """The layer's snapshot, in the memory of an earlier one if that still fits."""
    try:
        return layer.snapshot(into=snapshot)
    except _native.SnapshotMismatch:
        return layer.snapshot()


def _optimizer_state(optimizer, tensors):
    """State and settings of an optimiser; its tensors stay what they are and are added to `tensors`."""
    settings = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    return _containers(optimizer.state, tensors), _containers(settings, tensors)


def _containers(value, tensors=None):
    """The same value with its own containers and numbers, but the very same tensors, which are added to a list."""
    if torch.is_tensor(value):
        if tensors is not None:
            tensors.append(value)
        return value
    if isinstance(value, dict):
        return {key: _containers(entry, tensors) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_containers(entry, tensors) for entry in value)
    return copy.deepcopy(value)
