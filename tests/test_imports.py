"""Imports go down only: app.api -> app.engine -> model.

If these fail, either the API process has begun to load torch (seconds of start-up, and a CUDA
context in the process that must outlive every worker), or the models can no longer be used
without the service.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Both import torch and the models inside their functions: the worker in its own process, the
# command line for the commands that work without a server.
MAY_IMPORT_TORCH_IN_FUNCTIONS = ("app/engine/worker.py", "app/cli/")
HEAVY = {"torch", "torchvision", "accelerate", "diffusers", "transformers"}


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


def files(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, f"no Python files in {package}/"
    return found


def test_model_imports_nothing_of_app() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in files("model")
        for module, line, _ in imports(path.read_text())
        if module.partition(".")[0] == "app"
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


@pytest.mark.parametrize("module", ["app.main", "app.cli", "app.engine.worker"])
def test_the_api_process_has_no_torch(module: str) -> None:
    # The static rule does not see an import that comes by way of `model`; this one does.
    code = f"import sys, {module}\nprint(sorted(m for m in {sorted(HEAVY)!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{module} cannot be imported:\n{done.stderr}"
    assert done.stdout.strip() == "[]", f"importing {module} loads {done.stdout.strip()}"


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
