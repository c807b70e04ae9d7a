"""If this fails, /openapi.json tells a client something else than the service does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.service.running import Start, running
from tests.service.schema import check_schema

# No schema can say which of their fields go together, so that 400 is no contradiction there: that
# some are accepted shows that their answers were held against the schema at all.
FORMS = ("transform", "edits", "variations")


@pytest.mark.timeout(900)
def test_the_schema_holds_for_whatever_is_sent(start: Start, full: bool, tmp_path: Path) -> None:
    # Nothing may be refused for its load or its prompt's tokens: 11 characters are at most 48.
    with start(
        MAX_ROWS_WAITING="10000",
        REQUEST_TIMEOUT="600",
        MAX_PROMPT_CHARACTERS="11",
    ) as service:
        service.await_ready()
        examples, least = (200, 2000) if full else (20, 300)
        sent = check_schema(service, tmp_path, examples=examples, deterministic=not full)
        for form in FORMS:
            accepted = f'request_seconds_count{{outcome="ok",route="/v1/images/{form}"}}'
            assert service.metric(accepted), f"no {form} was accepted"
        assert sent >= least


@pytest.mark.timeout(600)
def test_the_schema_holds_where_tokens_are_drawn(
    tiny_models: dict[str, Path], full: bool, tmp_path: Path
) -> None:
    """Other fields and one route more than with flow alone."""
    settings = {"MAX_ROWS_WAITING": "10000", "REQUEST_TIMEOUT": "600"}
    with running(tiny_models["gpt"], tmp_path / "log", **settings) as service:
        service.await_ready()
        check_schema(
            service,
            tmp_path,
            *("--include-path-regex", "^/v1/images(/describe)?$"),
            examples=100 if full else 10,
            deterministic=not full,
        )
        assert service.metric('request_seconds_count{outcome="ok",route="/v1/images/describe"}')
