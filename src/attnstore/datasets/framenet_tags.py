"""Universal parts of speech for the tags that FrameNet's sentences carry.

FrameNet tags most sentences with the CLAWS 5 set of the British National Corpus (layer BNC), the
others with a variant of Penn's as TreeTagger writes it (layer PENN). The classes are those of
Universal Dependencies for English, so "his" is a pronoun.
"""

from __future__ import annotations

_CLAWS = {
    "AJ": "ADJ", "AT": "DET", "AV": "ADV", "CJC": "CCONJ", "CJ": "SCONJ", "CR": "NUM", "DP": "PRON",
    "DT": "DET", "EX": "PRON", "IT": "INTJ", "NP": "PROPN", "NN": "NOUN", "OR": "ADJ", "PN": "PRON",
    "PO": "PART", "PR": "ADP", "PU": "PUNCT", "TO": "PART", "VV": "VERB", "V": "AUX", "XX": "PART",
}  # fmt: skip
_PENN = {
    "CC": "CCONJ", "CD": "NUM", "DT": "DET", "EX": "PRON", "IN": "ADP", "JJ": "ADJ", "MD": "AUX",
    "NNP": "PROPN", "NP": "PROPN", "NN": "NOUN", "PDT": "DET", "POS": "PART", "PP": "PRON",
    "PRP": "PRON", "RB": "ADV", "RP": "ADP", "SENT": "PUNCT", "SYM": "SYM", "TO": "PART",
    "UH": "INTJ", "V": "VERB", "WDT": "DET", "WP": "PRON", "WRB": "ADV",
}  # fmt: skip
LAYERS = {"BNC": _CLAWS, "PENN": _PENN}
"""Class by the beginning of a tag, per layer of an annotation; the longest beginning counts."""


def universal(layer: str, tag: str) -> str:
    """Return the universal part of speech of a tag; X for one that says nothing.

    Args:
        layer: BNC or PENN.
        tag: as FrameNet writes it; of an ambiguous one (VVD-VVN) the first counts.
    """
    name = tag.upper().partition("-")[0] if layer == "BNC" else tag.upper()
    if not any(c.isalpha() for c in name):
        return "PUNCT"
    beginnings = (name[:n] for n in range(len(name), 0, -1))
    return next((LAYERS[layer][b] for b in beginnings if b in LAYERS[layer]), "X")
