"""The network that classifies a map's pattern: eight convolutions with ReLU, pooling, a small head.

It loads from one file of weights (safetensors); one ships with the package. The training recipe is
in `fitting`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from attnstore.experiments.patterns import stored_classes
from attnstore.experiments.patterns.domain import Domain
from attnstore.experiments.patterns.map_images import CHANNELS, pictures
from attnstore.naming import CLASSES
from attnstore.storage.files import write_file

LAYERS = ((16, 2), (16, 1), (24, 2), (24, 1), (32, 2), (32, 1), (48, 1), (48, 1))
"""Width and stride of each of the eight convolutional layers."""
FEATURES = 2 * LAYERS[-1][0]
"""Features per picture: mean and maximum of each plane of the last layer."""
_HIDDEN, _DROPOUT = 64, 0.3
_AT_ONCE = 256  # pictures per pass, fixed: another size recompiles the convolutions


class Network(nn.Module):
    """Map pictures (n, channels, SIDE, SIDE) to five logits, in the order of CLASSES.

    normed: add batch normalization after each convolution, for training; `fused` folds it into
    the convolutions. fingerprint: of the file it was loaded from, otherwise ''.
    """

    mean: torch.Tensor
    spread: torch.Tensor

    def __init__(self, normed: bool = False) -> None:
        super().__init__()
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d if normed else lambda _: nn.Identity()
        steps: list[nn.Module] = []
        before = len(CHANNELS)
        for width, stride in LAYERS:
            steps += [nn.Conv2d(before, width, 3, stride, 1), norm(width), nn.ReLU()]
            before = width
        self.layers = nn.Sequential(*steps)
        self.head = nn.Sequential(
            nn.Linear(FEATURES, _HIDDEN), nn.ReLU(), nn.Dropout(_DROPOUT),
            nn.Linear(_HIDDEN, len(CLASSES)),
        )  # fmt: skip
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("spread", torch.ones(FEATURES))
        self.domain = Domain(FEATURES)
        self.fingerprint = ""

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the pooled outputs of the convolutions, (n, FEATURES)."""
        planes = self.layers(images)
        return torch.cat([planes.mean((2, 3)), planes.amax((2, 3))], 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute logits, (n, 5)."""
        return self._logits(self.features(images))

    def _logits(self, features: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head((features - self.mean) / self.spread)
        return logits

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        """Compute probabilities of pictures, (n, 5), in eval mode."""
        return self._seen(images)[0]

    @torch.inference_mode()
    def _seen(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute probabilities (n, 5) and typicality (n,) of pictures, in eval mode."""
        self.eval()
        found = []
        for part in torch.split(images, _AT_ONCE):
            features = self.features(_filled(part))[: len(part)]
            found.append((self._logits(features).softmax(1), self.domain.typicality(features)))
        probabilities, typicality = zip(*found, strict=True)
        return torch.cat(probabilities), torch.cat(typicality)

    def classify(self, batches: Iterable[torch.Tensor]) -> torch.Tensor:
        """Compute probabilities of maps, (n, 5), in order; each batch is (maps, L, L) with its own L."""
        return self.look(batches)[0]

    @torch.inference_mode()
    def look(self, batches: Iterable[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute probabilities of maps, as `classify`, and their typicality (n,): see `domain`."""
        found, waiting, n = [], [], 0
        for weights in batches:
            waiting.append(pictures(weights))
            n += len(weights)
            if n >= _AT_ONCE:
                images = torch.cat(waiting)
                whole = n - n % _AT_ONCE
                found.append(self._seen(images[:whole]))
                waiting, n = [images[whole:]], n - whole
        if n:
            found.append(self._seen(torch.cat(waiting)))
        probabilities, typicality = zip(*found, strict=True)
        return torch.cat(probabilities), torch.cat(typicality)

    def fused(self) -> Network:
        """Return an equivalent network without batch normalization."""
        plain = Network()
        self.eval()
        for i in range(0, len(self.layers), 3):
            plain.layers[i] = nn.utils.fuse_conv_bn_eval(self.layers[i], self.layers[i + 1])  # type: ignore[type-var, arg-type]
        plain.head.load_state_dict(self.head.state_dict())
        plain.mean.copy_(self.mean)
        plain.spread.copy_(self.spread)
        plain.domain.load_state_dict(self.domain.state_dict())
        return plain.eval()


def _filled(images: torch.Tensor) -> torch.Tensor:
    """Pad with black pictures to a full pass."""
    return nn.functional.pad(images, (0, 0, 0, 0, 0, 0, 0, _AT_ONCE - len(images)))


def write(network: Network, path: Path) -> None:
    """Write a fused network as a file."""
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    write_file(path, save(tensors, stored_classes.FORMAT))


def load(path: str | Path | None = None) -> Network:
    """Load a network file, by default the one that ships with the package.

    The domain of a file of an earlier version is unknown. Raises UsageError.
    """
    network_file = stored_classes.file(path)
    network = Network()
    network.fingerprint = stored_classes.fingerprint(network_file)
    try:
        with safe_open(network_file, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        unmeasured = {k: v for k, v in network.state_dict().items() if k.startswith("domain.")}
        network.load_state_dict(unmeasured | tensors)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise stored_classes.unreadable(network_file, error) from error
    return network.eval()
