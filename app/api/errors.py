"""The one shape of every error, ``{"error": {message, type, param, code}}``, and what becomes one.

Messages say what was given and what would be accepted; ``param`` names the field. The shape and
the types are those of the OpenAI API, so that its clients raise their own exceptions.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from math import ceil
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.engine import (
    DeadlineExceeded,
    Draining,
    EngineError,
    ImageFailed,
    NotReady,
    QueueFull,
    RequestRefused,
    UnknownModel,
    WorkerCrashed,
)
from app.generation.editing.budget import UploadsFull
from app.generation.resolve import quoted
from app.metrics import Metrics
from model.request import InvalidField

CLIENT_GONE = 499
"""nginx's code for it; nobody receives it, the metrics and the log do."""

logger = logging.getLogger(__name__)


class ErrorBody(BaseModel):
    """What went wrong."""

    message: str = Field(examples=["steps: 0 was given, at least 1 is accepted"])
    type: str = Field(examples=["invalid_request_error"])
    param: str | None = Field(description="The field at fault, if one is.", examples=["steps"])
    code: str = Field(description="For programs.", examples=["invalid_value"])


class ErrorAnswer(BaseModel):
    """Every answer that is not 2xx or 3xx."""

    error: ErrorBody


class ApiError(HTTPException):
    """An answer other than what was asked for. ``str()`` is its message."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        self.code = code
        self.param = param

    def __str__(self) -> str:
        return str(self.detail)

    @property
    def body(self) -> ErrorAnswer:
        kind = _TYPES.get(
            self.status_code,
            "server_error" if self.status_code >= 500 else "invalid_request_error",
        )
        return ErrorAnswer(
            error=ErrorBody(message=str(self), type=kind, param=self.param, code=self.code)
        )

    def response(self) -> JSONResponse:
        headers = {"Cache-Control": "no-store", **(self.headers or {})}
        return JSONResponse(self.body.model_dump(), self.status_code, headers)


_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def invalid(param: str, message: str, *, code: str = "invalid_value") -> ApiError:
    """A 400 for one field; the message begins with its name."""
    return ApiError(400, f"{param}: {message}", code=code, param=param)


def of_invalid(error: InvalidField) -> ApiError:
    """A request that cannot be served as it is, or not by the models that are here."""
    status = 404 if error.code in _NOT_HERE else 400
    return ApiError(status, f"{error.field}: {error}", code=error.code, param=error.field)


_NOT_HERE = ("model_not_found", "not_loaded", "lora_not_found")


def of_engine(error: EngineError) -> ApiError:
    """What the client is told of a picture that the engine did not make."""
    message = str(error)
    match error:
        case QueueFull():
            wait = str(max(1, ceil(error.retry_after)))
            return ApiError(503, message, code="queue_full", headers={"Retry-After": wait})
        case NotReady():
            return ApiError(503, message, code="not_ready", headers={"Retry-After": "2"})
        case Draining():
            return ApiError(503, message, code="draining", headers={"Retry-After": "1"})
        case DeadlineExceeded():
            return ApiError(504, message, code="deadline_exceeded", headers=_NO_RETRY)
        case WorkerCrashed():
            return ApiError(500, message, code="worker_crashed", headers=_NO_RETRY)
        case ImageFailed():
            return ApiError(500, message, code="image_failed", headers=_NO_RETRY)
        case RequestRefused():
            return ApiError(400, message, code="request_refused")
        case UnknownModel():
            return ApiError(404, message, code="model_not_found", param="model")
        case _:
            logger.error("the engine failed", exc_info=error)
            return ApiError(500, message, code="engine_error")


# The OpenAI clients repeat every 5xx, which would only fail, or be too late, again.
_NO_RETRY = {"x-should-retry": "false"}


def of_validation(errors: Sequence[Mapping[str, Any]]) -> ApiError:
    """The first thing that pydantic found wrong, as a sentence."""
    error = errors[0]
    kind: str = error["type"]
    place = [str(part) for part in error["loc"][1:]]
    if kind == "json_invalid":
        reason = error["ctx"]["error"]
        return ApiError(400, f"the body is not JSON: {reason}", code="invalid_json")
    if kind == "unknown_field":
        return ApiError(400, error["msg"], code=kind, param=error["ctx"]["param"])
    if not place:
        message = "a JSON object is needed, with the header Content-Type: application/json"
        return ApiError(400, message, code="invalid_body")
    param = ".".join(place)
    if kind == "missing":
        return invalid(param, "is required", code="missing_field")
    reason = error["msg"].removeprefix("Input ").removeprefix("Value error, ")
    return invalid(param, f"{reason}; {quoted(error['input'])} was given")


def of_body(cause: BaseException) -> ApiError:
    """A body that could not be read as JSON."""
    match cause:
        case ClientDisconnect():
            return ApiError(CLIENT_GONE, "the client has gone", code="client_gone")
        case UnicodeDecodeError(start=start):
            reason = f"byte {start} is not UTF-8"
        case RecursionError():
            reason = "it is nested too deeply"
        case ValueError():
            reason = str(cause)
        case _:
            logger.error("a body could not be read", exc_info=cause)
            reason = "it cannot be read"
    return ApiError(400, f"the body is not JSON: {reason}", code="invalid_json")


def of_http(error: HTTPException) -> ApiError:
    """Starlette's own errors: no such route, no such method, an unreadable body."""
    if isinstance(error, ApiError):
        return error
    phrase = HTTPStatus(error.status_code).phrase
    message = str(error.detail)
    if error.status_code == 405 and error.headers:
        message = f"this address accepts {error.headers.get('Allow', 'other methods')} only"
    elif error.status_code == 404:
        message = "there is nothing at this address; /docs lists what there is"
    code = phrase.lower().replace(" ", "_")
    return ApiError(error.status_code, message, code=code, headers=error.headers)


class LastResort:
    """Pure ASGI middleware: what nothing else has made an answer of.

    Inside of those that give each answer its id and headers; a handler of ``Exception`` would run
    outside of them all.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception:
            if started or scope["type"] != "http":
                raise  # the server hangs up, so that the client sees that something is missing
            logger.exception("a request failed in a way that is not known")
            message = "the service failed in a way it does not know; the log has the request id"
            error = ApiError(500, message, code="internal_error")
            await error.response()(scope, receive, send)


def install_handlers(app: FastAPI, metrics: Metrics) -> None:
    """Makes every error of the application one of the shape above."""

    async def engine(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, EngineError)
        return of_engine(error).response()

    async def invalid_field(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, InvalidField)
        return of_invalid(error).response()

    async def uploads_full(_: Request, error: Exception) -> JSONResponse:
        metrics.refused("uploads_full")
        headers = {"Retry-After": "2"}
        return ApiError(503, str(error), code="uploads_full", headers=headers).response()

    async def validation(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return of_validation(error.errors()).response()

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            error.headers = {"Allow": ", ".join(_methods(app, request))}
        if error.__cause__ is not None and not isinstance(error, ApiError):
            error = of_body(error.__cause__)
        return of_http(error).response()

    app.add_exception_handler(EngineError, engine)
    app.add_exception_handler(InvalidField, invalid_field)
    app.add_exception_handler(UploadsFull, uploads_full)
    app.add_exception_handler(RequestValidationError, validation)
    app.add_exception_handler(HTTPException, http)


def _methods(app: FastAPI, request: Request) -> list[str]:
    """What an address accepts, of all its routes; the router itself names the first one's only."""
    return [
        method
        for method in ("GET", "HEAD", "POST")
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in app.routes
        )
    ]
