"""The classifier of a map's pattern: a forest of trees over the features of `map_features`.

It loads from one file (safetensors); one ships with the package. The training recipe is in `fitting`.
The file is called a network, as the option and the column that name it: earlier versions had one.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from attnstore.experiments.patterns import stored_classes
from attnstore.experiments.patterns.domain import Domain
from attnstore.experiments.patterns.map_features import N_FEATURES, features
from attnstore.naming import CLASSES
from attnstore.storage.files import write_file

NODES = ("feature", "threshold", "right", "votes", "roots")
"""Tensors of the trees: see `Network`."""
_AT_ONCE = 512  # maps per pass through the trees


class Network(nn.Module):
    """Map features (n, N_FEATURES) to probabilities of five classes, in the order of CLASSES.

    The nodes of all trees are one list. A map goes from each of `roots` to the next node if its
    `feature` is at most the `threshold`, else to node `right`; a leaf's threshold is -inf and its right
    node itself. `votes` (nodes, 5) of the leaves where it ends are averaged over the trees.

    Without trees every class has the same probability. fingerprint: of the file it was loaded from,
    otherwise ''.
    """

    feature: torch.Tensor
    threshold: torch.Tensor
    right: torch.Tensor
    votes: torch.Tensor
    roots: torch.Tensor

    def __init__(self, trees: dict[str, torch.Tensor] | None = None) -> None:
        super().__init__()
        leaf = torch.zeros(1, dtype=torch.int32)
        even = torch.full((1, len(CLASSES)), 1 / len(CLASSES))
        bare = (leaf, torch.full((1,), -torch.inf), leaf, even, leaf)
        for name, tensor in (trees or dict(zip(NODES, bare, strict=True))).items():
            self.register_buffer(name, tensor.clone())
        self.domain = Domain(N_FEATURES)
        self.fingerprint = ""

    @torch.inference_mode()
    def predict(self, described: torch.Tensor) -> torch.Tensor:
        """Compute probabilities of features, (n, 5)."""
        return torch.cat([self._voted(part) for part in torch.split(described, _AT_ONCE)])

    def _voted(self, described: torch.Tensor) -> torch.Tensor:
        feature, right, roots = (x.long() for x in (self.feature, self.right, self.roots))
        node = roots.expand(len(described), -1)
        while True:
            threshold = self.threshold[node]
            if threshold.isneginf().all():
                votes = self.votes[node].float().mean(1)
                return votes / votes.sum(1, keepdim=True)  # leaves are rounded
            below = described.gather(1, feature[node]) <= threshold
            node = torch.where(below, node + 1, right[node])

    def classify(self, batches: Iterable[torch.Tensor]) -> torch.Tensor:
        """Compute probabilities of maps, (n, 5), in order; each batch is (maps, L, L) with its own L."""
        return self.look(batches)[0]

    @torch.inference_mode()
    def look(self, batches: Iterable[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute probabilities of maps, as `classify`, and their typicality (n,): see `domain`."""
        described = torch.cat([features(weights) for weights in batches])
        return self.predict(described), self.domain.typicality(described)


def write(network: Network, path: Path) -> None:
    """Write a network as a file."""
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    write_file(path, save(tensors, stored_classes.FORMAT))


def load(path: str | Path | None = None) -> Network:
    """Load a network file, by default the one that ships with the package. Raises UsageError."""
    network_file = stored_classes.file(path)
    fingerprint = stored_classes.fingerprint(network_file)
    try:
        with safe_open(network_file, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        network = Network({name: tensors[name] for name in NODES})
        network.load_state_dict(tensors)
    except (OSError, SafetensorError, RuntimeError, KeyError) as error:
        raise stored_classes.unreadable(network_file, error) from error
    network.fingerprint = fingerprint
    return network.eval()
