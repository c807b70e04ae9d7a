"""What is sent with pictures: text fields, and files with their names, in memory, within limits.

Nothing is written to disk: the container's may be read-only, and uploads are private. `BodyLimit`
bounds each body, `UploadBudget` all of them together.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from app.api.deps import Services, Shared
from app.api.errors import CLIENT_GONE, ApiError, invalid, of_validation
from app.api.forms import FormError, FormParser, Part, read_json
from app.api.openapi import UploadField
from app.api.schemas import Fields, WithParameters, printable
from app.generation.editing.budget import Hold
from app.generation.resolve import Generation, Wanted, resolve
from app.settings import BYTES_PER_PIXEL
from model.checkpoint import Checkpoint

FORM = "multipart/form-data"
JSON = "application/json"

MOST_FILES = 20
MOST_FIELDS = 60

F = TypeVar("F", bound=Fields)


@dataclass(frozen=True, slots=True)
class Form:
    """What was sent. A name may have several files, but one text only."""

    texts: Mapping[str, Any]
    files: Mapping[str, tuple[bytes, ...]]
    hold: Hold
    unread: Mapping[str, str] = field(default_factory=dict)  # texts, and what is wrong with them
    json: bool = False  # whether texts have JSON's types

    def fields(self, model: type[F], uploads: Sequence[UploadField], services: Services) -> F:
        """The texts as a model's fields. Raises `ApiError` for what is none, or not a text.

        Args:
            uploads: the files that belong to the form; with any other it is refused.
        """
        files = [upload.name for upload in uploads]
        known = (*files, *model.model_fields)
        for name in self.files:
            if name not in known:
                message = f"{name[:80]}: there is no such field; there are {', '.join(known)}"
                raise ApiError(400, message, code="unknown_field", param=name[:80])
            if name not in files:
                raise invalid(name, "is a file, a text is needed")
        for name in files:
            if name in self.texts:
                message = (
                    "is a text, a file is needed, which has a file name or a picture's type "
                    f"(with curl, -F {name}=@path)"
                )
                raise invalid(name, message)
        for name, problem in self.unread.items():
            raise invalid(printable(name), problem)
        try:
            fields = model.model_validate(self._given(model, services), strict=self.json or None)
        except ValidationError as error:
            errors = [{**each, "loc": ("form", *each["loc"])} for each in error.errors()]
            raise of_validation(errors) from error
        if isinstance(fields, WithParameters):
            services.check_names(fields, *files)
        return fields

    def _given(self, model: type[Fields], services: Services) -> Mapping[str, Any]:
        """Without what a browser sends of fields that were left empty."""
        if self.json:
            return self.texts
        fields = model.model_fields.items()
        may = {name for name, field in fields if not field.is_required()} | {*services.parameters}
        return {name: text for name, text in self.texts.items() if text or name not in may}

    def file(self, name: str) -> bytes:
        """The one file of that name. Raises `ApiError`."""
        file = self.optional_file(name)
        if file is None:
            raise missing(name)
        return file

    def several(self, *names: str) -> tuple[bytes, ...]:
        """All files of these names, at least one. Raises `ApiError`."""
        found = tuple(file for name in names for file in self.files.get(name, ()))
        if not found:
            raise missing(names[0])
        return found

    def optional_file(self, name: str) -> bytes | None:
        """The one file of that name, if it was sent. Raises `ApiError` where there are several."""
        files = self.files.get(name, ())
        if len(files) > 1:
            raise invalid(name, f"{len(files)} files were sent, one is accepted")
        return files[0] if files else None


def missing(name: str) -> ApiError:
    """A 400 for a file that was not sent."""
    return invalid(name, "is required: a picture, as a file", code="missing_field")


async def read_form(request: Request, services: Shared) -> AsyncIterator[Form]:
    """The request's form, whose memory is accounted for until the answer is sent.

    Raises `ApiError` for what is no form, and as `BodyLimit` does; `UploadsFull` where the memory
    for uploads is in use.
    """
    if _kind(request) != FORM:
        message = f"a form is needed, with the header Content-Type: {FORM}"
        raise ApiError(400, message, code="invalid_body")
    with services.uploads.hold() as hold:
        yield await _read(request, services, hold)


async def read_form_or_json(request: Request, services: Shared) -> AsyncIterator[Form]:
    """The same, or a JSON object with its pictures in base64: see `app.api.forms`."""
    kind = _kind(request)
    if kind not in (FORM, JSON):
        message = f"a form or JSON is needed, with the header Content-Type: {FORM} or {JSON}"
        raise ApiError(400, message, code="invalid_body")
    with services.uploads.hold() as hold:
        if kind == FORM:
            yield await _read(request, services, hold)
            return
        body = bytearray()
        async for chunk in _received(request, hold):
            body += chunk
        found = await services.decoded(read_json, body)
        del body  # its files take three quarters of it
        yield Form(found.fields, found.files, hold, json=True)


def _kind(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _received(request: Request, hold: Hold) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            hold.take(len(chunk))
            yield chunk
    except ClientDisconnect as error:
        raise ApiError(CLIENT_GONE, "the client has gone", code="client_gone") from error


async def _read(request: Request, services: Services, hold: Hold) -> Form:
    try:
        parser = FormParser(
            request.headers["content-type"],
            most_files=MOST_FILES,
            most_texts=MOST_FIELDS,
            most_text_bytes=services.settings.max_body_bytes,
        )
        async for chunk in _received(request, hold):
            parser.feed(chunk)
        parts = parser.close()
    except FormError as error:
        raise ApiError(400, f"the body is no form: {error}", code="invalid_form") from error
    return _form_of(parts, hold)


def _form_of(parts: Sequence[Part], hold: Hold) -> Form:
    texts: dict[str, str] = {}
    files: dict[str, tuple[bytes, ...]] = {}
    unread: dict[str, str] = {}
    for part in parts:
        if part.is_file:
            if part.chosen:
                files[part.name] = (*files.get(part.name, ()), bytes(part.data))
        elif part.name in texts:
            raise invalid(part.name[:80], "is given more than once", code="repeated_parameter")
        else:
            try:
                texts[part.name] = part.text()
            except FormError as error:
                texts[part.name], unread[part.name] = "", str(error)
    return Form(texts, files, hold, unread)


Sent = Annotated[Form, Depends(read_form)]
"""A route's parameter of this type is the form that was sent."""

SentAlsoAsJson = Annotated[Form, Depends(read_form_or_json)]
"""The same for a route that also takes JSON."""


async def resolve_upload(
    wanted: Wanted, checkpoint: Checkpoint, form: Form, services: Services
) -> Generation:
    """`resolve`, off the loop, because it decodes; and memory for the answer, and for what was
    decoded and waits for the model, is accounted for.

    Raises `InvalidField` and `UploadsFull`.
    """
    services.images.numerics(checkpoint.spec)  # nothing is decoded while the models load
    generation = await services.decoded(resolve, wanted, checkpoint, services.settings)
    form.hold.take(BYTES_PER_PIXEL * generation.pixels + generation.source_bytes)
    return generation
