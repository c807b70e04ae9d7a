"""Every setting of the service, read once: ``TESSERA_…`` in the environment, or a ``.env`` file.

Each says what changes with it. Lists are written with commas.
"""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

import limits
from dotenv.parser import parse_stream
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    HttpUrl,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.engine.settings import EngineSettings, Seconds, split
from app.generation.resolve import Limits
from app.logs import LogFormat
from app.memory import MIB
from model.registry import shipped

PREFIX = "TESSERA_"
BYTES_PER_PIXEL = 4
"""Of an encoded picture, at most, about: a PNG of noise."""


def _pairs(value: object) -> object:
    """``a=b,c=d`` → ``{"a": "b", "c": "d"}``."""
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if not pairs or any(not (key.strip() and text.strip()) for key, _, text in pairs):
        raise ValueError("expected name=value pairs with commas between them")
    found: dict[str, str] = {}
    for key, _, text in pairs:
        if key.strip() in found:
            raise ValueError(f"{key.strip()} is given twice")
        found[key.strip()] = text.strip()
    return found


def _rate(text: str) -> str:
    try:
        several = len(limits.parse_many(text)) > 1
    except ValueError:
        raise ValueError('expected a limit such as "20000/hour" or "600/10 seconds"') from None
    if several:
        raise ValueError(f"{text}: one limit is possible, not several")
    return text


def _proxy(text: str) -> str:
    if text != "*":
        try:
            ipaddress.ip_network(text)
        except ValueError:
            message = f'{text}: expected an address, a network such as 10.0.0.0/8, or "*"'
            raise ValueError(message) from None
    return text


_ORIGIN = re.compile(r"\*|https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::\d+)?")
_HOST = re.compile(r"(?:\*\.)?[a-z0-9._-]+|\[[0-9a-f:.]+\]")


def _origin(text: str) -> str:
    if not _ORIGIN.fullmatch(text.lower()):
        message = f'{text}: expected an origin such as https://example.org, without a path, or "*"'
        raise ValueError(message)
    return text.lower()  # as browsers send it


def _host(text: str) -> str:
    if not _HOST.fullmatch(text.lower()):
        raise ValueError(f"{text}: expected a name such as pictures.example.org or *.example.org")
    return text.lower()


def _address(url: HttpUrl) -> HttpUrl:
    if url.query or url.fragment or url.username or url.password:
        raise ValueError("expected scheme, host and perhaps a path, and nothing behind it")
    return url


Proxy = Annotated[str, AfterValidator(_proxy)]
Origin = Annotated[str, AfterValidator(_origin)]
Host = Annotated[str, AfterValidator(_host)]
PublicUrl = Annotated[HttpUrl, AfterValidator(_address)]
Pairs = Annotated[dict[str, str], NoDecode, BeforeValidator(_pairs)]
Access = Literal["open", "key", "off"]
Sha256 = Annotated[str, Field(pattern="^[0-9a-fA-F]{64}$")]
RateLimit = Annotated[str, AfterValidator(_rate)]


