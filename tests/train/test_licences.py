from __future__ import annotations

import pytest

from cynosure.train.licences import is_permissive, licence_of, permissive_packages


@pytest.mark.parametrize(
    "licence",
    [
        "MIT", "BSD-3-Clause", "Apache 2.0 License", "PSF-2.0", "MIT License", "Apache-2.0 AND MIT",
        "Apache-2.0 AND Apache-2.0 WITH LLVM-exception AND BSD-2-Clause", "GPL-3.0-only OR MIT",
        "ISC License (ISCL)",
    ],
)  # fmt: skip
def test_what_asks_for_a_notice_only_is_taken(licence: str) -> None:
    assert is_permissive(licence)


@pytest.mark.parametrize(
    "licence",
    ["", "MPL-2.0", "MPL-2.0 AND MIT", "LGPL-2.1-or-later", "GPL-3.0-only OR MPL-2.0", "any-OSI",
     "Dual License", "(MIT OR GPL-2.0) AND GPL-3.0"],
)  # fmt: skip
def test_what_asks_for_more_or_says_nothing_is_not(licence: str) -> None:
    assert not is_permissive(licence)


def test_the_expression_counts_before_the_text_and_that_before_the_classifiers() -> None:
    classifier = ("Classifier", "License :: OSI Approved :: BSD License")
    assert licence_of([classifier, ("License", "MIT"), ("License-Expression", "GPL-3.0")]) == "GPL-3.0"
    assert licence_of([classifier, ("License", "MIT")]) == "MIT"
    assert licence_of([("License", "Copyright (c)\n all of it"), classifier]) == "BSD License"
    assert (
        licence_of([classifier, ("Classifier", "License :: OSI Approved :: MIT License")])
        == "BSD License AND MIT License"
    )
    assert licence_of([("Name", "silent")]) == ""


def test_packages_of_this_environment() -> None:
    found = {package.name: package for package in permissive_packages(left_out=("Jinja2",))}
    assert found["numpy"].version
    assert is_permissive(found["numpy"].licence)
    # Positive control: a package of the test extra under another licence.
    assert "hypothesis" not in found
    assert "jinja2" not in found
