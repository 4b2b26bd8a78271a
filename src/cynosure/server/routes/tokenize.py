"""Serve `/tokenize` and `/detokenize`. Knows nothing of how a text is cut."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from starlette.concurrency import run_in_threadpool

from cynosure.core.errors import InputError
from cynosure.models.text.tokenizer import Tokenizer
from cynosure.server.answers.chat_turn import build_prompt
from cynosure.server.routes.access import Ready, known_query
from cynosure.server.schemas.tokenize import (
    Detokenized,
    DetokenizeRequest,
    SegmentBody,
    TokenizeRequest,
    Tokens,
)
from cynosure.server.services import CompletionModel

router = APIRouter(tags=["tokenize"], dependencies=[Depends(known_query())])


@router.post("/tokenize")
async def tokenize(body: TokenizeRequest, services: Ready) -> Tokens:
    """Say which tokens a model would read."""
    model = services.completer(body.model)
    tokens = await (
        _of_prompt(model, body, body.prompt) if body.prompt is not None else _of_chat(model, body)
    )
    if body.return_token_strs:
        tokens.token_strs = [model.tokenizer.id_to_token(token_id) or "" for token_id in tokens.tokens]
    return tokens


@router.post("/detokenize")
async def detokenize(body: DetokenizeRequest, services: Ready) -> Detokenized:
    """Say which text tokens are, control tokens included."""
    tokenizer = services.completer(body.model).tokenizer
    return Detokenized(prompt=await run_in_threadpool(_text, tokenizer, body.tokens))


async def _of_prompt(model: CompletionModel, body: TokenizeRequest, prompt: str) -> Tokens:
    add_special = body.add_special_tokens is not False
    encoding = await run_in_threadpool(model.tokenizer.encode, prompt, add_special_tokens=add_special)
    return Tokens(count=len(encoding), max_model_len=model.max_model_len, tokens=list(encoding.ids))


async def _of_chat(model: CompletionModel, body: TokenizeRequest) -> Tokens:
    variables = dict[str, object](body.chat_template_kwargs or {})
    prompt = await build_prompt(
        model, body.turns, body.offered, variables, body.add_generation_prompt is not False
    )
    ids = list(prompt.token_ids)
    tokens = Tokens(count=len(ids), max_model_len=model.max_model_len, tokens=ids)
    if body.return_segments:
        names = body.segment_names
        tokens.segments = [
            SegmentBody(name=names.get(segment.path, segment.name), path=segment.path)
            for segment in prompt.segments
        ]
        tokens.token_segments = list(prompt.token_segments)
        tokens.token_offsets = list(prompt.token_offsets)
    return tokens


def _text(tokenizer: Tokenizer, token_ids: list[int]) -> str:
    for token_id in token_ids:
        if tokenizer.id_to_token(token_id) is None:
            limit = tokenizer.vocab_size - 1
            raise InputError(f"there is no token {token_id}; ids are 0..{limit}. Send ids of this model.")
    return tokenizer.decode(token_ids, skip_special_tokens=False)
