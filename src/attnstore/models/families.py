"""Families of architectures: one object each, with what sets it apart from BERT.

Most of what differs is read off a loaded model (`architectures`), so that an unknown family works
too; here stands what has to be known. A new family is one more object in FAMILIES.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Layer:
    """One layer in pieces. query, key, value: linear maps of hidden states; after: computes the next
    hidden states, token by token, of the heads' joined output and the layer's own input."""

    query: Callable[[Tensor], Tensor]
    key: Callable[[Tensor], Tensor]
    value: Callable[[Tensor], Tensor]
    after: Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Family:
    """A family of architectures.

    model_types: names in config.json, where these decide; after_padding: positions are counted from
    `pad_token_id` + 1; has_limit: config.json says how many positions there are; prepare: called with
    the model and the length of an input before each pass; windows: attribute of modules whose maps
    come as windows of local attention; cut: a module as a Layer, or None if it is of another family.
    """

    name: str
    model_types: frozenset[str] = frozenset()
    after_padding: bool = False
    has_limit: bool = True
    prepare: Callable[[Any, int], None] | None = None
    windows: str | None = None
    cut: Callable[[Any], Layer | None] | None = None


def _bert_layer(module: Any) -> Layer | None:
    inner: Any = getattr(getattr(module, "attention", None), "self", None)
    if not hasattr(inner, "query") or not hasattr(module, "feed_forward_chunk"):
        return None

    def after(context: Tensor, hidden: Tensor) -> Tensor:
        return module.feed_forward_chunk(module.attention.output(context, hidden))  # type: ignore[no-any-return]

    return Layer(inner.query, inner.key, inner.value, after)


def _distilbert_layer(module: Any) -> Layer | None:
    attention: Any = getattr(module, "attention", None)
    if not hasattr(attention, "q_lin") or not hasattr(module, "ffn"):
        return None

    def after(context: Tensor, hidden: Tensor) -> Tensor:
        attended = module.sa_layer_norm(attention.out_lin(context) + hidden)
        return module.output_layer_norm(module.ffn(attended) + attended)  # type: ignore[no-any-return]

    return Layer(attention.q_lin, attention.k_lin, attention.v_lin, after)


def _full_attention(model: Any, length: int) -> None:
    """Let BigBird turn to full attention before an input that is too short for its blocks.

    It does so itself during the pass, but then gives no maps: the modules that it puts in place are
    not asked for them.
    """
    if getattr(model, "attention_type", None) != "block_sparse":
        return
    import torch  # loaded already: there is a model

    config = model.config
    if length <= (5 + 2 * config.num_random_blocks) * config.block_size:
        with torch.inference_mode(False):
            model.set_attention_type("original_full")


_ROBERTA = {
    "camembert", "data2vec-text", "longformer", "roberta", "roberta-prelayernorm", "xlm-roberta",
    "xlm-roberta-xl",
}  # fmt: skip
_T5 = {"t5", "mt5", "umt5", "longt5", "switch_transformers"}

FAMILIES = (
    Family("BERT", cut=_bert_layer),  # layers of RoBERTa, XLM-R, CamemBERT and ELECTRA too
    Family("DistilBERT", cut=_distilbert_layer),
    Family("RoBERTa", frozenset(_ROBERTA), after_padding=True),  # 514 rows serve 512 tokens
    Family(
        "T5", frozenset(_T5), has_limit=False
    ),  # old files name an `n_positions` without meaning
    Family("BigBird", prepare=_full_attention),
    Family("Longformer", windows="one_sided_attn_window_size"),  # and LED
)


def of_type(model_type: str) -> tuple[Family, ...]:
    """Return the families whose exceptions an architecture has, by its name in config.json."""
    return tuple(family for family in FAMILIES if model_type in family.model_types)


def prepare(model: Any, length: int) -> None:
    """Get a model ready for a pass over inputs of that many tokens."""
    for family in FAMILIES:
        if family.prepare is not None:
            family.prepare(model, length)


def has_windows(model: Any) -> bool:
    """True if its maps come as windows of local attention, which `architectures.spread` joins."""
    names = [family.windows for family in FAMILIES if family.windows is not None]
    return any(hasattr(module, name) for module in model.modules() for name in names)


def layer(module: Any) -> Layer | None:
    """Return a layer of a model in pieces; None for one of a family that cannot be cut."""
    pieces = (family.cut(module) for family in FAMILIES if family.cut is not None)
    return next((piece for piece in pieces if piece is not None), None)
