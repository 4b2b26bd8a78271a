"""Hold one request for each address, as the description of the API shows them. Computes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_QUESTION = "How do I merge sorted lists?"
_PASSAGES = ["Merge multiple sorted inputs.", "Return a new sorted list."]
_ASKED = [{"role": "user", "content": "Name a star."}]

#: By address and by a name for the example; `chat-model` and its like are named when the server starts.
EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "/v1/ask": {"question": {"question": _QUESTION, "max_results": 3}},
    "/v1/embeddings": {"two": {"model": "all-MiniLM-L6-v2", "input": _PASSAGES}},
    "/v1/files": {"notes": {"file": "# Bread\n\nBake it at 230 degrees.", "purpose": "assistants"}},
    "/v1/vector_stores": {"empty": {"name": "recipes"}},
    "/v1/vector_stores/{store_id}": {"name": {"name": "my recipes"}},
    "/v1/vector_stores/{store_id}/files": {"one": {"file_id": "file-a1", "attributes": {"year": 2024}}},
    "/v1/vector_stores/{store_id}/files/{file_id}": {"year": {"attributes": {"year": 2025}}},
    "/v1/vector_stores/{store_id}/file_batches": {"two": {"file_ids": ["file-a1", "file-b2"]}},
    "/v1/vector_stores/{store_id}/search": {"query": {"query": _QUESTION, "max_num_results": 3}},
    "/v1/rerank": {"texts": {"model": "rank-model", "query": _QUESTION, "documents": _PASSAGES, "top_n": 1}},
    "/v2/rerank": {"texts": {"model": "rank-model", "query": _QUESTION, "documents": _PASSAGES}},
    "/score": {"one_to_many": {"model": "rank-model", "text_1": _QUESTION, "text_2": _PASSAGES}},
    "/v1/score": {"one_to_many": {"model": "rank-model", "text_1": _QUESTION, "text_2": _PASSAGES}},
    "/v1/decisions": {
        "predicate": {
            "model": "chat-model",
            "input": "The pole star stands still.",
            "questions": [{"type": "predicate", "name": "sky", "instructions": "It is about the sky."}],
        }
    },
    "/v1/drift/reference": {"model": {"model": "chat-model"}},
    "/v1/load_lora_adapter": {"folder": {"lora_name": "sailor", "lora_path": "adapters/sailor"}},
    "/v1/unload_lora_adapter": {"name": {"lora_name": "sailor"}},
    "/v1/completions": {
        "text": {"model": "chat-model", "prompt": "The pole star", "max_tokens": 8, "temperature": 0}
    },
    "/v1/chat/completions": {"question": {"model": "chat-model", "messages": _ASKED, "max_tokens": 8}},
    "/v1/responses": {"question": {"model": "chat-model", "input": "Name a star.", "max_output_tokens": 8}},
    "/v1/messages": {"question": {"model": "chat-model", "messages": _ASKED, "max_tokens": 8}},
    "/v1/messages/count_tokens": {"question": {"model": "chat-model", "messages": _ASKED}},
    "/tokenize": {"text": {"model": "chat-model", "prompt": "The pole star"}},
    "/detokenize": {"ids": {"model": "chat-model", "tokens": [5, 6]}},
}
