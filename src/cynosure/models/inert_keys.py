"""List the config keys that never change what a model computes at inference. Knows nothing of files."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from cynosure.models.json_file import JsonValue

_PROVENANCE = (
    "_class_name _commit_hash _diffusers_version _name_or_path name_or_path architectures auto_map "
    "model_type transformers_version tokenizer_class finetuning_task task_specific_params "
    "license custom_pipelines unsloth_version unsloth_fixed _unsloth_fixed language"
)

_RUNTIME = (
    "_attn_implementation _attn_implementation_autoset attn_implementation _experts_implementation "
    "_output_attentions deterministic_flash_attn chunk_size_feed_forward dtype fused_layer_norm "
    "gradient_checkpointing output_attentions output_hidden_states output_past output_router_logits "
    "return_dict tf_legacy_loss tie_last_hidden_states torch_dtype torchscript use_bfloat16 use_cache "
    "use_flash_attention_2 use_return_dict cache_implementation"
)

_TRAINING = (
    "attention_dropout attention_probs_dropout_prob attn_pdrop aux_loss_alpha bad_words_ids "
    "classifier_dropout dropout dropout_rate embd_pdrop embedding_dropout ep_size hidden_dropout "
    "hidden_dropout_prob initializer_cutoff_factor initializer_factor initializer_range mlp_dropout "
    "problem_type resid_pdrop router_aux_loss_coef router_jitter_noise seq_aux sparse_pred_ignore_index "
    "summary_first_dropout use_aux_loss"
)

_LABELS = "id2label label2id num_labels"

_TOKEN_IDS = (
    "bos_token_id cls_token_id decoder_start_token_id eos_token_id forced_bos_token_id "
    "forced_eos_token_id mask_token_id pad_token_id sep_token_id unk_token_id"
)

# Old checkpoints keep the settings of `generate` in config.json.
_GENERATION = (
    "assistant_confidence_threshold assistant_lookbehind begin_suppress_tokens diversity_penalty "
    "do_sample early_stopping encoder_no_repeat_ngram_size encoder_repetition_penalty epsilon_cutoff "
    "eta_cutoff exponential_decay_length_penalty length_penalty max_length max_new_tokens min_length "
    "no_repeat_ngram_size num_assistant_tokens num_assistant_tokens_schedule num_beam_groups num_beams "
    "num_return_sequences output_scores prefix remove_invalid_values repetition_penalty "
    "return_dict_in_generate suppress_tokens target_lookbehind temperature top_k top_p typical_p"
)

#: Keys that pass whatever their value. `quantization_config` is not among them: it changes the weights.
INERT_KEYS: frozenset[str] = frozenset(
    " ".join((_PROVENANCE, _RUNTIME, _TRAINING, _LABELS, _TOKEN_IDS, _GENERATION)).split()
)

#: Keys that pass only where they hold the value that changes nothing. A family that knows better takes them.
NEUTRAL_VALUES: Mapping[str, JsonValue] = MappingProxyType(
    {
        "add_cross_attention": False,
        "is_decoder": False,
        "is_encoder_decoder": False,
        "pretraining_tp": 1,
        "pruned_heads": {},
        "tie_encoder_decoder": False,
    }
)
