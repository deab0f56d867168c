"""How unlike the maps of the training a map is: its distance from them in the network's features.

The distance is Mahalanobis'. It is stored as `typicality`, the share of maps of the training's texts that
lie further out: uniform from 0 to 1 for maps like these, near 0 for others. The mean and the covariance
are of one half of these texts, the shares of the other half, so that they are not of what was fitted.
"""

from __future__ import annotations

import torch
from torch import nn

_STEPS = 1000
_RIDGE = 1e-2  # added to the variance of each feature, which are of about 1


class Domain(nn.Module):
    """The features of the training's maps. Unknown (NaN) until it is measured or loaded."""

    center: torch.Tensor
    whitening: torch.Tensor
    distances: torch.Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(n_features))
        self.register_buffer("whitening", torch.eye(n_features))
        self.register_buffer("distances", torch.full((_STEPS + 1,), torch.nan))

    def typicality(self, features: torch.Tensor) -> torch.Tensor:
        """Return the share of the training's maps that lie further out, (n,); NaN if not measured."""
        if self.distances.isnan().any():
            return torch.full((len(features),), torch.nan)
        nearer = torch.searchsorted(self.distances, self._distance(features), right=True)
        return 1 - (nearer / _STEPS).clamp(max=1)

    def measure(self, features: torch.Tensor, others: torch.Tensor) -> None:
        """Take mean and covariance of features (n, F), and the distances of others (m, F)."""
        spread = features.std(0) + _RIDGE
        scaled = ((features - features.mean(0)) / spread).double()
        values, vectors = torch.linalg.eigh(torch.cov(scaled.T))
        whitening = vectors / (values.clamp_min(0) + _RIDGE).sqrt()
        self.center.copy_(features.mean(0))
        self.whitening.copy_((whitening / spread[:, None]).float())
        levels = torch.linspace(0, 1, _STEPS + 1)
        self.distances.copy_(torch.quantile(self._distance(others), levels))

    def _distance(self, features: torch.Tensor) -> torch.Tensor:
        return ((features - self.center) @ self.whitening).square().sum(1)
