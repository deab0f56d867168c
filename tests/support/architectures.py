"""Architectures of transformers for the sweep: tiny random models of each, with a tokenizer.

    folder = architectures.make(tmp_path / "gemma2", "gemma2")

A tiny config is the architecture's own class with every size that it declares set small; the list
below says only what is special. All matrices are drawn widely, so that attention is far from uniform.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import tiny
import torch
from transformers import CONFIG_MAPPING, AutoModel, PreTrainedTokenizerFast

SPREAD = 0.25
"""Standard deviation of a matrix: what comes into attention has 32 entries of about 1."""

_SMALL: dict[int, str] = {
    32: "hidden_size d_model n_embd dim emb_dim dim_model input_embedding_size output_embedding_size "
    "out_hidden_size text_hidden_size projection_dim",
    2: "num_hidden_layers n_layers n_layer num_layers encoder_layers decoder_layers depth "
    "num_decoder_layers num_encoder_layers num_key_value_heads num_experts_per_tok moe_k "
    "linear_num_key_heads",
    4: "num_attention_heads n_heads n_head num_heads encoder_attention_heads "
    "decoder_attention_heads num_encoder_attention_heads num_decoder_attention_heads "
    "num_experts num_local_experts n_routed_experts moe_num_experts linear_num_value_heads",
    8: "query_pre_attn_scalar d_head head_dim d_kv kv_channels attention_head_dim qk_nope_head_dim qk_rope_head_dim v_head_dim "
    "hidden_size_per_layer_input patch_size linear_key_head_dim linear_value_head_dim",
    12: "sliding_window local_attention window_size attention_window_size attention_chunk_size",
    16: "embedding_size q_lora_rank kv_lora_rank image_size mamba_d_state",
    48: "intermediate_size hidden_dim d_ff d_inner encoder_ffn_dim decoder_ffn_dim ffn_dim n_inner "
    "inner_dim ffn_hidden_size moe_intermediate_size shared_expert_intermediate_size ffn_hidden",
    130: "max_position_embeddings n_positions max_seq_len n_ctx max_position",
}
_SIZES = {name: size for size, names in _SMALL.items() for name in names.split()}
_MAY_BE_NONE = ("head_dim", "n_inner", "num_key_value_heads", "q_lora_rank")
_ROLES = ("pad", "bos", "eos", "sep", "cls", "mask")


@dataclasses.dataclass(frozen=True)
class Architecture:
    """One row of the list.

    name: `model_type`; tokenizer: an architecture of `tiny` whose tokenizer it gets; config: what
    its tiny config needs beside small sizes (for a nested config a dict, with `model_type` where
    the class does not fix it); spread: standard deviation of its
    matrices; variant: what tells two rows of one name apart.
    """

    name: str
    tokenizer: str
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    spread: float = SPREAD
    variant: str = ""

    @property
    def label(self) -> str:
        """Its name, with the variant where an architecture stands twice in the list."""
        return f"{self.name} {self.variant}".strip()


def make(folder: Path, architecture: Architecture, seed: int = 0) -> Path:
    """Write a checkpoint (config.json, model.safetensors, tokenizer) into `folder` and return it."""
    tokenizer = tiny.make_tokenizer(architecture.tokenizer)
    config = tiny_config(architecture.name, tokenizer, architecture.config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModel.from_config(config)
        _spread(model, architecture.spread)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_config(
    name: str, tokenizer: PreTrainedTokenizerFast, special: dict[str, Any] | None = None
) -> Any:
    """The smallest config of an architecture that has several layers, heads and positions."""
    kind = CONFIG_MAPPING[name]
    return kind(**_overrides(kind, tokenizer, special or {}))


def _overrides(
    kind: Any, tokenizer: PreTrainedTokenizerFast, special: dict[str, Any]
) -> dict[str, Any]:
    """Small sizes, the tokenizer's vocabulary and ids, and small configs inside."""
    small: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        role = field.name.removesuffix("_token_id")
        if _is_size(field):
            small[field.name] = _SIZES[field.name]
        elif field.name in ("vocab_size", "vocab_size_per_layer_input"):
            small[field.name] = len(tokenizer)
        elif role in _ROLES and role != field.name:
            number = getattr(tokenizer, field.name)
            small[field.name] = 0 if number is None and field.default is not None else number
    for name, inner in (getattr(kind, "sub_configs", None) or {}).items():
        changes = dict(special.get(name) or {})
        inner = CONFIG_MAPPING[changes.pop("model_type")] if "model_type" in changes else inner
        if getattr(inner, "model_type", "") and (name in special or name in _names(kind)):
            small[name] = inner(**_overrides(inner, tokenizer, changes))
    return small | {
        key: value
        for key, value in special.items()
        if key not in small or not isinstance(value, dict)
    }


