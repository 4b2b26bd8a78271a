"""Index a caller's own files. Knows nothing of models: it sees Protocols."""

from cynosure.retrieval.files.collection import SOURCE, Change, index_files, indexed_files
from cynosure.retrieval.files.scoring import FILE_CALIBRATION, FILE_WEIGHTS

__all__ = ["FILE_CALIBRATION", "FILE_WEIGHTS", "SOURCE", "Change", "index_files", "indexed_files"]
