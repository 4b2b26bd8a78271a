"""List the tiny encoders that are compared with transformers. Knows nothing of how they are compared."""

from __future__ import annotations

from dataclasses import dataclass, field

VOCAB = 120
MAX_LEN = 96


@dataclass(frozen=True)
class Case:
    """One architecture with settings that leave no part of its graph idle.

    Texts hold ids from `lowest_id` on: below it is padding, whose position some oracles count otherwise.
    """

    architecture: str
    settings: dict[str, object] = field(default_factory=dict)
    seed: int = 0
    lowest_id: int = 1

    @property
    def counts_padding(self) -> bool:
        """Whether the oracle gives a text in a padded batch what it does not give it alone."""
        return self.architecture.startswith("BigBird")

    @property
    def has_types(self) -> bool:
        return bool(self.settings.get("type_vocab_size", 0) == 2)


_BERT = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": MAX_LEN,
    "type_vocab_size": 2,
    "num_labels": 3,
    "pad_token_id": 0,
}
# A window of 8 on either side, global layers 0 and 3, and thetas that turn within the lengths.
_MODERN = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": MAX_LEN,
    "local_attention": 16,
    "global_attn_every_n_layers": 3,
    "rope_parameters": {
        "full_attention": {"rope_type": "default", "rope_theta": 900.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 40.0},
    },
    "num_labels": 3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "cls_token_id": 1,
    "eos_token_id": 2,
    "sep_token_id": 2,
}
_ROBERTA = {**_BERT, "type_vocab_size": 1, "num_hidden_layers": 2, "pad_token_id": 1}
_MPNET = {key: value for key, value in _ROBERTA.items() if key != "type_vocab_size"}
_DISTILBERT = {
    "vocab_size": VOCAB,
    "dim": 64,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 96,
    "max_position_embeddings": MAX_LEN,
    "num_labels": 3,
}
_CLIP = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "max_position_embeddings": MAX_LEN,
}
# Buckets that share distances within the lengths; the third version as it is published, and the second.
_DEBERTA = {
    **{key: value for key, value in _BERT.items() if key != "type_vocab_size"},
    "num_hidden_layers": 2,
    "relative_attention": True,
    "position_buckets": 16,
    "max_relative_positions": 48,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
}
_DEBERTA_PLAIN = {
    **_DEBERTA,
    "position_buckets": -1,
    "max_relative_positions": 24,
    "norm_rel_ebd": "none",
    "share_att_key": False,
    "position_biased_input": True,
    "type_vocab_size": 2,
}
# Windows shorter than the texts, and of another width in the second layer.
_LONGFORMER = {**_ROBERTA, "attention_window": [4, 12]}
# Texts of more than 28 tokens in blocks, and the longest of the second case only.
_BIG_BIRD = {**_BERT, "block_size": 4, "num_random_blocks": 1, "hidden_act": "gelu_new"}
_BIASED = dict.fromkeys(("norm_bias", "attention_bias", "mlp_bias", "classifier_bias"), True)

