"""If these fail, a setting is misread, and the service runs otherwise than it was set to."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.engine import EngineSettings
from app.settings import Settings, load_settings
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


def test_a_gpu_may_have_several_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, DEVICES="cuda:0,cuda:0,cuda:1")
    assert settings.engine.devices == ("cuda:0", "cuda:0", "cuda:1")


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
        ("RATE_LIMIT", "10/second;100/minute", "one limit is possible"),
        ("API_KEYS", ",,", "name=value pairs"),
        ("API_KEYS", f"ada={'0' * 64},ada={'1' * 64}", "ada is given twice"),
        ("MODEL_ALIASES", "a=b,a=c", "a is given twice"),
        ("TRUSTED_HOSTS", ",", "nothing between the commas"),
        ("TRUSTED_HOSTS", "https://a.example.org", "expected a name"),
        ("TRUSTED_HOSTS", "a.example.org:80", "expected a name"),
        ("TRUSTED_PROXIES", "10.0.0.0/99", "expected an address"),
        ("TRUSTED_PROXIES", "127.0.0.1,nginx", "nginx: expected an address"),
        ("CORS_ORIGINS", "https://example.org/", "without a path"),
        ("PUBLIC_URL", "https://example.org/a?b=c", "nothing behind it"),
        ("DRAIN_DELAY", "inf", "drain_delay"),
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


def test_options_come_before_settings_and_empty_ones_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {"PORT": "8306", "HOST": "::1", "MODELS": "a"}.items():
        monkeypatch.setenv(f"TESSERA_{name}", value)
    settings = load_settings(port=0, host="", models="b,c")
    assert (settings.port, settings.host) == (0, "::1")
    assert settings.models == (Path("b"), Path("c"))


def test_a_misspelt_setting_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESSERA_TIEL", "8")
    assert refused() == ["TESSERA_TIEL: is in the environment, and is no setting of Tessera"]


def refused() -> list[str]:
    with pytest.raises(SystemExit) as stopped:
        load_settings()
    return str(stopped.value).splitlines()


def test_a_misspelt_setting_in_a_dotenv_file_is_noticed(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TESSERA_PROT=1\nexport tessera_host=::1\nOTHER=1\n")
    assert refused() == ["TESSERA_PROT: is in .env, and is no setting of Tessera"]


def test_a_setting_given_twice_in_one_place_is_noticed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("TESSERA_PORT=1\nTESSERA_HOST=::1\nTESSERA_PORT=2\n")
    monkeypatch.setenv("TESSERA_TILE", "2")
    monkeypatch.setenv("tessera_tile", "4")
    assert refused() == [
        "TESSERA_TILE: is 2 times in the environment",
        "TESSERA_PORT: is 2 times in .env",
    ]


def test_settings_may_be_written_small_and_kubernetes_may_add_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("tessera_port", "8306")
    for name in ("WEB_SERVICE_HOST", "WEB_SERVICE_PORT_HTTP", "WEB_PORT", "WEB_PORT_80_TCP_ADDR"):
        monkeypatch.setenv(f"TESSERA_{name}", "10.0.0.1")
    assert load_settings().port == 8306


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"METRICS_ACCESS": "key"}, "METRICS_ACCESS"),
        ({"DOCS_ACCESS": "key"}, "DOCS_ACCESS"),
        ({"URL_SECRET": "a secret of some length"}, "URL_SECRET"),
        ({"SIGNED_URL_SECONDS": "5"}, "SIGNED_URL_SECONDS"),
        ({"RATE_LIMIT_STORE": "redis://a"}, "RATE_LIMIT_STORE"),
    ],
)
def test_what_has_no_effect_is_said(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], name: str
) -> None:
    (line,) = read(monkeypatch, **given).without_effect()
    assert line.startswith(f"TESSERA_{name}: ")


def test_open_doors_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch).open_doors() == []
    assert "API_KEYS" in read(monkeypatch, HOST="::").open_doors()[0]
    keyed = read(monkeypatch, API_KEYS=f"ada={'0' * 64}")
    assert "METRICS_ACCESS" in keyed.open_doors()[0]
    assert keyed.without_effect() == []


def test_every_setting_says_what_changes_with_it() -> None:
    silent = [name for name, field in Settings.model_fields.items() if not field.description]
    assert not silent


def test_a_picture_that_hangs_its_worker_fails_for_that_before_its_deadline() -> None:
    # Tried four times, each noticed up to a quarter late; a start takes some seconds.
    defaults = Settings(_env_file=None)
    assert 4 * (1.25 * defaults.step_timeout + 10) < defaults.request_timeout
    assert defaults.engine.step_timeout == EngineSettings().step_timeout
