"""What every route needs, made once for each application."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from app.api.links import Links
from app.api.studio import Studio
from app.engine import Engine
from app.metrics import Metrics
from app.settings import Settings


@dataclass(slots=True)
class Services:
    """The parts that routes share."""

    settings: Settings
    engine: Engine
    metrics: Metrics
    studio: Studio
    links: Links
    leaving: bool = False  # set by the server at the first signal: /readyz turns 503

    @property
    def ready(self) -> bool:
        """Whether a balancer should send work here."""
        return self.engine.state == "ready" and not self.leaving


async def services_of(request: Request) -> Services:
    found = request.app.state.services
    assert isinstance(found, Services)
    return found


Shared = Annotated[Services, Depends(services_of)]
"""A route's parameter of this type is the application's `Services`."""
