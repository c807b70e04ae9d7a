"""API keys: the service knows their SHA-256 only, by a name that logs and metrics may show."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping


def hash_key(key: str) -> str:
    """What `TESSERA_API_KEYS` holds of a key. Keys are long and random: no salt, no stretching."""
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()


class Keyring:
    """The keys that open the service; none at all opens it to everyone."""

    def __init__(self, hashes: Mapping[str, str]) -> None:
        self._hashes = {name: digest.lower() for name, digest in hashes.items()}

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def name_of(self, key: str) -> str | None:
        """Whose key it is. Takes the same time for every wrong key."""
        given = hash_key(key)
        found = None
        for name, digest in self._hashes.items():
            if hmac.compare_digest(digest, given):
                found = name
        return found