CASES: dict[str, Case] = {
    "big-bird": Case("BigBirdModel", _BIG_BIRD),
    "big-bird-wide": Case("BigBirdModel", {**_BIG_BIRD, "num_random_blocks": 2, "block_size": 5}),
    "big-bird-full": Case("BigBirdModel", {**_BIG_BIRD, "attention_type": "original_full"}),
    "big-bird-masked-lm": Case("BigBirdForMaskedLM", _BIG_BIRD),
    "big-bird-pre-training": Case("BigBirdForPreTraining", _BIG_BIRD),
    "big-bird-sequence": Case("BigBirdForSequenceClassification", _BIG_BIRD),
    "big-bird-token": Case("BigBirdForTokenClassification", _BIG_BIRD),
    "clip-text": Case("CLIPTextModel", _CLIP),
    "siglip-text": Case("SiglipTextModel", _CLIP),
    "bert": Case("BertModel", _BERT),
    "bert-masked-lm": Case("BertForMaskedLM", _BERT),
    "bert-masked-lm-untied": Case("BertForMaskedLM", {**_BERT, "tie_word_embeddings": False}),
    "bert-sequence": Case("BertForSequenceClassification", _BERT),
    "bert-cross-encoder": Case("BertForSequenceClassification", {**_BERT, "num_labels": 1}),
    "bert-relu": Case("BertForSequenceClassification", {**_BERT, "hidden_act": "relu"}),
    "bert-token": Case("BertForTokenClassification", _BERT),
    "bert-span": Case("BertForQuestionAnswering", {**_BERT, "num_labels": 2}),
    "modernbert": Case("ModernBertModel", _MODERN),
    "modernbert-biased": Case("ModernBertModel", {**_MODERN, **_BIASED}),
    "modernbert-masked-lm": Case("ModernBertForMaskedLM", _MODERN),
    "modernbert-masked-lm-biased": Case("ModernBertForMaskedLM", {**_MODERN, **_BIASED}),
    "modernbert-sequence-cls": Case("ModernBertForSequenceClassification", _MODERN),
    "modernbert-sequence-mean": Case(
        "ModernBertForSequenceClassification", {**_MODERN, "classifier_pooling": "mean"}
    ),
    "modernbert-token": Case("ModernBertForTokenClassification", _MODERN),
    "modernbert-span": Case("ModernBertForQuestionAnswering", {**_MODERN, "num_labels": 2}),
    "roberta": Case("RobertaModel", _ROBERTA, lowest_id=2),
    "roberta-masked-lm": Case("RobertaForMaskedLM", {**_ROBERTA, "hidden_act": "relu"}, lowest_id=2),
    "roberta-sequence": Case("RobertaForSequenceClassification", _ROBERTA, lowest_id=2),
    "roberta-token": Case("RobertaForTokenClassification", _ROBERTA, lowest_id=2),
    "roberta-span": Case("RobertaForQuestionAnswering", {**_ROBERTA, "num_labels": 2}, lowest_id=2),
    "xlm-roberta": Case("XLMRobertaModel", {**_ROBERTA, "pad_token_id": 0}),
    "xlm-roberta-masked-lm": Case("XLMRobertaForMaskedLM", _ROBERTA, lowest_id=2),
    "xlm-roberta-sequence": Case(
        "XLMRobertaForSequenceClassification", {**_ROBERTA, "num_labels": 1}, lowest_id=2
    ),
    "xlm-roberta-token": Case("XLMRobertaForTokenClassification", _ROBERTA, lowest_id=2),
    "xlm-roberta-span": Case("XLMRobertaForQuestionAnswering", {**_ROBERTA, "num_labels": 2}, lowest_id=2),
    "deberta": Case("DebertaV2Model", _DEBERTA),
    "deberta-plain": Case("DebertaV2Model", _DEBERTA_PLAIN),
    "deberta-convolved": Case(
        "DebertaV2Model", {**_DEBERTA, "conv_kernel_size": 5, "conv_act": "gelu", "type_vocab_size": 2}
    ),
    "deberta-convolved-tanh": Case("DebertaV2ForTokenClassification", {**_DEBERTA, "conv_kernel_size": 3}),
    "deberta-c2p": Case("DebertaV2Model", {**_DEBERTA, "pos_att_type": ["c2p"], "share_att_key": False}),
    "deberta-p2c": Case("DebertaV2Model", {**_DEBERTA_PLAIN, "pos_att_type": ["p2c"]}),
    "deberta-masked-lm": Case("DebertaV2ForMaskedLM", _DEBERTA),
    "deberta-sequence": Case("DebertaV2ForSequenceClassification", _DEBERTA),
    "deberta-cross-encoder": Case("DebertaV2ForSequenceClassification", {**_DEBERTA, "num_labels": 1}),
    "deberta-token": Case("DebertaV2ForTokenClassification", _DEBERTA),
    "deberta-span": Case("DebertaV2ForQuestionAnswering", {**_DEBERTA, "num_labels": 2}),
    "distilbert": Case("DistilBertModel", _DISTILBERT),
    "distilbert-masked-lm": Case("DistilBertForMaskedLM", {**_DISTILBERT, "activation": "relu"}),
    "distilbert-sequence": Case("DistilBertForSequenceClassification", _DISTILBERT),
    "distilbert-token": Case("DistilBertForTokenClassification", _DISTILBERT),
    "distilbert-span": Case("DistilBertForQuestionAnswering", {**_DISTILBERT, "num_labels": 2}),
    "longformer": Case("LongformerModel", _LONGFORMER, lowest_id=2),
    "longformer-masked-lm": Case("LongformerForMaskedLM", _LONGFORMER, lowest_id=2),
    "longformer-sequence": Case("LongformerForSequenceClassification", _LONGFORMER, lowest_id=2),
    "longformer-cross-encoder": Case(
        "LongformerForSequenceClassification",
        {**_LONGFORMER, "num_labels": 1, "attention_window": 8},
        lowest_id=2,
    ),
    "longformer-token": Case("LongformerForTokenClassification", _LONGFORMER, lowest_id=2),
    "mpnet": Case("MPNetModel", _MPNET, lowest_id=2),
    "mpnet-masked-lm": Case("MPNetForMaskedLM", _MPNET, lowest_id=2),
    "mpnet-sequence": Case("MPNetForSequenceClassification", _MPNET, lowest_id=2),
    "mpnet-token": Case("MPNetForTokenClassification", _MPNET, lowest_id=2),
    "mpnet-span": Case("MPNetForQuestionAnswering", {**_MPNET, "num_labels": 2}, lowest_id=2),
}
