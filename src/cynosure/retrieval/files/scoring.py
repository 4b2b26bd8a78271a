"""Say how much words and vectors count in a caller's files. Knows nothing of files."""

from __future__ import annotations

from cynosure.retrieval.rank import WEIGHTS, Calibration, Weights

#: What was fitted on docstrings and holds for any text; a file's path says nothing of how much it is used.
FILE_WEIGHTS = Weights(
    similarity=WEIGHTS.similarity, module=0.0, bm25=WEIGHTS.bm25, length=0.0, depth=0.0, deprecated=0.0
)

FILE_CALIBRATION = Calibration(
    threshold=0.4 * WEIGHTS.similarity,
    method="a rule, and not fitted: a cosine of 0.4, or less where words of the question occur",
)