class Settings(EngineSettings, Limits, BaseSettings):
    """How the service runs; `EngineSettings` and `Limits` are parts of it."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )

    # Where it listens.

    host: str = "127.0.0.1"
    """Address to listen on. 0.0.0.0 lets other machines in: set API keys first."""

    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """Port to listen on. 0 takes a free one and says which."""

    public_url: PublicUrl | None = None
    """How clients reach the service, e.g. https://pictures.example.org. Links in answers begin
    with it; without it they begin with the host that the request named. Needed behind a proxy
    that changes the host or serves a path of its own: X-Forwarded-Host and lists in
    X-Forwarded-Proto are not read."""

    trusted_proxies: Annotated[tuple[Proxy, ...], NoDecode, BeforeValidator(split)] = ("127.0.0.1",)
    """Addresses or networks whose X-Forwarded-For and -Proto are believed. Wrong ones let clients
    choose the address that rate limits count."""

    # Requests.

    request_timeout: Seconds = 120.0
    """A request not answered by then leaves queue and batch and gets 504."""

    max_body_bytes: Annotated[int, Field(ge=1024)] = MIB
    """Bytes of a JSON body. What is larger is refused (413) unread."""

    max_connections: Annotated[int, Field(ge=1)] = 4096
    """Connections open at once. Beyond that, the one that has been without a request for longest
    is closed. Each takes a file descriptor and some 20 KB."""

    head_timeout: Seconds = 20.0
    """A request line with headers that has not arrived by then is refused (408), and a connection
    on which nothing was sent closed."""

    write_timeout: Seconds = 60.0
    """A client that takes less than 64 KiB of a waiting answer in so long is disconnected: until
    then its answer, and the memory for its upload, are held."""

    keep_alive: Annotated[int, Field(ge=1)] = 75
    """Seconds for which a connection without a request is kept open. Longer than the balancer keeps
    it (60 with most), or that one now and then sends a request into a connection that just closed,
    and answers 502 in our place."""

    body_timeout: Seconds = 20.0
    """A body that has not arrived by then is refused (408): half-sent requests hold memory."""

    max_upload_bytes: Annotated[int, Field(ge=1024)] = 16 * MIB
    """Bytes of a form with pictures, all its files together. What is larger is refused (413)."""

    upload_timeout: Seconds = 60.0
    """A form that has not arrived by then is refused (408). Slow clients need more, and hold
    memory for longer."""

    upload_memory_bytes: Annotated[int, Field(ge=1024, validate_default=True)] = 256 * MIB
    """Memory for forms that are being received or worked on, and for their answers. Beyond that
    they are refused (503). Must have room for the largest form and the largest answer."""

    model_aliases: Pairs = Field(default_factory=dict)
    """Other names of models, e.g. gpt-image-1=emoji-flow, for clients that insist on theirs."""

    # Files.

    encode_threads: Annotated[int, Field(ge=1)] = 2
    """Threads that write PNG, WebP and JPEG. More only help where cores are idle."""

    encode_memory_bytes: Annotated[int, Field(ge=1024)] = 256 * MIB
    """Memory for images, as pixels, that are made and wait for these threads. Beyond that requests
    are refused (503); those that were accepted by then may still add theirs."""

    upload_threads: Annotated[int, Field(ge=1)] = 2
    """Threads that decode uploads and write edits, so that large ones hold up each other only."""

    file_cache_bytes: Annotated[int, Field(ge=0)] = 32 * MIB
    """Memory for encoded images; 0 keeps none. Answers repeated addresses without encoding."""

    link_max_age: Annotated[int, Field(ge=0)] = 3600
    """Seconds for which caches keep an address that does not pin its model by digest. A new
    checkpoint under the old name shows after that."""

    # What files are signed with.

    c2pa_certificates: Path | None = None
    """A PEM file: the certificate with which files are signed as C2PA says (Content Credentials),
    then those that vouch for it. Needs the extra "c2pa". Signed files differ in their bytes each
    time that they are made, and in no pixel; see docs/deployment.md."""

    c2pa_key: Path | None = None
    """A PEM file: the certificate's private key, unencrypted."""

    # The way out.

    drain_delay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Seconds between the first SIGTERM, from which /readyz is 503, and refusing new work. As long
    as the balancer takes to notice."""

    shutdown_timeout: Seconds = 30.0
    """Seconds that accepted work has to finish after that."""

    # Who may come in.

    api_keys: Annotated[dict[str, Sha256], NoDecode, BeforeValidator(_pairs)] = Field(
        default_factory=dict
    )
    """name=SHA-256 pairs of the keys that open /v1. Empty: everyone who reaches the port may draw.
    `printf %s "$KEY" | sha256sum` gives a key's hash; names appear in logs and metrics."""

    url_secret: Annotated[SecretStr, Field(min_length=16)] | None = None
    """Signs addresses, so that they work without a key until they expire. The same on every
    replica; a new one ends all signed addresses."""

    signed_url_seconds: Annotated[int, Field(ge=1)] = 7 * 24 * 3600
    """How long the addresses in answers hold, where keys are set."""

    rate_limit: RateLimit | None = None
    """Evaluations for each key or address, e.g. 20000/hour. A picture takes its steps, twice with
    guidance. What is refused gets 429."""

    rate_limit_store: str = "memory://"
    """Where they are counted. redis://host:6379 where replicas share them; while that is down,
    requests are let through."""

    cors_origins: Annotated[tuple[Origin, ...], NoDecode, BeforeValidator(split)] = ()
    """Web origins whose pages may call the service, e.g. https://example.org, or *."""

    trusted_hosts: Annotated[tuple[Host, ...], NoDecode, BeforeValidator(split)] = ()
    """Names that requests may use for the service, e.g. pictures.example.org,*.example.org. Empty:
    any, which lets requests choose the host of the addresses in answers. /livez, /readyz and
    /metrics are answered by any name: balancers and monitoring ask by address."""

    metrics_access: Access = "open"
    """/metrics is "open", needs a "key", or is "off"."""

    docs_access: Access = "open"
    """/docs and /openapi.json are "open", need a "key", for which /docs asks, or are "off"."""

    # Logs.

    log_format: LogFormat = "text"
    """"text" for people, "json" for machines: one object a line."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """INFO logs every request; WARNING only what is wrong."""

    log_prompts: bool = False
    """Whether prompts and seeds are logged. They may be personal."""

    tracing: bool = False
    """Sends a span of each request, with what it waited, computed and encoded, by OTLP to
    OTEL_EXPORTER_OTLP_ENDPOINT (http://localhost:4318). Needs the extra "otel"."""

    @field_validator("upload_memory_bytes")
    @classmethod
    def _room_for_one(cls, value: int, info: ValidationInfo) -> int:
        form, pixels = (info.data.get(f"max_upload_{of}", 0) for of in ("bytes", "pixels"))
        least = form + BYTES_PER_PIXEL * pixels
        if value < least:
            raise ValueError(f"the largest form and the largest answer take {least} bytes")
        return value

    @field_validator("port", mode="before")
    @classmethod
    def _not_a_service_link(cls, value: Any) -> Any:
        if isinstance(value, str) and value.startswith("tcp://"):
            raise ValueError(
                "Kubernetes sets TESSERA_PORT for a Service named tessera; "
                "set enableServiceLinks: false in the Pod"
            )
        return value

    @property
    def engine(self) -> EngineSettings:
        """The engine's part, with the models that ship where none are named."""
        part = {name: getattr(self, name) for name in EngineSettings.model_fields}
        return EngineSettings(**part | {"models": self.models or tuple(shipped())})

    def without_effect(self) -> list[str]:
        """Lines about settings that do not do what they seem to, for a service that runs so."""
        lines = [
            f'{PREFIX}{name.upper()}: "key" was given, and there are no {PREFIX}API_KEYS'
            for name in ("metrics_access", "docs_access")
            if getattr(self, name) == "key" and not self.api_keys
        ]
        needs = {
            "url_secret": "api_keys",
            "signed_url_seconds": "url_secret",
            "rate_limit_store": "rate_limit",
            "c2pa_key": "c2pa_certificates",
            "c2pa_certificates": "c2pa_key",
        }
        lines += [
            f"{PREFIX}{name.upper()}: has no effect without {PREFIX}{other.upper()}"
            for name, other in needs.items()
            if name in self.model_fields_set and getattr(self, name) and not getattr(self, other)
        ]
        return lines

    def open_doors(self) -> list[str]:
        """Lines about what strangers may do, for whoever may not have meant it."""
        lines = []
        if self.api_keys and self.metrics_access == "open":
            lines.append(f"/metrics is open to everyone, keys or not; see {PREFIX}METRICS_ACCESS")
        if not self.api_keys and self.host not in ("127.0.0.1", "::1", "localhost"):
            lines.append(f"everyone who reaches the port may draw; see {PREFIX}API_KEYS")
        if "*" in self.trusted_proxies:
            lines.append(f"clients choose their own address; see {PREFIX}TRUSTED_PROXIES")
        return lines

    @classmethod
    def misnamed(cls) -> list[str]:
        """Lines about names in the environment and in .env that are given twice, or look like
        settings and are none, such as TESSERA_TIEL."""
        known = {f"{PREFIX}{name}".upper() for name in cls.model_fields}
        lines = []
        for place, names in (("the environment", list(os.environ)), (".env", _dotenv_names())):
            given = Counter(name.upper() for name in names if name.upper().startswith(PREFIX))
            for name, count in sorted(given.items()):
                if name not in known and not _NOT_OURS.match(name):
                    lines.append(f"{name}: is in {place}, and is no setting of Tessera")
                elif count > 1:
                    lines.append(f"{name}: is {count} times in {place}")
        return lines


_NOT_OURS = re.compile(rf"{PREFIX}(TEST_|(.*_)?SERVICE_(HOST|PORT)|(.*_)?PORT_\d+_|.+_PORT$)")
"""What tests set, and Kubernetes for each Service whose name begins with tessera."""


def _dotenv_names() -> list[str]:
    file = Path(str(Settings.model_config.get("env_file")))
    if not file.is_file():
        return []
    with file.open(encoding="utf-8") as lines:
        return [binding.key for binding in parse_stream(lines) if binding.key]


def load_settings(**options: str | int | None) -> Settings:
    """The settings of this process; ``options`` of its command that are given come first.

    Raises ``SystemExit`` with a line for each that is wrong.
    """
    lines = Settings.misnamed()
    given: dict[str, Any] = {
        name: value for name, value in options.items() if value not in (None, "")
    }
    try:
        settings = Settings(**given)
    except ValidationError as error:
        lines += [
            f"{PREFIX}{'.'.join(str(part) for part in each['loc'][:1])}".upper()
            + f": {each['msg'].removeprefix('Value error, ')}"
            for each in error.errors()
        ]
    except UnicodeDecodeError as error:
        lines.append(f".env: is not UTF-8: {error}")
    if lines:
        sys.exit("\n".join(lines))
    return settings
