"""Tiny classifiers of every type in transformers, with random weights, and a tokenizer for their texts.

Settings are found by name, also in nested configurations; `SPECIAL` holds the rest.
"""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast, Qwen2Tokenizer
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

# Lengths that a factor of 4 (CANINE) and a window of 4 (Longformer) treat differently. The text under test never comes
# first in a batch.
TEXTS = ["no it is", "a b c d e", "what a terribly long and boring film this was i say", "he or she"]
RATE = 0.1

_WIDTH, _HEADS = 32, 4
_NAMES = {
    _WIDTH: "hidden_size n_embd d_model dim emb_dim embedding_size input_embedding_size output_embedding_size "
    "d_latents word_embed_proj_dim pooler_hidden_size true_hidden_size intra_bottleneck_size "
    "cross_attention_hidden_size out_hidden_size prediction_head_size",
    2 * _WIDTH: "intermediate_size ffn_dim hidden_dim d_ff d_inner dff encoder_ffn_dim decoder_ffn_dim ffn_hidden_size "
    "feed_forward_size moe_intermediate_size shared_expert_intermediate_size max_position_embeddings n_positions "
    "max_seq_len shape_vocab_size pronunciation_vocab_size num_hash_buckets",
    2: "num_hidden_layers n_layer n_layers num_layers num_decoder_layers encoder_layers decoder_layers "
    "num_key_value_heads num_kv_heads num_experts_per_tok moe_topk",
    _HEADS: "num_attention_heads n_head n_heads num_heads encoder_attention_heads decoder_attention_heads "
    "num_self_attention_heads num_cross_attention_heads n_routed_experts num_experts num_local_experts "
    "linear_num_key_heads linear_num_value_heads",
    _WIDTH // _HEADS: "head_dim d_kv d_head kv_channels attention_head_size qk_nope_head_dim qk_rope_head_dim "
    "v_head_dim rotary_dim index_head_dim linear_key_head_dim linear_value_head_dim",
    128: "vocab_size entity_vocab_size",
    16: "q_lora_rank kv_lora_rank",
    1: "n_group topk_group",
}
_SIZES = {name: size for size, names in _NAMES.items() for name in names.split()}
_TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "cls_token_id": 1, "decoder_start_token_id": 1, "eos_token_id": 2,
           "sep_token_id": 2, "eod_token_id": 2, "forced_eos_token_id": 2, "mask_token_id": 3}  # fmt: skip

_ALL_HEADS = {"num_key_value_heads": _HEADS}
_HYBRID = {"layer_types": ["linear_attention", "full_attention"]}
_RELATIVE = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
SPECIAL = {
    "axk1": _ALL_HEADS,
    "axk2": _ALL_HEADS,
    "cohere_compass_text": {"rope_parameters": {
        "full_attention": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}}},
    "deberta": _RELATIVE,
    "deberta-v2": _RELATIVE,
    "deepseek_v2": _ALL_HEADS,
    "deepseek_v3": _ALL_HEADS,
    "diffllama": {"attention_dropout": 0.0},
    "esmc": _ALL_HEADS,
    "funnel": {"block_sizes": [1, 1], "block_repeats": None},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 4},
    "jamba": {"attn_layer_offset": 1, "attn_layer_period": 2},
    "layoutlmv3": {"hidden_size": 48, "coordinate_size": 8, "shape_size": 8},
    "lilt": {"hidden_size": 48},
    "longformer": {"attention_window": 4},
    "markuplm": {"max_depth": 4},
    "minicpm3": _ALL_HEADS,
    "mistral4": {**_ALL_HEADS, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4},
    "mpt": {"attn_config": {"attn_pdrop": 0}},
    "perceiver": {"num_latents": 8, "num_self_attends_per_block": 2},
    "qwen3_5": {"text_config": _HYBRID},
    "qwen3_5_text": _HYBRID,
    "qwen3_next": _HYBRID,
    "reformer": {"attn_layers": ["local", "lsh"], "axial_pos_shape": [8, 8], "axial_pos_embds_dim": [8, 24],
                 "is_decoder": False},
    "t5": {"decoder_start_token_id": 0},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"num_hidden_layers": 3, "layers_block_type": ["hybrid", "linear_attention", "hybrid"],
              "attention_head_dim": 16},
    "zamba2": {"layers_block_type": ["linear_attention", "hybrid"], "attention_head_dim": 16},
}  # fmt: skip


def settings_of(config, rate):
    """Tiny sizes, dropout at a rate, and all other noise turned on, for the settings that the configuration has."""
    found = {}
    for name, value in vars(config).items():
        if hasattr(value, "to_dict"):
            found[name] = {"model_type": value.model_type, **settings_of(value, rate)}
        elif name.endswith("layerdrop"):
            found[name] = 0.5
        elif "jitter" in name:
            found[name] = RATE
        elif "drop" in name and (value is None or type(value) in (int, float)):
            found[name] = rate
        elif name in _TOKENS:
            found[name] = _TOKENS[name]
        elif name in _SIZES and not isinstance(value, (list, tuple)):
            found[name] = _SIZES[name]
    return found


def with_more(settings, more):
    return {
        **settings,
        **{k: with_more(settings[k], v) if isinstance(settings.get(k), dict) else v for k, v in more.items()},
    }


def make(model_type, attention, rate=RATE):
    make_config = CONFIG_MAPPING[model_type]
    settings = with_more(settings_of(make_config(), rate), SPECIAL.get(model_type, {}))
    config = make_config(num_labels=3, **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(config, attn_implementation=attention)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.ndim > 1:
                    weight.normal_(0, 0.1)
    return model.eval()


def adapted(model):
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(
        task_type="SEQ_CLS",
        r=2,
        lora_alpha=2,
        lora_dropout=RATE,
        target_modules="all-linear",
        exclude_modules=["pre_classifier"],  # of DistilBERT; PEFT trains it fully
        init_lora_weights=False,  # with zeros, the default, adapters and their dropout have no effect
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return get_peft_model(model, settings).eval()


def encode(texts):
    """Words as ids, padded on the right. These tests do not depend on a vocabulary."""
    rows = [[1, *(5 + sum(map(ord, word)) % 100 for word in text.split()), 2] for text in texts]
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for row, values in zip(ids, rows, strict=True):
        row[: len(values)] = torch.tensor(values)
    return {"input_ids": ids, "attention_mask": (ids != 0).long()}


def tokenizer_of_words():
    """A tokenizer with the special tokens of the tiny configurations: <bos> words <eos>."""
    special = {f"{name}_token": f"<{name}>" for name in ("pad", "bos", "eos", "mask", "unk")}
    words = [*special.values(), *sorted({word for text in TEXTS for word in text.split()})]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing("<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 2)])
    roles = {"cls_token": "<bos>", "sep_token": "<eos>", "model_max_length": 48}
    return PreTrainedTokenizerFast(tokenizer_object=inner, **special, **roles)


def tokenizer_for(model_type):
    """A tokenizer that AutoTokenizer finds again. For some types it has one class, whatever was saved."""
    if model_type not in ("qwen2", "qwen3_5"):
        return tokenizer_of_words()
    signs = ["<pad>", "<bos>", "<eos>", "<mask>", "<unk>", *"abcdefghijklmnopqrstuvwxyz0123456789IW.,;:!Ġ"]
    special = {f"{name}_token": f"<{name}>" for name in ("pad", "eos", "unk")}
    return Qwen2Tokenizer(vocab={sign: i for i, sign in enumerate(signs)}, merges=[], model_max_length=64, **special)
