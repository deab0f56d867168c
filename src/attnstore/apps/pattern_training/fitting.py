"""The training recipe: pretrain on unlabelled maps, learn the labels, distil.

1. *Pretrain*: from the pictures of unlabelled maps, predict the head a map comes from.
2. *Teach*: from there, a few networks learn the labels, with variants of the labelled maps and
   synthetic maps beside them; an annotator's doubt is a soft label and a smaller weight.
3. *Distil*: one network learns the teachers' mean prediction over labelled and unlabelled maps.

Everything is drawn from one seed. `training` scores the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, one_hot

from attnstore.apps.pattern_training import synthetic
from attnstore.apps.pattern_training.synthetic import Map
from attnstore.apps.pattern_training.training_maps import Labelled
from attnstore.experiments.patterns.map_images import pictures
from attnstore.experiments.patterns.network import FEATURES, Network
from attnstore.naming import CLASSES

FEW = 20
"""A class with fewer labels learns from synthetic maps too, and does not count in the macro F1."""
Batch = tuple[torch.Tensor, torch.Tensor]
"""Pictures and the share of each class: (n, channels, SIDE, SIDE), (n, 5)."""
Tell = Callable[[str], None]
"""Callback that receives each progress line."""


@dataclass(frozen=True)
class Recipe:
    """The settings of a training.

    steps are of the optimiser; a pretraining batch holds `pretrain_batch` pictures, a later one 64
    (labelled ones half the time as they are), `synthetic` of them made by rule (four times as often
    of a class with fewer than FEW labels); in distillation 64 unlabelled ones are added to 32.
    variants: of each labelled map; made: synthetic maps per class.
    """

    seed: int = 0
    pretrain_steps: int = 1200
    pretrain_batch: int = 128
    pretrain_rate: float = 5e-3
    teachers: int = 4
    teach_steps: int = 200
    distil_steps: int = 400
    rate: float = 1.5e-3
    head_rate: float = 5e-3
    decay: float = 0.05
    smoothing: float = 0.05
    variants: int = 8
    made: int = 40
    synthetic: int = 3


class Examples:
    """Pictures to draw batches from: labelled maps with their variants, and synthetic ones."""

    def __init__(self, labelled: Labelled, recipe: Recipe) -> None:
        draw = np.random.default_rng(recipe.seed)
        views = [
            pictured([synthetic.vary(weights, draw) for weights in labelled.maps])
            for _ in range(recipe.variants)
        ]
        self.views = torch.stack([pictured(labelled.maps), *views])
        self.votes, self.weight = labelled.votes, labelled.sure
        made = synthetic.labelled(recipe.made, draw)
        self.made = pictured([weights for weights, _ in made])
        numbers = torch.tensor([number for _, number in made], dtype=torch.long)
        self.made_votes = one_hot(numbers, len(CLASSES)).float()
        # A class with few labels learns from its synthetic maps: they are drawn more often.
        self._needed = torch.where(self.votes.sum(0) < FEW, 4.0, 1.0)[numbers]
        self._synthetic = recipe.synthetic

    def batch(self, chosen: torch.Tensor, n: int) -> Batch:
        """Draw n examples; labelled maps only from `chosen`, weighted by confidence."""
        several = n - self._synthetic
        at = chosen[torch.multinomial(self.weight[chosen], several, replacement=True)]
        view = torch.randint(0, len(self.views), (several,))
        view = torch.where(torch.rand(several) < 0.5, 0, view)
        made = torch.multinomial(self._needed, self._synthetic, replacement=True)
        images = torch.cat([self.views[view, at], self.made[made]])
        return images, torch.cat([self.votes[at], self.made_votes[made]])


def pictured(maps: Sequence[Map]) -> torch.Tensor:
    """Return the pictures of maps of any lengths."""
    return torch.cat([pictures(torch.from_numpy(weights)[None]) for weights in maps])


def pretrain(
    others: Sequence[torch.Tensor], recipe: Recipe, tell: Tell
) -> tuple[Network, torch.Tensor]:
    """Train a network to tell heads apart; return it and its training pictures.

    others: (heads, L, L) per input; half of them with tokens left out.
    """
    draw = np.random.default_rng(recipe.seed)
    torch.manual_seed(recipe.seed)
    images = torch.cat([pictures(_thinned(weights, draw)) for weights in others]).half()
    heads = torch.cat([torch.arange(len(weights)) for weights in others])
    network = Network(normed=True)
    tail = nn.Linear(FEATURES, int(heads.max()) + 1)
    weights = [*network.layers.parameters(), *tail.parameters()]
    optimiser = torch.optim.AdamW(weights, weight_decay=0.02)
    pace = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.pretrain_rate, total_steps=recipe.pretrain_steps
    )
    for step in range(recipe.pretrain_steps):
        at = torch.randint(0, len(images), (recipe.pretrain_batch,))
        loss = cross_entropy(tail(network.features(_blurred(images[at].float(), 0.15))), heads[at])
        _descend(optimiser, pace, loss)
        if step % 100 == 99:
            tell(f"pretraining, step {step + 1}: loss {loss.item():.3f}")
    return network, images


def settle(network: Network, images: torch.Tensor) -> None:
    """Set mean and spread of the features, so that the head begins with numbers around 0."""
    network.eval()
    with torch.no_grad():
        features = torch.cat([network.features(part) for part in torch.split(images, 256)])
    network.mean.copy_(features.mean(0))
    network.spread.copy_(features.std(0) + 1e-3)


@torch.no_grad()
def measure_domain(network: Network, others: Sequence[torch.Tensor]) -> None:
    """Tell a network which maps it knows: mean and covariance of every second input, distances of the rest.

    others: (heads, L, L) per input.
    """
    network.eval()
    features = [network.features(pictures(weights)) for weights in others]
    network.domain.measure(torch.cat(features[::2]), torch.cat(features[1::2]))


def fit(
    begin: Network,
    examples: Examples,
    chosen: torch.Tensor,
    others: torch.Tensor,
    recipe: Recipe,
    seed: int,
) -> Network:
    """Train teachers on the chosen labelled maps, then distil them into one network.

    begin: the pretrained network, not changed; others: pictures of unlabelled maps.
    """
    settle(begin, examples.views[0, chosen])
    teachers = [
        _trained(
            begin, lambda: examples.batch(chosen, 64), recipe.teach_steps, recipe, 100 * seed + i
        )
        for i in range(recipe.teachers)
    ]
    teacher_votes = _mean_of(teachers, others)

    def batch() -> Batch:
        images, votes = examples.batch(chosen, 32)
        at = torch.randint(0, len(others), (64,))
        return torch.cat([images, others[at].float()]), torch.cat([votes, teacher_votes[at]])

    return _trained(begin, batch, recipe.distil_steps, recipe, 100 * seed + 50)


def _mean_of(teachers: Sequence[Network], images: torch.Tensor) -> torch.Tensor:
    """Return probabilities (n, 5), the mean over teachers."""
    parts = torch.split(images, 256)
    return torch.stack(
        [torch.cat([teacher.predict(part.float()) for part in parts]) for teacher in teachers]
    ).mean(0)


def _trained(
    begin: Network, batch: Callable[[], Batch], steps: int, recipe: Recipe, seed: int
) -> Network:
    """Train a copy of a network with a new head on batches."""
    torch.manual_seed(seed)
    network = Network(normed=True)
    network.load_state_dict(
        {k: v for k, v in begin.state_dict().items() if not k.startswith("head")}, strict=False
    )
    rates = [recipe.rate, recipe.head_rate]
    parts = [{"params": network.layers.parameters()}, {"params": network.head.parameters()}]
    optimiser = torch.optim.AdamW(parts, weight_decay=recipe.decay)
    pace = torch.optim.lr_scheduler.OneCycleLR(optimiser, rates, total_steps=steps, pct_start=0.2)
    network.train()
    for _ in range(steps):
        images, votes = batch()
        logits = network(_blurred(images, 0.1))
        _descend(optimiser, pace, cross_entropy(logits, votes, label_smoothing=recipe.smoothing))
    return network.eval()


def _blurred(images: torch.Tensor, gain: float) -> torch.Tensor:
    """Scale the brightness at random and add a little noise."""
    scale = 1 + gain * (2 * torch.rand(len(images), 1, 1, 1) - 1)
    return images * scale + 0.02 * torch.randn_like(images)


def _descend(
    optimiser: torch.optim.Optimizer, pace: torch.optim.lr_scheduler.LRScheduler, loss: torch.Tensor
) -> None:
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    pace.step()


def _thinned(weights: torch.Tensor, draw: np.random.Generator) -> torch.Tensor:
    """Leave the same tokens out of all maps of an input, half the time."""
    length = weights.shape[-1]
    if length <= 12 or draw.random() < 0.5:
        return weights
    keep = draw.random(length) > draw.uniform(0, 0.35)
    keep[:8] = keep[-1] = True
    thinned = weights[:, torch.from_numpy(keep)][:, :, torch.from_numpy(keep)]
    return thinned / thinned.sum(-1, keepdim=True)
