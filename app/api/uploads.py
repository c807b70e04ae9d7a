"""``multipart/form-data`` read into memory, within limits: text fields, and files with their names.

Nothing is written to disk: the container's may be read-only, and uploads are private. `BodyLimit`
bounds each form, `UploadBudget` all of them together.

By hand rather than by FastAPI's form models, which would write large files to disk, know no budget
while a form arrives, and drop what they do not know.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, Request
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from app.api.deps import Services, Shared
from app.api.errors import CLIENT_GONE, ApiError, invalid, of_validation
from app.api.openapi import UploadField
from app.api.schemas import Fields, WithParameters
from app.generation.editing.budget import Hold
from app.generation.resolve import Generation, Wanted, resolve
from app.settings import BYTES_PER_PIXEL
from model.checkpoint import Checkpoint

FORM = "multipart/form-data"

MOST_FILES = 20
MOST_FIELDS = 60

F = TypeVar("F", bound=Fields)


@dataclass(frozen=True, slots=True)
class Form:
    """What was sent. A name may have several files, but one text only."""

    texts: Mapping[str, str]
    files: Mapping[str, tuple[bytes, ...]]
    hold: Hold

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
                raise invalid(name, f"is a text, a file is needed (with curl, -F {name}=@path)")
        try:
            fields = model.model_validate(self.texts)
        except ValidationError as error:
            errors = [{**problem, "loc": ("form", *problem["loc"])} for problem in error.errors()]
            raise of_validation(errors) from error
        if isinstance(fields, WithParameters):
            services.check_names(fields, *files)
        return fields

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


class _InMemory(MultiPartParser):
    spool_max_size = 0  # of a temporary file before it goes to disk; 0 is never


async def read_form(request: Request, services: Shared) -> AsyncIterator[Form]:
    """The request's form, whose memory is accounted for until the answer is sent.

    Raises `ApiError` for what is no form, and as `BodyLimit` does; `UploadsFull` where the memory
    for uploads is in use.
    """
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != FORM:
        message = f"a form is needed, with the header Content-Type: {FORM}"
        raise ApiError(400, message, code="invalid_body")
    with services.uploads.hold() as hold:

        async def chunks() -> AsyncGenerator[bytes, None]:
            async for chunk in request.stream():
                hold.take(len(chunk))
                yield chunk

        parser = _InMemory(
            request.headers,
            chunks(),
            max_files=MOST_FILES,
            max_fields=MOST_FIELDS,
            max_part_size=services.settings.max_body_bytes,
        )
        try:
            data = await parser.parse()
        except MultiPartException as error:
            message = f"the body is no form: {error.message}"
            raise ApiError(400, message, code="invalid_form") from error
        except ClientDisconnect as error:
            raise ApiError(CLIENT_GONE, "the client has gone", code="client_gone") from error
        try:
            form = await _form_of(data, hold)
        finally:
            await data.close()
        yield form


async def _form_of(data: FormData, hold: Hold) -> Form:
    texts: dict[str, str] = {}
    files: dict[str, tuple[bytes, ...]] = {}
    for name, value in data.multi_items():
        if isinstance(value, UploadFile):
            files[name] = (*files.get(name, ()), await value.read())
        elif name in texts:
            raise invalid(name[:80], "is given more than once", code="repeated_parameter")
        else:
            texts[name] = value
    return Form(texts, files, hold)


Sent = Annotated[Form, Depends(read_form)]
"""A route's parameter of this type is the form that was sent."""


async def resolve_upload(
    wanted: Wanted, checkpoint: Checkpoint, form: Form, services: Services
) -> Generation:
    """`resolve`, off the loop, because it decodes; and memory for the answer, and for what was
    decoded and waits for the model, is accounted for.

    Raises `InvalidField` and `UploadsFull`.
    """
    services.images.numerics(checkpoint.spec.id)  # nothing is decoded while the models load
    generation = await services.uploads.work(resolve, wanted, checkpoint, services.settings)
    form.hold.take(BYTES_PER_PIXEL * generation.pixels + generation.source_bytes)
    return generation
