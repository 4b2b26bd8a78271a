"""Keep and show what was measured. Hands names on."""

from cynosure.evaluate.results import Result, read_result, write_result

__all__ = ["Result", "read_result", "write_result"]
