"""Imports go down only: app.cli and app.api -> app.generation -> app.engine -> model.

If these fail, either the API process has begun to load torch (seconds of start-up, and a CUDA
context in the process that must outlive every worker), or a part can no longer be used without
those above it: the models without the service, requests resolved without HTTP or an engine.
"""

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Both import torch inside their functions: the device in the worker's process, the
# command line for the commands that work without a server.
MAY_IMPORT_TORCH_IN_FUNCTIONS = ("app/engine/device.py", "app/cli/")
HEAVY = {"torch", "torchvision", "accelerate", "diffusers", "transformers"}
HTTP = ("fastapi", "starlette", "uvicorn", "httpx")

MUST_NOT_IMPORT: dict[str, tuple[str, ...]] = {
    "model": ("app", *HTTP),
    "app/engine": ("app.api", "app.cli", "app.generation", "app.main", "app.settings", *HTTP),
    "app/generation": ("app.api", "app.cli", "app.main", *HTTP),
    "app/generation/resolve.py": ("app.engine", "app.settings"),
    "app/generation/output.py": ("app.engine", "app.settings"),
    "app/generation/editing": ("app.engine", "app.settings"),
    "app/api": ("app.cli", "app.main", "app.server"),
}
"""Files or folders, and the modules (with all in them) that lie above them or beside them."""

WITHOUT_TORCH = (
    *("model/request.py", "model/spec.py", "model/sizes.py", "model/protocol.py"),
    *("model/checkpoint.py", "model/registry.py", "model/tokenizer.py", "model/runtime/rungs.py"),
    *(f"model/image_files/{name}.py" for name in ("colour", "decode", "gif", "jpeg", "png")),
    *("model/flow/config.py", "model/gpt/config.py", "model/gan/config.py"),
    *(
        f"model/pipelines/{name}.py"
        for name in (
            *("catalogue", "checkpoint", "components", "download", "hashing", "hub"),
            *("inspection", "labels", "loras", "settings", "sizes", "tokens"),
        )
    ),
)
"""What the API process imports of `model`."""


def imports(source: str) -> Iterator[tuple[str, int, bool]]:
    """Every imported module with its line, and whether the import stands inside a function."""

    def visit(node: ast.AST, in_function: bool) -> Iterator[tuple[str, int, bool]]:
        for child in ast.iter_child_nodes(node):
            match child:
                case ast.Import(names=names, lineno=line):
                    for name in names:
                        yield name.name, line, in_function
                case ast.ImportFrom(module=str(module), lineno=line, names=names):
                    yield module, line, in_function
                    for name in names:  # `from model import flow` imports model.flow
                        yield f"{module}.{name.name}", line, in_function
                case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                    pass  # never executed
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                    yield from visit(child, True)
                case _:
                    yield from visit(child, in_function)

    return visit(ast.parse(source), False)


def files(part: str) -> list[Path]:
    path = ROOT / part
    found = [path] if path.is_file() else sorted(path.rglob("*.py"))
    assert found, f"no Python files in {part}"
    return found


def within(module: str, packages: Iterable[str]) -> bool:
    """Whether it is one of these, or in one."""
    return any(module == package or module.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("part", MUST_NOT_IMPORT)
def test_a_part_imports_nothing_that_lies_above_it(part: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in files(part)
        for module, line, _ in imports(path.read_text())
        if within(module, MUST_NOT_IMPORT[part])
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("file", WITHOUT_TORCH)
def test_what_can_be_known_without_torch_imports_it_in_functions_only(file: str) -> None:
    wrong = [
        f"{file}:{line} imports {module}"
        for module, line, in_function in imports((ROOT / file).read_text())
        if module.partition(".")[0] in HEAVY and not in_function
    ]
    assert not wrong, "\n".join(wrong)


def test_app_imports_torch_only_in_functions_of_the_worker_and_the_command_line() -> None:
    wrong = []
    for path in files("app"):
        name = path.relative_to(ROOT).as_posix()
        for module, line, in_function in imports(path.read_text()):
            allowed = in_function and name.startswith(MAY_IMPORT_TORCH_IN_FUNCTIONS)
            if module.partition(".")[0] in HEAVY and not allowed:
                wrong.append(f"{name}:{line} imports {module}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "code",
    [
        "import app.main",
        "import app.cli",
        "import app.engine.worker",
        # Every checkpoint that ships is looked at, and the application is put together.
        (
            "from app.main import create_app; from app.settings import Settings; "
            "create_app(Settings(_env_file=None)).openapi()"
        ),
    ],
)
def test_the_api_process_has_no_torch(code: str) -> None:
    # The static rule does not see an import that comes by way of `model`; this one does.
    code += f"\nimport sys\nprint(sorted(m for m in {sorted(HEAVY)!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{code} failed:\n{done.stderr}"
    assert done.stdout.strip() == "[]", f"{code} loads {done.stdout.strip()}"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import torch.nn", [("torch.nn", 1, False)]),
        ("def f():\n    import torch", [("torch", 2, True)]),
        ("class A:\n    import torch", [("torch", 2, False)]),
        ("try:\n    import torch\nexcept ImportError: ...", [("torch", 2, False)]),
        ("from app import x", [("app", 1, False), ("app.x", 1, False)]),
        ("if TYPE_CHECKING:\n    import torch", []),
    ],
)
def test_the_reader_of_imports_sees_them(
    source: str, expected: list[tuple[str, int, bool]]
) -> None:
    # The inverse: a reader that finds nothing would pass both rules.
    assert list(imports(source)) == expected


@pytest.mark.parametrize(
    ("module", "is_within"),
    [("app.api", True), ("app.api.errors", True), ("app.apis", False), ("app", False)],
)
def test_a_module_is_within_its_packages(module: str, is_within: bool) -> None:
    assert within(module, ("app.api", "fastapi")) is is_within


def test_modules_are_started_from_where_they_are_and_not_from_where_the_caller_is() -> None:
    """`python -m` looks into the working directory first, where there may be another "app"."""
    found = 0
    for package in ("app", "model"):
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.List):
                    words = [each.value for each in node.elts if isinstance(each, ast.Constant)]
                    if "-m" in words:
                        found += 1
                        assert "-P" in words[: words.index("-m")], file
    assert found >= 3
