"""Every setting of the service, read once: ``TESSERA_…`` in the environment, or a ``.env`` file.

Each says what changes with it. Lists are written with commas.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any, Literal

import limits
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

from app.engine.settings import MIB, EngineSettings, Seconds, split
from app.generation.resolve import Limits
from app.logs import LogFormat
from model.registry import shipped

PREFIX = "TESSERA_"
BYTES_PER_PIXEL = 4
"""Of an encoded picture, at most, about: a PNG of noise."""


def _pairs(value: object) -> object:
    """``a=b,c=d`` → ``{"a": "b", "c": "d"}``."""
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if any(not (key.strip() and text.strip()) for key, _, text in pairs):
        raise ValueError("expected name=value pairs with commas between them")
    return {key.strip(): text.strip() for key, _, text in pairs}


def _rate(text: str) -> str:
    try:
        limits.parse(text)
    except ValueError:
        raise ValueError('expected a limit such as "20000/hour" or "600/10 seconds"') from None
    return text


Strings = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split)]
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

    public_url: HttpUrl | None = None
    """How clients reach the service, e.g. https://pictures.example.org. Links in answers begin
    with it; without it they begin with the host that the request named."""

    trusted_proxies: Strings = ("127.0.0.1",)
    """Addresses or networks whose X-Forwarded-For and -Proto are believed. Wrong ones let clients
    choose the address that rate limits count."""

    # Requests.

    request_timeout: Seconds = 120.0
    """A request not answered by then leaves queue and batch and gets 504."""

    max_body_bytes: Annotated[int, Field(ge=1024)] = MIB
    """Bytes of a JSON body. What is larger is refused (413) unread."""

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

    upload_threads: Annotated[int, Field(ge=1)] = 2
    """Threads that decode uploads and write edits, so that large ones hold up each other only."""

    file_cache_bytes: Annotated[int, Field(ge=0)] = 32 * MIB
    """Memory for encoded images; 0 keeps none. Answers repeated addresses without encoding."""

    link_max_age: Annotated[int, Field(ge=0)] = 3600
    """Seconds for which caches keep an address that does not pin its model by digest. A new
    checkpoint under the old name shows after that."""

    # The way out.

    drain_delay: Annotated[float, Field(ge=0)] = 0.0
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

    cors_origins: Strings = ()
    """Web origins whose pages may call the service, e.g. https://example.org, or *."""

    trusted_hosts: Strings = ()
    """Names that requests may use for the service, e.g. pictures.example.org,*.example.org. Empty:
    any, which lets requests choose the host of the addresses in answers."""

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

    @classmethod
    def unknown(cls) -> list[str]:
        """Names in the environment that look like settings and are none, such as TESSERA_TIEL."""
        known = {f"{PREFIX}{name}".upper() for name in cls.model_fields}
        return sorted(
            name for name in os.environ if name.upper().startswith(PREFIX) and name not in known
        )


def load_settings() -> Settings:
    """The settings of this process. Raises ``SystemExit`` with a line for each that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        lines = [
            f"{PREFIX}{'.'.join(map(str, each['loc']))}".upper() + f": {each['msg']}"
            for each in error.errors()
        ]
        sys.exit("\n".join(lines))
