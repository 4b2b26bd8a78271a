from __future__ import annotations

from cynosure.train.code_corpus_overlap import LENGTH, Overlap

SECRET = (
    "def merge(left, right, key=None):\n    while left and right:\n        yield pick(left, right, key)\n"
)


def test_a_run_in_common_is_found_wherever_it_stands() -> None:
    overlap = Overlap([SECRET, "import os\n"])
    assert len(overlap)
    assert overlap.is_shared_by(f"import sys\n\n\n{SECRET}\nprint(1)\n")
    assert overlap.is_shared_by(SECRET.replace("    ", "\t")), "white space is no token"
    assert not overlap.is_shared_by(SECRET.replace("left", "first"))
    assert not overlap.is_shared_by("")


def test_twelve_tokens_are_not_thirteen() -> None:
    words = [f"word{number}" for number in range(LENGTH)]
    overlap = Overlap([" ".join(words)])
    assert overlap.num_shared(" ".join(words)) == 1
    assert not overlap.is_shared_by(" ".join(words[:-1]))
    assert not overlap.is_shared_by(" ".join([*words[:-1], "other"]))


def test_what_everybody_writes_teaches_nothing() -> None:
    main = 'if __name__ == "__main__":\n    unittest.main()\n'
    zeros = "[" + "0, " * 30 + "]"
    assert not Overlap([main, zeros]).is_shared_by(main + zeros)
    # Of four held-out files, all share the head; one alone keeps it for itself.
    assert Overlap([SECRET]).is_shared_by(SECRET)
    assert not Overlap([SECRET] * 4).is_shared_by(SECRET)


def test_words_are_counted_once_in_a_run() -> None:
    same = "a b c a b c a b c a b c a b c"
    assert len(Overlap([same])) == 0
    assert len(Overlap(["a b c d e f a b c d e f a"])) == 1
