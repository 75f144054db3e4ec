"""The walls of the house, read from its source: who imports whom, cycles, lengths, names, start-up.

Each checker takes source text and returns the faults it finds; each is also given a bad source, which it must refuse.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

from campaigns.__main__ import CAMPAIGNS
from tests.conftest import ROOT, subprocess_environment

Sources = Mapping[str, str]  # dotted name of a module -> its text

# A room may import itself, the root modules and the rooms named here.
ROOMS: dict[str, set[str]] = {
    "data": set(),
    "models": set(),
    "runs": set(),
    "evaluation": {"data", "models", "runs"},
    "training": {"evaluation", "data", "models", "runs"},
    "analysis": {"data", "models", "evaluation", "runs"},
    "export": {"data", "models", "evaluation", "runs"},
    "tuning": {"training", "evaluation", "runs"},
    "studies": {"tuning", "training", "analysis", "evaluation", "data", "models", "runs"},
    "web": {"analysis", "evaluation", "runs"},
}
ROOMS["cli"] = {*ROOMS}
# The front doors open every room, but only inside a function: `import residual` stays light.
DOORS = {"residual", "residual.__main__"}

FOUNDATION = {"torch", "numpy", "safetensors", "PIL", "rich", "pydantic"}
OUTSIDE: dict[str, set[str]] = {
    "": {"torch", "numpy", "filelock", "tomli_w"},
    "analysis": FOUNDATION | {"matplotlib"},
    "cli": FOUNDATION | {"cyclopts"},
    "data": FOUNDATION | {"pooch"},
}
# Extras: a module may import what its installation does not bring, inside a function, and says so when it is absent.
EXTRAS = {
    "residual.training.tensorboard": {"tensorboard"},
    "residual.data.quick_jpeg": {"simplejpeg"},
    "residual.models.interchange.hdf5": {"h5py"},
    "residual.export.onnx_file": {"onnx", "onnxruntime", "onnxscript"},
}
# A room that stands on an extra as a whole; whoever opens it does so inside a function.
ROOM_EXTRAS = {"tuning": {"optuna", "sqlalchemy"}}
IMPORT_NAMES = {"pillow": "PIL", "tomli-w": "tomli_w"}
VAGUE = {"utils", "util", "common", "helpers", "helper", "core", "misc"}
# The one reader of foreign pickles, and only with torch's restricted reader.
TORCH_READER = "residual.models.interchange.pickled"
UNSAFE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
LONGEST = 400
MOST_DEPENDENCIES = 12


class Import(NamedTuple):
    target: str  # a module, or a module and a name in it
    line: int
    runs: bool  # when the module is imported: not in a function, not for the type checker alone


def load(folder: Path) -> dict[str, str]:
    sources = {}
    for path in sorted((folder / "residual").rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        sources[name] = path.read_text(encoding="utf-8")
    return sources


def is_package(module: str, sources: Sources) -> bool:
    return module == "residual" or any(name.startswith(module + ".") for name in sources)


def imports(module: str, sources: Sources) -> tuple[Import, ...]:
    """Every import in a module, relative ones resolved, `importlib.import_module("...")` included."""
    return _imports(module, sources[module], is_package(module, sources))


@cache
def _imports(module: str, text: str, package: bool) -> tuple[Import, ...]:
    base = module.split(".") if package else module.split(".")[:-1]

    def visit(node: ast.AST, runs: bool) -> Iterator[Import]:
        match node:
            case ast.Import(names=names):
                yield from (Import(alias.name, node.lineno, runs) for alias in names)
            case ast.ImportFrom(module=origin, names=names, level=level):
                start = base[: len(base) - level + 1] if level else []
                stem = ".".join([*start, *([origin] if origin else [])])
                yield from (Import(f"{stem}.{alias.name}", node.lineno, runs) for alias in names)
            case ast.Call(func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__")):
                if node.args and isinstance(node.args[0], ast.Constant):
                    yield Import(str(node.args[0].value), node.lineno, runs)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for number, part in enumerate([*node.body, *node.orelse]):
                yield from visit(part, runs and number >= len(node.body))
            return
        inner = runs and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inner)

    return tuple(visit(ast.parse(text), True))


def room_of(target: str, sources: Sources) -> str:
    """`data` of `residual.data.cifar`; nothing for the root and its modules."""
    parts = target.split(".")
    known = len(parts) > 1 and (parts[1] in ROOMS or is_package(".".join(parts[:2]), sources))
    return parts[1] if known else ""


def wall_faults(sources: Sources) -> list[str]:
    faults = []
    for module in sources:
        room = room_of(module, sources)
        if room and room not in ROOMS:
            faults.append(f"{module}: the room {room} has no row in the table ROOMS")
            continue
        allowed = {room, "", *ROOMS.get(room, ())}
        for target, line, runs in imports(module, sources):
            if target.split(".")[0] != "residual":
                continue
            goal = room_of(target, sources)
            if module in DOORS:
                if goal and runs and module == "residual":
                    faults.append(f"{module}:{line}: the package imports {goal} before it is asked for")
            elif goal not in allowed:
                faults.append(f"{module}:{line}: {room or 'the root'} may not import {goal} ({target})")
            elif not goal and f"residual.{target.split('.')[1] if '.' in target else ''}" not in sources:
                faults.append(f"{module}:{line}: imports through the front door ({target}); name the module")
    return faults


def outside_faults(sources: Sources) -> list[str]:
    faults = []
    for module in sources:
        room = room_of(module, sources)
        allowed = OUTSIDE.get(room, FOUNDATION) | ROOM_EXTRAS.get(room, set())
        for target, line, runs in imports(module, sources):
            name = target.split(".")[0]
            if name in EXTRAS.get(module, ()) and not runs:
                continue
            if name not in sys.stdlib_module_names and name not in allowed | {"residual"}:
                faults.append(f"{module}:{line}: may not import {name}")
    return faults


def cycle_faults(sources: Sources) -> list[str]:
    """The first cycle among the imports that run when a module is imported."""
    edges: dict[str, set[str]] = {}
    for module in sources:
        reached = set()
        for target, _, runs in imports(module, sources):
            if runs and target.split(".")[0] == "residual":
                parts = target.split(".")
                chain = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
                found = [name for name in chain if name in sources]
                # A parent is executed first, unless it is being executed already; the last name is always meant.
                reached |= {name for name in found if name == found[-1] or not f"{module}.".startswith(f"{name}.")}
        edges[module] = reached - {module}
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return [" <- ".join(error.args[1])]
    return []


def length_faults(sources: Sources) -> list[str]:
    counts = {name: len(text.splitlines()) for name, text in sources.items()}
    return [f"{name}: {count} lines; at most {LONGEST}" for name, count in counts.items() if count > LONGEST]


def name_faults(names: Iterable[str]) -> list[str]:
    return [f"{name}: a vague name; which room is missing?" for name in names if VAGUE & set(name.split("."))]


def pickle_faults(sources: Sources) -> list[str]:
    """Files that could run code when they are read: pickle and its users."""
    faults = []
    for module, text in sources.items():
        found = [(target, line) for target, line, _ in imports(module, sources)]
        tree = ast.parse(text)
        named = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
            if alias.name == "torch"
        }
        restricted = {
            node.func
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and any(map(_is_restricted, node.keywords))
        }
        allowed = restricted if module == TORCH_READER else set()
        for node in ast.walk(tree):
            match node:
                case ast.Attribute(value=ast.Name(id=owner), attr="load") if owner in named and node not in allowed:
                    found.append(("torch.load", node.lineno))
                case ast.keyword(arg="allow_pickle", value=value) if ast.unparse(value) != "False":
                    found.append(("pickle", value.lineno))
        bad = [(name, line) for name, line in found if name == "torch.load" or name.split(".")[0] in UNSAFE]
        faults += [f"{module}:{line}: {name} is not read here" for name, line in bad]
    return faults


def _is_restricted(word: ast.keyword) -> bool:
    return word.arg == "weights_only" and isinstance(word.value, ast.Constant) and word.value.value is True


def distributed_faults(sources: Sources) -> list[str]:
    """torch.distributed belongs to one file; everyone else receives rank and world."""
    users = []
    for module, text in sources.items():
        if "distributed" not in text:
            continue
        named = any(target.startswith("torch.distributed") for target, _, _ in imports(module, sources))
        dotted = any(
            isinstance(node, ast.Attribute) and ast.unparse(node).startswith("torch.distributed")
            for node in ast.walk(ast.parse(text))
        )
        users += [module] if named or dotted else []
    return [f"torch.distributed in {' and '.join(users)}"] if len(users) > 1 else []


def dependency_faults(declared: list[str], sources: Sources) -> list[str]:
    """Declared and imported are the same set, and a small one."""
    names = ["".join(c if c.isalnum() or c in "-_" else " " for c in text).split()[0] for text in declared]
    wanted = {IMPORT_NAMES.get(name, name) for name in names}
    used = {
        name
        for module in sources
        for target, _, _ in imports(module, sources)
        if (name := target.split(".")[0])
        not in EXTRAS.get(module, set()) | ROOM_EXTRAS.get(room_of(module, sources), set())
    }
    outside = used - set(sys.stdlib_module_names) - {"residual"}
    faults = [f"{name} is declared and nobody imports it" for name in sorted(wanted - outside)]
    faults += [f"{name} is imported and not declared" for name in sorted(outside - wanted)]
    if len(names) > MOST_DEPENDENCIES:
        faults.append(f"{len(names)} dependencies; at most {MOST_DEPENDENCIES}")
    return faults


SOURCES = load(ROOT / "src")
ALL_FILES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for folder in ("src", "tests", "campaigns", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "golden" not in path.relative_to(ROOT).parts
}
CHECKERS: list[Callable[[Sources], list[str]]] = [
    wall_faults,
    outside_faults,
    cycle_faults,
    pickle_faults,
    distributed_faults,
]


@pytest.mark.parametrize("checker", CHECKERS, ids=lambda checker: checker.__name__)
def test_source(checker):
    assert len(SOURCES) > 4
    assert checker(SOURCES) == []


def test_files_are_short():
    assert length_faults(ALL_FILES) == []


def test_names_say_something():
    assert name_faults(name.removesuffix(".py").replace("/", ".").replace("\\", ".") for name in ALL_FILES) == []


def test_dependencies_are_few_and_used():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert dependency_faults(project["dependencies"], SOURCES) == []
    extras = project["optional-dependencies"]
    brought = {text.split(">")[0] for extra in set(extras) - {"dev", "postgresql"} for text in extras[extra]}
    used = set().union(*EXTRAS.values(), *ROOM_EXTRAS.values())
    assert used | {"cmaes"} == brought  # which Optuna asks for
    for room, names in ROOM_EXTRAS.items():
        assert names <= {text.split(">")[0] for text in extras[room]}, room
    for module, names in EXTRAS.items():
        assert names <= {target.split(".")[0] for target, _, _ in imports(module, SOURCES)}, module


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_every_listed_campaign_is_there(name):
    path = ROOT / (CAMPAIGNS[name].partition(":")[0].replace(".", "/") + ".py")
    assert "\ndef main(" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("arguments", [None, ["--help"], ["--version"]], ids=["import", "help", "version"])
def test_start_imports_no_torch(arguments):
    program = textwrap.dedent(f"""
        import runpy, sys
        arguments = {arguments!r}
        import residual
        code = 0
        if arguments is not None:
            sys.argv = ["residual", *arguments]
            try:
                runpy.run_module("residual", run_name="__main__")
            except SystemExit as stop:
                code = stop.code or 0
        heavy = [name for name in ("torch", "matplotlib", "optuna") if name in sys.modules]
        print(f"code {{code}} heavy {{heavy}} file {{residual.__file__ is not None}}", file=sys.stderr)
    """)
    command = [sys.executable, "-c", program]
    environment = subprocess_environment()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.splitlines()[-1:] == ["code 0 heavy [] file True"]


# The controls: every checker finds the fault it is there for, and only that.

GOOD = {
    "residual": "def __getattr__(name):\n    from residual.training import loop\n",
    "residual.errors": "import sys",
    "residual.data": "",
    "residual.data.cifar": "import numpy\nfrom residual.errors import check\nfrom . import digits",
    "residual.data.digits": "def later():\n    from residual.data import cifar",
    TORCH_READER: "import torch\ntorch.load('x', weights_only=True)",
    "residual.training": "",
    "residual.training.loop": "import torch\nfrom residual.data.cifar import read",
    "residual.analysis": "",
    "residual.analysis.figures": "def draw():\n    from matplotlib.figure import Figure",
}
BAD = {
    "upwards": (wall_faults, "residual.data.cifar", "from residual.training import loop"),
    "upwards in a function": (wall_faults, "residual.data.cifar", "def f():\n    import residual.training.loop"),
    "upwards for types": (wall_faults, "residual.data.x", "if TYPE_CHECKING:\n    from residual.training import loop"),
    "upwards, relative": (wall_faults, "residual.data.cifar", "from ..training.loop import step"),
    "upwards, by name": (wall_faults, "residual.data.cifar", "import_module('residual.training.loop')"),
    "root imports a room": (wall_faults, "residual.errors", "from residual.data import cifar"),
    "door opens too early": (wall_faults, "residual", "from residual.training import loop"),
    "through the front door": (wall_faults, "residual.data.cifar", "from residual import train"),
    "unknown room": (wall_faults, "residual.attic.box", "from residual.errors import check"),
    "foreign package": (outside_faults, "residual.data.cifar", "import scipy.io"),
    "drawing in training": (outside_faults, "residual.training.loop", "def f():\n    import matplotlib"),
    "an extra elsewhere": (outside_faults, "residual.training.loop", "def f():\n    import tensorboard"),
    "optuna outside tuning": (outside_faults, "residual.training.loop", "def f():\n    import optuna"),
    "an extra at once": (outside_faults, "residual.training.tensorboard", "import tensorboard"),
    "downloads in training": (outside_faults, "residual.training.loop", "def f():\n    import pooch"),
    "cycle": (cycle_faults, "residual.data.digits", "from residual.data import cifar"),
    "cycle with the package": (cycle_faults, "residual.data", "from residual.data.cifar import read"),
    "pickle": (pickle_faults, "residual.data.cifar", "import pickle"),
    "torch.load": (pickle_faults, "residual.data.cifar", "import torch\ntorch.load('x')"),
    "torch.load, unrestricted": (pickle_faults, TORCH_READER, "import torch\ntorch.load('x', weights_only=False)"),
    "torch.load, elsewhere": (pickle_faults, "residual.data.x", "import torch\ntorch.load('x', weights_only=True)"),
    "torch.load, renamed": (pickle_faults, "residual.data.cifar", "import torch as t\nt.load('x')"),
    "torch.load, imported": (pickle_faults, "residual.data.cifar", "from torch import load"),
    "numpy's pickle": (pickle_faults, "residual.data.cifar", "numpy.load('x', allow_pickle=True)"),
    "too long": (length_faults, "residual.data.cifar", "\n" * (LONGEST + 1)),
    "vague name": (name_faults, "residual.data.utils", ""),
}


@pytest.mark.parametrize("checker", [*CHECKERS, length_faults], ids=lambda checker: checker.__name__)
def test_a_good_house_has_no_fault(checker):
    assert checker(GOOD) == []


@pytest.mark.parametrize(("checker", "module", "text"), BAD.values(), ids=BAD)
def test_a_fault_is_found(checker, module, text):
    extra = {"residual.data.cifar": "from residual.data import X"} if module == "residual.data" else {}
    assert len(checker({**GOOD, **extra, module: text})) == 1


def test_a_second_user_of_torch_distributed_is_found():
    text = "import torch\ntorch.distributed.barrier()"
    assert distributed_faults({**GOOD, "residual.training.loop": text}) == []
    second = {"residual.training.loop": text, "residual.data.cifar": "from torch import distributed"}
    assert len(distributed_faults({**GOOD, **second})) == 1


def test_dependency_faults_are_found():
    sources = {"residual.errors": "import numpy, PIL, scipy"}
    assert dependency_faults(["numpy>=2", "pillow", "tomli-w>=1"], sources) == [
        "tomli_w is declared and nobody imports it",
        "scipy is imported and not declared",
    ]
    assert len(dependency_faults([f"numpy{n}>=2" for n in range(13)], {})) == 13 + 1
