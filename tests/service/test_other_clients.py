"""If these fail, clients in other languages cannot use the service as they come."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import CLIENTS_PYTHON, NODE_MODULES
from tests.service.running import Service

CLIENTS = Path(__file__).parent / "clients"

JAVA = """
import java.net.URI;
import java.net.http.*;

public class Ask {
    public static void main(String[] given) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        for (int seed = 0; seed < 3; seed++) {
            HttpRequest request = HttpRequest.newBuilder(URI.create(given[0] + "/v1/images"))
                .header("Content-Type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofString("{\\"seed\\": " + seed + "}"))
                .build();
            HttpResponse<byte[]> answer =
                client.send(request, HttpResponse.BodyHandlers.ofByteArray());
            System.out.println(
                answer.statusCode() + " " + answer.headers().firstValue("content-type").get());
        }
    }
}
"""


def output(*command: str) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"no {program}")


@needs("javac")
def test_java_posts_with_its_defaults(service: Service, tmp_path: Path) -> None:
    (tmp_path / "Ask.java").write_text(JAVA)
    said = output("java", str(tmp_path / "Ask.java"), service.url)
    assert said.splitlines() == ["200 image/png"] * 3


@needs("curl")
@pytest.mark.parametrize(
    "asked",
    [
        ["--http2", "-H", "Content-Type: application/json", "-d", '{"seed": 7}', "/v1/images"],
        ["--http1.0", "/v1/images/7.png"],
        ["-g", "/v1/images/7.png?prompt=猫"],
        ["-g", "/v1/images/猫.png"],
    ],
)
def test_curl(service: Service, asked: list[str]) -> None:
    *options, address = asked
    how = ["-s", "-o", "/dev/null", "-w", "%{http_code} %{content_type}", *options]
    assert output("curl", *how, service.url + address) == "200 image/png"


@needs("node")
@pytest.mark.skipif(not NODE_MODULES, reason="no TESSERA_TEST_NODE_MODULES (CONTRIBUTING.md)")
def test_clients_in_javascript(service: Service, tmp_path: Path) -> None:
    # A module looks for packages beside itself.
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)
    script = shutil.copy(CLIENTS / "javascript.mjs", tmp_path)
    assert output("node", str(script), service.url).split() == ["openai", "langchain", "vercel"]


@pytest.mark.skipif(not CLIENTS_PYTHON, reason="no TESSERA_TEST_PYTHON (CONTRIBUTING.md)")
def test_clients_in_python(service: Service) -> None:
    said = output(CLIENTS_PYTHON, str(CLIENTS / "python.py"), service.url)
    assert said.split() == ["langchain", "litellm"]
