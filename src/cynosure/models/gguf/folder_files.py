"""Say in a folder's files what a GGUF file holds beside its weights. Knows nothing of graphs or codes."""

from __future__ import annotations

import json

from cynosure.models.gguf.advice import sampling_of, templates_of
from cynosure.models.gguf.header import GgufFile
from cynosure.models.gguf.vocabulary import gguf_tokenizer, has_vocabulary
from cynosure.models.json_file import JsonValue

_DEFAULT = "default"


def folder_files(file: GgufFile) -> dict[str, str]:
    """Return texts by the paths that checkpoints' folders have them at, save for `config.json`.

    Raises:
        UnsupportedConfig: a kind of vocabulary that is not read here.
        CheckpointCorrupt: a vocabulary or a template that does not fit together.
    """
    texts: dict[str, str] = {}
    if has_vocabulary(file):
        raw, config = gguf_tokenizer(file)
        texts["tokenizer.json"] = raw.to_str(pretty=True)
        texts["tokenizer_config.json"] = _written(config)
    for name, template in templates_of(file).items():
        # A name is a caller's word: it stays a file of that folder.
        plain = name.replace("/", "_").replace("\\", "_")
        is_default = name == _DEFAULT
        texts["chat_template.jinja" if is_default else f"additional_chat_templates/{plain}.jinja"] = template
    if sampling := sampling_of(file):
        texts["generation_config.json"] = _written(sampling)
    return texts


def _written(values: dict[str, JsonValue]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"