def _names(kind: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def _is_size(field: Any) -> bool:
    if field.name not in _SIZES:
        return False
    is_number = isinstance(field.default, int) and not isinstance(field.default, bool)
    return is_number or (field.default is None and field.name in _MAY_BE_NONE)


def _spread(model: torch.nn.Module, spread: float) -> None:
    """Draw every matrix anew, words the widest, and move vectors: biases, norms, sinks, scales.

    What is not trained (sines of positions) stays.
    """
    try:
        words = model.get_input_embeddings().weight
    except NotImplementedError:  # CANINE has none: it hashes characters
        words = None
    for parameter in (p for p in model.parameters() if p.requires_grad):
        with torch.no_grad():
            if parameter.ndim > 1:
                parameter.normal_(0, 4 * spread if parameter is words else spread)
            else:
                parameter.nan_to_num_().add_(torch.randn_like(parameter) * spread / 2)


def _a(name: str, tokenizer: str, spread: float = SPREAD, **config: Any) -> Architecture:
    return Architecture(name, tokenizer, config, spread, config.pop("variant", ""))


ARCHITECTURES = [
    # encoders, WordPiece
    _a("bert", "bert"),
    _a("bert-generation", "bert"),
    _a("bros", "bert"),
    _a("canine", "bert", num_hash_buckets=64),
    _a("clip_text_model", "bert"),
    _a("convbert", "bert"),
    _a("cpmant", "bert"),
    _a("data2vec-text", "bert"),
    _a("deberta", "bert", relative_attention=True, pos_att_type=["c2p", "p2c"]),
    _a("deberta-v2", "bert", relative_attention=True, pos_att_type=["c2p", "p2c"]),
    _a(
        "deberta-v2",
        "bert",
        variant="with convolution",
        relative_attention=True,
        pos_att_type=["c2p", "p2c"],
        conv_kernel_size=3,
        type_vocab_size=2,
    ),
    _a("distilbert", "bert"),
    _a("dpr", "bert"),
    _a("electra", "bert"),
    _a("ernie", "bert"),
    _a("esm", "bert", position_embedding_type="rotary", token_dropout=True),
    _a("esmc", "bert", num_key_value_heads=4),
    _a("fnet", "bert"),
    _a(
        "funnel",
        "bert",
        block_sizes=[1, 1],
        block_repeats=[1, 1],
        num_decoder_layers=1,
        architectures=["FunnelModel"],
    ),
    _a("gte", "bert"),
    _a("ibert", "bert"),
    _a("layoutlm", "bert"),
    _a("layoutlmv3", "bert", coordinate_size=6, shape_size=4),
    _a("lilt", "bert", hidden_size=48, channel_shrink_ratio=4),
    _a("luke", "bert", entity_vocab_size=10, entity_emb_size=16),
    _a("lxmert", "bert"),
    _a("markuplm", "bert", max_depth=3, xpath_unit_hidden_size=4),
    _a("megatron-bert", "bert"),
    _a("mobilebert", "bert"),
    _a("modernbert", "bert", num_hidden_layers=3, global_attn_every_n_layers=2),
    _a("mpnet", "bert"),
    _a("mra", "bert"),
    _a("neomme", "bert", head_dim=16),
    _a("nomic_bert", "bert"),
    _a("roc_bert", "bert", shape_vocab_size=9, pronunciation_vocab_size=9),
    _a("roformer", "bert"),
    _a("splinter", "bert"),
    _a("squeezebert", "bert", embedding_size=32),
    _a("tapas", "bert"),
    _a("tipsv2_text_model", "bert"),
    _a("visual_bert", "bert"),
    _a("yoso", "bert"),
    # encoders, byte-level BPE with <s> and </s>
    _a("bart", "roberta"),
    _a("blenderbot", "roberta"),
    _a("camembert", "roberta"),
    _a("eurobert", "roberta"),
    _a("led", "roberta", attention_window=8, max_encoder_position_embeddings=130),
    _a("longformer", "roberta", attention_window=8),
    _a("roberta", "roberta"),
    _a("roberta-prelayernorm", "roberta"),
    # encoders, Unigram with [CLS] and [SEP]
    _a("albert", "albert"),
    _a("big_bird", "albert", variant="short"),
    _a("big_bird", "albert", block_size=4, num_random_blocks=1),
    _a("flaubert", "albert"),
    _a("nystromformer", "albert"),
    _a("rembert", "albert"),
    _a("xlm", "albert"),
    _a("xlnet", "albert"),
    # encoders of encoder-decoders and others, Unigram with <s> and </s>
    _a("bigbird_pegasus", "xlm-roberta", variant="short"),
    _a("bigbird_pegasus", "xlm-roberta", block_size=4, num_random_blocks=1),
    _a("fsmt", "xlm-roberta", src_vocab_size=199, tgt_vocab_size=199),
    _a("jina_embeddings_v3", "xlm-roberta"),
    _a("longt5", "xlm-roberta", local_radius=7),
    _a("m2m_100", "xlm-roberta"),
    _a("marian", "xlm-roberta"),
    _a("mbart", "xlm-roberta"),
    _a("mt5", "xlm-roberta"),
    _a("nllb-moe", "xlm-roberta"),
    _a("pegasus", "xlm-roberta"),
    _a("pegasus_x", "xlm-roberta"),
    _a("prophetnet", "xlm-roberta"),
    _a("switch_transformers", "xlm-roberta"),
    _a("t5", "xlm-roberta"),
    _a("t5gemma", "xlm-roberta"),
    _a("udop", "xlm-roberta"),
    _a("umt5", "xlm-roberta"),
    _a("xglm", "xlm-roberta", attention_heads=4),
    _a("xlm-roberta", "xlm-roberta"),
    _a("xlm-roberta-xl", "xlm-roberta"),
    _a("xmod", "xlm-roberta", default_language="en_XX"),
    # decoders, byte-level BPE without special tokens
    _a("apertus", "gpt2"),
    _a(
        "bamba",
        "gpt2",
        mamba_n_heads=4,
        mamba_d_head=16,
        mamba_chunk_size=16,
        attn_layer_indices=[1],
    ),
    _a("biogpt", "gpt2"),
    _a("bitnet", "gpt2"),
    _a("bloom", "gpt2"),
    _a("codegen", "gpt2", rotary_dim=4),
    _a("cohere", "gpt2"),
    _a("cohere2", "gpt2"),
    _a("ctrl", "gpt2"),
    _a("deepseek_v2", "gpt2", num_key_value_heads=4, num_experts_per_tok=2),
    _a("deepseek_v3", "gpt2", num_key_value_heads=4),
    _a("deepseek_v4", "gpt2"),
    _a("diffllama", "gpt2"),
    _a("doge", "gpt2"),
    _a("ernie4_5", "gpt2"),
    _a("exaone4", "gpt2"),
    _a("falcon", "gpt2"),
    _a("falcon", "gpt2", variant="alibi", alibi=True),
    _a("falcon_h1", "gpt2", mamba_d_ssm=64, mamba_n_heads=4, mamba_d_head=16, mamba_chunk_size=16),
    _a("flint", "gpt2"),
    _a("git", "gpt2"),
    _a("glm", "gpt2"),
    _a("glm4_moe", "gpt2"),
    _a("glm_moe_dsa", "gpt2", num_key_value_heads=4),
    _a("gpt2", "gpt2"),
    _a("gpt_bigcode", "gpt2"),
    _a("gpt_neo", "gpt2", attention_types=[[["global", "local"], 1]], window_size=6),
    _a("gpt_neox", "gpt2"),
    _a("gpt_neox_japanese", "gpt2"),
    _a("gpt_oss", "gpt2"),
    _a("gptj", "gpt2", rotary_dim=4),
    _a("granite", "gpt2"),
    _a(
        "granitemoehybrid",
        "gpt2",
        mamba_n_heads=4,
        mamba_d_head=16,
        mamba_chunk_size=16,
        layer_types=["mamba", "attention"],
    ),
    _a("hrm_text", "gpt2"),
    _a(
        "jamba",
        "gpt2",
        attn_layer_period=2,
        attn_layer_offset=1,
        num_hidden_layers=4,
        use_mamba_kernels=False,
    ),
    _a("jetmoe", "gpt2"),
    _a("lfm2", "gpt2", layer_types=["conv", "full_attention"]),
    _a("lfm2_moe", "gpt2", layer_types=["conv", "full_attention"]),
    _a("llama", "gpt2"),
    _a("llama4_text", "gpt2"),
    _a("mamba", "gpt2"),
    _a("mimo_v2_flash", "gpt2"),
    _a("minimax", "gpt2", layer_types=["linear_attention", "full_attention"]),
    _a("mistral4", "gpt2", num_key_value_heads=4),
    _a("mixtral", "gpt2"),
    _a("modernbert-decoder", "gpt2", num_hidden_layers=3, global_attn_every_n_layers=2),
    _a("moshi", "gpt2"),
    _a("mpt", "gpt2"),
    _a("nemotron", "gpt2"),
    _a("nemotron_h", "gpt2", mamba_num_heads=4, mamba_head_dim=16, n_groups=1, chunk_size=16),
    _a("olmo3", "gpt2"),
    _a("olmo_hybrid", "gpt2"),
    _a("olmoe", "gpt2"),
    _a("openai-gpt", "gpt2"),
    _a("opt", "gpt2"),
    _a("persimmon", "gpt2"),
    _a("phi", "gpt2"),
    _a("phimoe", "gpt2"),
    _a("qwen2", "gpt2"),
    _a("qwen3", "gpt2"),
    _a(
        "qwen3_5_text",
        "gpt2",
        layer_types=["linear_attention", "full_attention"] * 2,
        num_hidden_layers=4,
    ),
    _a("qwen3_moe", "gpt2"),
    _a(
        "qwen3_next",
        "gpt2",
        layer_types=["linear_attention", "full_attention"] * 2,
        num_hidden_layers=4,
    ),
    _a("recurrent_gemma", "gpt2", num_hidden_layers=3, lru_width=32),
    _a(
        "reformer",
        "gpt2",
        variant="short",
        axial_pos_embds=False,
        attn_layers=["local", "lsh"],
        hash_seed=1,
    ),
    _a(
        "reformer",
        "gpt2",
        local_attn_chunk_length=16,
        lsh_attn_chunk_length=16,
        axial_pos_embds=False,
        attn_layers=["local", "lsh"],
        num_buckets=4,
        hash_seed=1,
        num_hidden_layers=2,
    ),
    _a("rwkv", "gpt2"),
    _a("smollm3", "gpt2"),
    _a("stablelm", "gpt2"),
    _a("starcoder2", "gpt2"),
    _a("zaya", "gpt2", 1.0, num_experts_per_tok=1),
    # decoders, Unigram
    _a("embedding_gemma2_text", "xlm-roberta", global_head_dim=8),
    _a("gemma", "xlm-roberta"),
    _a("gemma2", "xlm-roberta"),
    _a("gemma3_text", "xlm-roberta"),
    _a(
        "gemma3n_text",
        "xlm-roberta",
        num_kv_shared_layers=0,
        layer_types=["sliding_attention", "full_attention"],
    ),
    _a("gemma4_text", "xlm-roberta", global_head_dim=8),
    _a("mistral", "xlm-roberta"),
    _a(
        "phi3",
        "xlm-roberta",
        original_max_position_embeddings=20,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "short_factor": [1.0, 1.1, 1.2, 1.3],
            "long_factor": [1.5, 3.0, 5.0, 8.0],
        },
    ),
    # text models inside multimodal configs
    _a(
        "aya_vision",
        "gpt2",
        text_config={"model_type": "cohere2"},
        vision_config={"model_type": "siglip_vision_model"},
    ),
    _a("gemma3", "gpt2", vision_config={"model_type": "siglip_vision_model"}),
    _a("gemma4", "gpt2", text_config={"global_head_dim": 8}),
    _a("idefics3", "gpt2", text_config={"model_type": "llama"}),
    _a(
        "internvl",
        "gpt2",
        text_config={"model_type": "qwen2"},
        vision_config={
            "model_type": "internvl_vision",
            "image_size": [16, 16],
            "patch_size": [8, 8],
        },
    ),
    _a(
        "lfm2_vl",
        "gpt2",
        text_config={"model_type": "lfm2", "layer_types": ["conv", "full_attention"]},
        vision_config={"model_type": "siglip2_vision_model"},
    ),
    _a(
        "llava",
        "gpt2",
        text_config={"model_type": "llama"},
        vision_config={"model_type": "clip_vision_model"},
    ),
    _a(
        "mistral3",
        "gpt2",
        text_config={"model_type": "mistral"},
        vision_config={"model_type": "pixtral"},
    ),
    _a("mllama", "gpt2"),
    _a(
        "paligemma",
        "gpt2",
        text_config={"model_type": "gemma"},
        vision_config={"model_type": "siglip_vision_model"},
    ),
    _a(
        "qwen2_5_vl",
        "gpt2",
        text_config={"rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1]}},
    ),
    _a("qwen3_vl", "gpt2"),
]
"""What the sweep tries, by kind of tokenizer."""


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A refusal that is right. phrase: part of the sentence; reason: why there is nothing to store.

    of: which inputs are refused.
    """

    phrase: str
    reason: str
    of: tuple[str, ...] = ("singles", "pairs")


_NO_HEADS = Refusal("its configuration has no num_attention_heads", "it has no attention")
_SCORES = "it returns scores before the softmax, not weights"

REFUSED = {
    "bros": Refusal("You have to specify bbox", "it reads boxes on a page beside the text"),
    "canine": Refusal(
        "has no self-attention maps that can be captured",
        "it pools characters, so that its layers have maps of several sizes",
    ),
    "cpmant": Refusal(
        "has rows that sum to 0",
        "it attends to a prompt before the text, whose columns are cut off",
    ),
    "fnet": _NO_HEADS,
    "funnel": Refusal(
        "gives 3 attention maps of shape",
        "it pools tokens, so that its layers have maps of several sizes",
    ),
    "lxmert": Refusal(
        "has no self-attention maps that can be captured", "it reads pictures beside the text"
    ),
    "mra": Refusal("gives 0 attention maps", "it approximates attention and returns none"),
    "squeezebert": Refusal("not to 1", _SCORES),
    "yoso": Refusal(
        "attention maps of shape (1, ", "it samples attention by hashing: it has no maps"
    ),
    "big_bird": Refusal("up to 1, not to 1", "block 0 is attended to twice, and returned once"),
    "bigbird_pegasus": Refusal(
        "up to 1, not to 1", "block 0 is attended to twice, and returned once"
    ),
    "fsmt": Refusal("FSMTModel", "its encoder has no configuration"),
    "longt5": Refusal("of shape (1, 1, 4,", "it attends in blocks and returns these"),
    "pegasus_x": Refusal(
        "returns its attention in parts", "it attends in blocks and to global tokens"
    ),
    "prophetnet": Refusal("not to 1", _SCORES),
    "udop": Refusal("Bbox is required", "it reads boxes on a page beside the text"),
    "mamba": _NO_HEADS,
    "reformer": Refusal("of shape (1, 4, 2, 16,", "it attends in chunks and returns these"),
    "rwkv": _NO_HEADS,
}
"""By label, what is refused. A new refusal, or another reason for one, is a failure."""
