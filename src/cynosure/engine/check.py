"""Say what is wrong with a request for a model, before anything is computed. Knows nothing of tensors."""

from __future__ import annotations

from cynosure.core.errors import InputError, InputTooLong
from cynosure.engine.request import Request
from cynosure.engine.session import Session


def check_request(request: Request, vocab_size: int, max_model_len: int | None) -> None:
    """Raise what a decoder can't take; the same where it is sent and where it is computed.

    Raises:
        InputError: a token id is not in the vocabulary, or a beam search is asked for.
        InputTooLong: prompt and answer would pass the longest sequence that the model takes.
    """
    _check_ids(request, vocab_size)
    if request.params.beams is not None:
        raise InputError("beams are set; only encoder-decoders search along beams here. Leave them out.")
    if max_model_len is not None and request.max_num_tokens > max_model_len:
        raise InputTooLong(
            f"the prompt has {len(request.token_ids)} tokens and may get {request.params.max_tokens} more; "
            f"the limit is {max_model_len} in all. Shorten it, or lower max_tokens."
        )


def check_seq2seq_request(request: Request, vocab_size: int, max_model_len: int | None) -> None:
    """Raise what an encoder-decoder can't take: prompt and answer are sequences of their own.

    Raises:
        InputError: a token id is not in the vocabulary; or speculation, a session, or the prompt's
            log-probabilities are asked for.
        InputTooLong: prompt or answer would pass the longest sequence that the model takes.
    """
    _check_ids(request, vocab_size)
    if request.speculation:
        raise InputError("speculation is asked for; an encoder-decoder guesses no tokens here. Leave it out.")
    if request.session is not None:
        raise InputError(
            f"session {request.session.name[:60]!r} can't be kept: an encoder-decoder keeps no pages between "
            "requests. Leave it out."
        )
    if request.params.prompt_logprobs is not None:
        raise InputError(
            "prompt_logprobs is set; an encoder-decoder reads its prompt and predicts none of it. Leave it "
            "out."
        )
    longest = max(len(request.token_ids), request.params.max_tokens)
    if max_model_len is not None and longest > max_model_len:
        raise InputTooLong(
            f"the prompt has {len(request.token_ids)} tokens and the answer may get "
            f"{request.params.max_tokens}; the limit is {max_model_len} each. Shorten it, or lower "
            "max_tokens."
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


def _check_ids(request: Request, vocab_size: int) -> None:
    if max(request.token_ids) >= vocab_size:
        raise InputError(
            f"the prompt holds token id {max(request.token_ids)}; the vocabulary is 0..{vocab_size - 1}. "
            "Encode it with this model's tokenizer."
        )
    request.params.check_vocabulary(vocab_size)
