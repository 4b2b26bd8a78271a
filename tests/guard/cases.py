"""Numbers with right checksums, and the ways they are written. Nothing here belongs to anybody.

Secrets are put together from parts, so that scanners of repositories do not take them for leaks.
"""

from __future__ import annotations

import re

CARD = "4111 1111 1111 1111"
PLAIN_CARD = CARD.replace(" ", "")
IBAN = "DE89 3704 0044 0532 0130 00"
EMAIL = "ada@example.org"
PHONE = "+49 30 901820"
GITHUB = "gh" + "p_" + "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF3hJ6"
AWS_ID = "AK" + "IA" + "QRSTUVWX23456723"
OPENAI = "s" + "k-" + "Ab1" * 16
JWT = "ey" + "JhbGciOiJIUzI1NiJ9." + "ey" + "JzdWIiOiIxMjM0NTY3ODkwIn0." + "dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"
KEY_LINE = "MIIEowIBAAKCAQEA0Zp7Vb9kqk3n5g8mJx2tYw4c6s1dLhQeRfUiOpAaSsDdFfGg"


def private_key(num_lines: int = 3, name: str = "RSA PRIVATE KEY") -> str:
    lines = "\n".join([KEY_LINE] * num_lines)
    return f"-----BEGIN {name}-----\n{lines}\nshort+last==\n-----END {name}-----"


#: What is drawn or measured anew each time, and may hold any digits by chance.
_CHANCE = re.compile(r"0x[0-9a-f]+|[0-9a-f]{32,}|\d+\.\d+|[\"']created[\"']: ?\d+")


def without_ids(text: str) -> str:
    """Leave out ids, digests, times and dates of a text in which a secret is looked for."""
    return _CHANCE.sub("", text)
