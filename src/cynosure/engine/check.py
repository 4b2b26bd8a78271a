"""Say what is wrong with a request for a model, before anything is computed. Knows nothing of tensors."""

from __future__ import annotations

from cynosure.core.errors import InputError, InputTooLong
from cynosure.engine.features import FeatureShape
from cynosure.engine.request import Request
from cynosure.engine.session import Session
from cynosure.engine.watch import Watchable


def check_request(
    request: Request, vocab_size: int, max_model_len: int | None, image_token_id: int | None = None
) -> None:
    """Raise what a decoder can't take; the same where it is sent and where it is computed.

    Args:
        request: what is asked.
        vocab_size: ids that there are.
        max_model_len: tokens of prompt and answer.
        image_token_id: what keeps the places of images, where the model reads any.

    Raises:
        InputError: a token id is not in the vocabulary, or what the model does not read is sent, or a beam
            search is asked for.
        InputTooLong: prompt and answer would pass the longest sequence that the model takes.
    """
    _check_ids(request, vocab_size, image_token_id)
    if request.features is not None:
        raise InputError("features are sent; this model reads tokens. Leave them out.")
    if request.params.beams is not None:
        raise InputError("beams are set; only encoder-decoders search along beams here. Leave them out.")
    if max_model_len is not None and request.max_num_tokens > max_model_len:
        raise InputTooLong(
            f"the prompt has {len(request.token_ids)} tokens and may get {request.params.max_tokens} more; "
            f"the limit is {max_model_len} in all. Shorten it, or lower max_tokens."
        )


def check_stateful(request: Request) -> None:
    """Raise what a model can't do that carries a state from token to token.

    Raises:
        InputError: attention is to be weighed, denied or watched, or a session to be kept.
    """
    reason = "this model carries a state past every token"
    if request.bias:
        raise InputError(
            f"attention is to be weighed or denied, and {reason}, which no weight holds back. Leave the text "
            "out of the prompt, or ask a model that only attends."
        )
    if request.watch is not None:
        raise InputError(f"attention is asked for, and {reason}, which is not watched here. Leave it out.")
    if request.session is not None:
        raise InputError(
            f"session {request.session.name[:60]!r} can't be kept: {reason}, and states are not pinned here. "
            "Leave the name out: what is kept of earlier requests is found without."
        )


def check_seq2seq_request(
    request: Request,
    vocab_size: int,
    max_model_len: int | None,
    *,
    max_input_len: int | None = None,
    features: FeatureShape | None = None,
) -> None:
    """Raise what an encoder-decoder can't take: prompt and answer are sequences of their own.

    Args:
        request: what is asked.
        vocab_size: ids that there are.
        max_model_len: positions of an answer.
        max_input_len: tokens of an input.
        features: what the encoder reads where it reads no tokens.

    Raises:
        InputError: a token id is not in the vocabulary; the encoder reads features and got none, others, or
            got them in vain; or speculation, a session, or the prompt's log-probabilities are asked for.
        InputTooLong: prompt or answer would pass the longest sequence that the model takes.
    """
    _check_ids(request, vocab_size)
    _check_features(request, features)
    if request.speculation:
        raise InputError("speculation is asked for; an encoder-decoder guesses no tokens here. Leave it out.")
    if request.session is not None:
        raise InputError(
            f"session {request.session.name[:60]!r} can't be kept: an encoder-decoder keeps no pages between "
            "requests. Leave it out."
        )
    if request.adapter is not None:
        raise InputError(
            f"adapter {request.adapter[:60]!r} is asked for; an encoder-decoder takes none here. Leave it "
            "out."
        )
    if request.page_selection is not None:
        raise InputError(
            "page_selection is set; an encoder-decoder attends to all pages here. Leave it out, or ask a "
            "decoder."
        )
    if request.watch is not None or request.bias:
        raise InputError(
            "attention is asked for; an encoder-decoder reads its prompt in another part, which is not "
            "watched here. Leave it out, or ask a decoder."
        )
    if request.params.prompt_logprobs is not None:
        raise InputError(
            "prompt_logprobs is set; an encoder-decoder reads its prompt and predicts none of it. Leave it "
            "out."
        )
    # The last token of an answer is never read; the first that is read, the model's own, is not counted.
    num_given = 0 if request.features is None else len(request.token_ids) - 1
    num_answered = num_given + request.params.max_tokens
    if max_model_len is not None and num_answered > max_model_len:
        raise InputTooLong(
            f"the answer may get {num_answered} tokens; the limit is {max_model_len}. Lower max_tokens."
        )
    num_read = len(request.token_ids)
    if request.features is None and max_input_len is not None and num_read > max_input_len:
        raise InputTooLong(f"the prompt has {num_read} tokens; the limit is {max_input_len}. Shorten it.")


