"""Say which words of a text an encoder attended to, for vectors and for ranks. Knows no protocol."""

from __future__ import annotations

from collections.abc import Sequence

from cynosure.core.errors import InputError, InputTooLong
from cynosure.server.schemas.evidence import EvidenceBody
from cynosure.server.services import EmbeddingModel, Services

#: Texts of one request whose words are told: each is read by itself.
MAX_TEXTS = 64

#: What they are, and how they become fewer.
INPUTS = ("inputs", "Send fewer")
RANKED = ("ranked documents", "Send top_n, or fewer documents")

_OF_A_VECTOR = "all heads of the last layer, from every token of the text"
_OF_A_PAIR = "all heads of the last layer, from the query and the first token"


async def evidence_of_vectors(model: EmbeddingModel, texts: Sequence[str]) -> list[EvidenceBody]:
    """What an embedder attended to in each text.

    Raises:
        InputTooLong: they are too many.
    """
    check_few(len(texts), *INPUTS)
    return [EvidenceBody.of(await model.attended(text), _OF_A_VECTOR) for text in texts]


async def evidence_of_ranks(
    services: Services, name: str, query: str, texts: Sequence[str]
) -> list[EvidenceBody]:
    """What a ranking model attended to in each text, from a query.

    Raises:
        InputTooLong: they are too many.
        InputError: the model reads texts apart.
    """
    check_few(len(texts), *RANKED)
    ranker = services.rankers.get(name)
    if ranker is None:
        raise InputError(
            f"{name[:100]!r} reads query and documents apart, and attends to none from the other. Ask a "
            "cross-encoder, or leave attention out."
        )
    return [EvidenceBody.of(await ranker.attended(query, text), _OF_A_PAIR) for text in texts]


def check_few(number: int, what: str, remedy: str) -> None:
    """Raise `InputTooLong` where there are more than are told of."""
    if number > MAX_TEXTS:
        raise InputTooLong(
            f"attention is asked of {number} {what}; the limit is {MAX_TEXTS}. {remedy}, or leave "
            "attention out."
        )
