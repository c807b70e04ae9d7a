"""Signed addresses: whoever has one may fetch that picture until it expires, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import hmac
from urllib.parse import parse_qsl, unquote, urlencode


class Signer:
    """HMAC-SHA256 over path and query, in whichever order and spelling the query comes."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def sign(self, address: str, expires: int) -> str:
        """The address with ``expires`` (seconds since 1970) and ``signature`` added."""
        path, _, query = address.partition("?")
        dated = "&".join(filter(None, (query, f"expires={expires}")))
        return f"{path}?{dated}&signature={self._signature(unquote(path), dated)}"

    def expiry(self, path: str, query: str) -> int | None:
        """When a signed address expires; None if its signature is not ours.

        ``path`` is decoded, ``query`` is not, as in an ASGI scope.
        """
        pairs = parse_qsl(query, keep_blank_values=True)
        given = [value for name, value in pairs if name == "signature"]
        expires = [value for name, value in pairs if name == "expires"]
        if len(given) != 1 or len(expires) != 1 or not expires[0].isdecimal():
            return None
        expected = self._signature(path, query)
        if not hmac.compare_digest(expected.encode(), given[0].encode(errors="replace")):
            return None
        return int(expires[0])

    def _signature(self, path: str, query: str) -> str:
        pairs = [
            pair for pair in parse_qsl(query, keep_blank_values=True) if pair[0] != "signature"
        ]
        message = f"{path}?{urlencode(sorted(pairs))}".encode(errors="replace")
        digest = hmac.digest(self._secret, message, hashlib.sha256)
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")
