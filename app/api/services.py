"""What every route needs, made once for each application."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from app.api.guard import Client
from app.api.intake import Intake
from app.api.links import Links
from app.api.orders import Order
from app.api.presence import while_connected
from app.api.studio import File, Studio
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
    intake: Intake
    links: Links
    leaving: bool = False  # set by the server at the first signal: /readyz turns 503

    @property
    def ready(self) -> bool:
        """Whether a balancer should send work here."""
        return self.engine.state == "ready" and not self.leaving

    async def file(self, order: Order, request: Request, client: Client) -> File:
        """The one picture of an order for one, kept or drawn while the client waits for it."""
        kept = self.studio.kept(order)
        if kept is not None:
            return kept
        return await while_connected(request, self.studio.file(order, client))


async def services_of(request: Request) -> Services:
    found = request.app.state.services
    assert isinstance(found, Services)
    return found


Shared = Annotated[Services, Depends(services_of)]
"""A route's parameter of this type is the application's `Services`."""
