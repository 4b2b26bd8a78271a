"""Keep what is known of a model's heads in one signed file. Knows nothing of how it was found out.

A profile says of which model it is, by the fingerprint of its files, and holds sections, plain JSON each:
which heads are of which kind, and weights that were fitted. Whoever fits a section owns what else it holds;
where it names heads it has `heads`, pairs of a layer and a head, and may have `weights`, one for each.
"""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cynosure.core.errors import NotFound, ProfileError
from cynosure.insight.profile_signature import digest_of, is_signed_by, signature_of

FORMAT, VERSION = "cynosure-head-profile", 1
#: A profile of a thousand heads with all its sections takes far less.
MAX_BYTES = 16 << 20

_REMEDY = "Make it again: `cynosure profile MODEL --out FILE`."


@dataclass(frozen=True)
class HeadProfile:
    """What is known of the heads of one model.

    - `model`: the fingerprint of its folder; `name`: what it was called; `num_heads`: of each layer.
    - `made`: by which recipe, and when.
    - `sections`: by name, JSON objects.
    """

    model: str
    name: str
    num_heads: tuple[int, ...]
    made: Mapping[str, object]
    sections: Mapping[str, object]

    def __post_init__(self) -> None:
        """Check that every head that a section names is one of the model's.

        Raises:
            ProfileError: it is not, or weights are not one for each head, or a section is no object.
        """
        for name, section in self.sections.items():
            if not isinstance(section, Mapping):
                raise ProfileError(f"section {name!r} of profile {self.name!r} is no JSON object. {_REMEDY}")
            for holder in _holders_of_heads(section):
                _check_heads(f"section {name!r} of profile {self.name!r}", holder, self.num_heads)

    def with_section(self, name: str, value: Mapping[str, object]) -> HeadProfile:
        """The same profile with one more section, or another of that name.

        Raises:
            ProfileError: the section names heads that the model lacks.
        """
        return replace(self, sections={**self.sections, name: dict(value)})

    def section(self, name: str) -> Mapping[str, Any] | None:
        """A section by its name; None where nobody fitted it."""
        found = self.sections.get(name)
        return found if isinstance(found, Mapping) else None

    def check_model(self, fingerprint: str, num_heads: tuple[int, ...], called: str) -> None:
        """Check that it is of this very model, `called` so.

        Raises:
            ProfileError: it is of another, whose heads may do something else.
        """
        if fingerprint != self.model:
            raise ProfileError(
                f"head profile {self.name!r} is of a model with fingerprint {self.model[:12]}; that of "
                f"{called!r} is {fingerprint[:12]}. Heads of other weights may do something else. Make one "
                "of this model: `cynosure profile FOLDER --out FILE`."
            )
        if num_heads != self.num_heads:
            raise ProfileError(
                f"head profile {self.name!r} is of layers with {_counts(self.num_heads)} heads; {called!r} "
                f"has {_counts(num_heads)}. {_REMEDY}"
            )

    @property
    def digest(self) -> str:
        """SHA-256 of all that it says."""
        return digest_of(self.as_json())

    def as_json(self) -> dict[str, object]:
        """What the file holds beside digest and signature."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "model": self.model,
            "name": self.name,
            "num_heads": list(self.num_heads),
            "made": dict(self.made),
            "sections": dict(self.sections),
        }


def write_profile(path: Path, profile: HeadProfile, key: bytes | None = None) -> None:
    """Write a profile, whole or not at all, signed where there is a key.

    Raises:
        ProfileError: it can't be written there, or holds what JSON can't.
    """
    content = profile.as_json()
    try:
        digest = digest_of(content)
    except (TypeError, ValueError) as fault:
        raise ProfileError(f"profile {profile.name!r} holds what JSON can't: {fault}. Convert it.") from fault
    signature = None if key is None else signature_of(digest, key)
    text = json.dumps(content | {"digest": digest, "signature": signature}, indent=1, ensure_ascii=False)
    scratch = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        scratch.write_text(text + "\n", encoding="utf-8")
        scratch.replace(path)
    except OSError as fault:
        raise ProfileError(
            f"head profile {path} can't be written: {fault.strerror}. Name another place."
        ) from fault
    finally:
        scratch.unlink(missing_ok=True)


def read_profile(path: Path, key: bytes | None = None) -> HeadProfile:
    """Read a profile, and check that it is as it was written; with a key, also by whom.

    Raises:
        NotFound: there is no such file.
        ProfileError: it is no profile, of another version, altered, or not signed with the key.
    """
    content = _parsed(path)
    if content.get("format") != FORMAT:
        raise ProfileError(f"{path} is no head profile. Make one: `cynosure profile MODEL --out FILE`.")
    if content.get("version") != VERSION:
        raise ProfileError(
            f"head profile {path} is of version {content.get('version')}; this release reads {VERSION}. "
            f"{_REMEDY}"
        )
    digest, signature = content.pop("digest", None), content.pop("signature", None)
    if not isinstance(digest, str) or digest != digest_of(content):
        raise ProfileError(f"head profile {path} is not as it was written: its digest differs. {_REMEDY}")
    if key is not None and not (isinstance(signature, str) and is_signed_by(digest, signature, key)):
        what = "is not signed" if signature is None else "was altered, or signed with another key"
        raise ProfileError(
            f"head profile {path} {what}. Make it here, or bring the key along that it was signed with."
        )
    return _profile_of(path, content)


def _parsed(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError as fault:
        raise NotFound(
            f"there is no head profile {path}. Make one: `cynosure profile MODEL --out FILE`."
        ) from fault
    except OSError as fault:
        raise ProfileError(
            f"head profile {path} can't be read: {fault.strerror}. Name another file."
        ) from fault
    if len(raw) > MAX_BYTES:
        raise ProfileError(
            f"{path} has more than {MAX_BYTES >> 20} MiB, the limit of a head profile. {_REMEDY}"
        )
    try:
        content = json.loads(raw, parse_constant=_refused)
    except (ValueError, RecursionError) as fault:
        raise ProfileError(f"head profile {path} is no JSON: {fault}. {_REMEDY}") from fault
    if not isinstance(content, dict):
        raise ProfileError(f"{path} is no head profile: it is no JSON object. {_REMEDY}")
    return content


def _refused(constant: str) -> float:
    raise ValueError(f"{constant} is no number of JSON")


def _profile_of(path: Path, content: Mapping[str, Any]) -> HeadProfile:
    kinds = {"model": str, "name": str, "num_heads": list, "made": dict, "sections": dict}
    known = {"format", "version", *kinds}
    wrong = [name for name, kind in kinds.items() if not isinstance(content.get(name), kind)]
    wrong += sorted(content.keys() - known)
    if not wrong and not all(_is_count(count) for count in content["num_heads"]):
        wrong = ["num_heads"]
    if wrong:
        raise ProfileError(f"head profile {path}: {wrong[0]!r} is missing, wrong or not known. {_REMEDY}")
    return HeadProfile(
        content["model"],
        content["name"],
        tuple(content["num_heads"]),
        content["made"],
        content["sections"],
    )


def _holders_of_heads(value: object) -> Iterator[Mapping[str, Any]]:
    """All objects in a section that name heads."""
    if isinstance(value, Mapping):
        if "heads" in value:
            yield value
        for one in value.values():
            yield from _holders_of_heads(one)


def _check_heads(where: str, holder: Mapping[str, Any], num_heads: tuple[int, ...]) -> None:
    heads, weights = holder["heads"], holder.get("weights")
    if not isinstance(heads, list | tuple):
        raise ProfileError(f"{where}: its heads are no list. {_REMEDY}")
    for head in heads:
        if not _is_head(head, num_heads):
            raise ProfileError(
                f"{where} names head {head}, which the model lacks; its layers have {_counts(num_heads)} "
                f"heads. {_REMEDY}"
            )
    if weights is not None and not (
        isinstance(weights, list | tuple) and len(weights) == len(heads) and all(map(_is_finite, weights))
    ):
        raise ProfileError(
            f"{where}: there must be one finite weight for each of {len(heads)} heads. {_REMEDY}"
        )


def _is_head(head: object, num_heads: tuple[int, ...]) -> bool:
    if not (isinstance(head, list | tuple) and len(head) == 2 and all(map(_is_count, head))):
        return False
    layer, place = head
    return layer < len(num_heads) and place < num_heads[layer]


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _counts(num_heads: tuple[int, ...]) -> str:
    """Such as `24 x 14`."""
    if len(set(num_heads)) == 1:
        return f"{len(num_heads)} x {num_heads[0]}"
    return ", ".join(map(str, num_heads)) or "no"
