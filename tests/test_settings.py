"""If these fail, a setting is misread, and the service runs otherwise than it was set to."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.engine import EngineSettings
from app.settings import Settings
from model.registry import shipped

pytestmark = pytest.mark.usefixtures("no_dotenv")


def read(monkeypatch: pytest.MonkeyPatch, **values: str) -> Settings:
    for name, value in values.items():
        monkeypatch.setenv(f"TESSERA_{name}", value)
    return Settings()


def test_lists_are_written_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(
        monkeypatch,
        MODELS="a, b/c,",
        DEVICES="cpu:2",
        MODEL_ALIASES="gpt-image-1=emoji-flow, dall-e-3 = emoji-flow",
    )
    assert settings.models == (Path("a"), Path("b/c"))
    assert settings.engine.devices == ("cpu", "cpu")
    assert settings.model_aliases == {"gpt-image-1": "emoji-flow", "dall-e-3": "emoji-flow"}


def test_a_model_of_the_hub_is_named_beside_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, MODELS="a,hf:owner/name@v1.0", LORAS="adapters")
    assert list(map(str, settings.engine.models)) == ["a", "hf:owner/name@v1.0"]
    assert settings.engine.loras == Path("adapters")


def test_the_engine_gets_its_part_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, MODELS="a", TILE="4", PREVIEWS="3", CUDA_GRAPHS="off", THREADS="2")
    assert settings.engine == EngineSettings(
        models=(Path("a"),), tile=4, previews=3, cuda_graphs=False, threads=2
    )
    for name in EngineSettings.model_fields:
        assert name in Settings.model_fields


def test_without_models_all_that_ship_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, MODELS="").engine.models == tuple(shipped())


def test_an_empty_variable_is_none_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, TILE="", PORT="").tile is None


def test_a_dotenv_file_is_read_and_the_environment_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("TESSERA_PORT=1234\nTESSERA_MAX_N=3\nOTHER=1\n")
    monkeypatch.chdir(tmp_path)
    settings = read(monkeypatch, PORT="4321")
    assert (settings.port, settings.max_n) == (4321, 3)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("PORT", "70000", "port"),
        ("PORT", "tcp://10.0.0.1:8000", "enableServiceLinks"),
        ("DEVICES", "gpu", "cuda:0"),
        ("DTYPE", "fp8", "dtype"),
        ("MODEL_ALIASES", "gpt-image-1", "name=value"),
        ("REQUEST_TIMEOUT", "inf", "request_timeout"),
        ("API_KEYS", "ada=the-key-itself", "api_keys"),
        ("RATE_LIMIT", "many", "20000/hour"),
        ("URL_SECRET", "short", "url_secret"),
        ("UPLOAD_MEMORY_BYTES", "80000000", "the largest answer take 83886080 bytes"),
        ("MAX_UPLOAD_PIXELS", "100000000", "upload_memory_bytes"),
    ],
)
def test_a_wrong_value_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    with pytest.raises(ValidationError, match=says):
        read(monkeypatch, **{name: value})


def test_a_misspelt_setting_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESSERA_TIEL", "8")
    assert "TESSERA_TIEL" in Settings.unknown()


def test_every_setting_says_what_changes_with_it() -> None:
    silent = [name for name, field in Settings.model_fields.items() if not field.description]
    assert not silent


def test_a_picture_that_hangs_its_worker_fails_for_that_before_its_deadline() -> None:
    # Tried four times, each noticed up to a quarter late; a start takes some seconds.
    defaults = Settings(_env_file=None)
    assert 4 * (1.25 * defaults.step_timeout + 10) < defaults.request_timeout
    assert defaults.engine.step_timeout == EngineSettings().step_timeout
