"""Say how much words and vectors count in a caller's files. Knows nothing of files."""

from __future__ import annotations

from cynosure.retrieval.rank import Calibration, Weights

#: What was fitted on docstrings alone and holds for any text; nobody wrote how files are asked for.
FILE_WEIGHTS = Weights(similarity=15.0, bm25=0.041)

FILE_CALIBRATION = Calibration(
    threshold=0.4 * FILE_WEIGHTS.similarity,
    method="a rule, and not fitted: a cosine of 0.4, or less where words of the question occur",
)