def check_watch(request: Request, watchable: Watchable | None) -> None:
    """Raise where heads are to be watched that a model does not have.

    Raises:
        InputError: there is no such layer, or no such head in it; or the model can't be watched at all.
    """
    if request.watch is None:
        return
    if watchable is None:
        raise InputError("attention is asked for; this model is not watched here. Leave it out.")
    num_heads = watchable.num_heads
    for layer, head in request.watch.heads:
        if layer >= len(num_heads) or head >= num_heads[layer]:
            has = f"{num_heads[layer]} heads" if layer < len(num_heads) else "no such layer"
            raise InputError(
                f"head {head} of layer {layer} is to be watched; of {len(num_heads)} layers, this one has "
                f"{has}. Count from 0."
            )


def check_session(session: Session, has_prefix_cache: bool, has_disk: bool) -> None:
    """Raise why an engine can't keep a session.

    Raises:
        InputError: pages are not kept, or not on disk.
    """
    if not has_prefix_cache:
        raise InputError(
            f"session {session.name[:60]!r} can't be kept: this engine keeps no pages. Leave the name out, "
            "or start it with a prefix cache."
        )
    if session.is_on_disk and not has_disk:
        raise InputError(
            f"session {session.name[:60]!r} is to be kept on disk, and this engine has no folder for it. "
            "Keep it in memory, or start with --cache-dir."
        )


def check_page_selection(request: Request, refusal: str) -> None:
    """Raise where pages are selected and an engine can't.

    Raises:
        InputError: `refusal` says why.
    """
    if request.page_selection is not None and refusal:
        raise InputError(
            f"page_selection is set, and pages can't be selected: {refusal}. Leave it out, or start with "
            "--page-bounds where a model can."
        )


def check_speculation(speculation: bool | None, num_speculative_tokens: int) -> None:
    """Raise where speculation is asked for by name and an engine does none.

    Raises:
        InputError: it guesses nothing.
    """
    if speculation and not num_speculative_tokens:
        raise InputError(
            "speculation is asked for, and this engine guesses no tokens. Leave it out, or start with "
            "--num-speculative-tokens."
        )


def _check_features(request: Request, shape: FeatureShape | None) -> None:
    given = None if request.features is None else request.features.shape
    if given == shape:
        return
    if given is None:
        assert shape is not None
        raise InputError(
            f"tokens are sent alone; this model reads features of {shape.num_bins} bins and "
            f"{shape.num_frames} frames. Send them, or ask a model that reads text."
        )
    if shape is None:
        raise InputError("features are sent; this model reads tokens. Leave them out.")
    raise InputError(
        f"features of {given.num_bins} bins and {given.num_frames} frames are sent; this model reads "
        f"{shape.num_bins} bins and exactly {shape.num_frames} frames. Pad with silence, or cut."
    )


def _check_ids(request: Request, vocab_size: int, image_token_id: int | None = None) -> None:
    if request.images and image_token_id is None:
        raise InputError(
            f"{len(request.images)} images are sent; this model reads none. Leave them out, or ask a model "
            "that does."
        )
    # An image's token may lie behind those that an answer can hold.
    largest = max((token_id for token_id in request.token_ids if token_id != image_token_id), default=0)
    if largest >= vocab_size:
        raise InputError(
            f"the prompt holds token id {largest}; the vocabulary is 0..{vocab_size - 1}. "
            "Encode it with this model's tokenizer."
        )
    request.params.check_vocabulary(vocab_size)
