"""What a build says of functions that it cannot verify: which end it, which are only told, and what helps."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.shaped import ARCHITECTURE, MINOR, RUNTIME, make_project
from tests.wheels import make_wheel

HANDLER = "def handler(event, context):\n    return 1\n"
ARN = "arn:aws:lambda:eu-west-1:111122223333:layer"
AWAY = "python3.14" if MINOR < 14 else "python3.9"
"""A runtime whose Python is on no machine that runs these tests, or is older than this one."""


def write_functions(folder: Path, sources: Mapping[str, Mapping[str, str]], settings: Mapping[str, str] | None = None) -> None:
    """Write a project with these functions, by their files; a handler is ``app.handler`` unless the settings name one."""
    text = f'runtime = "{RUNTIME}"\narch = "{ARCHITECTURE}"\n'
    for name, files in sources.items():
        for path, content in files.items():
            (folder / name / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / name / path).write_text(content)
        more = (settings or {}).get(name, "")
        handler = "" if "handler =" in more else 'handler = "app.handler"\n'
        text += f'[functions.{name}]\nsource = "{name}"\n{handler}{more}\n'
    (folder / "lpack.toml").write_text(text)


def error_of(stderr: str, name: str) -> str:
    """Return what is said of a function that failed: from its name to the next one's."""
    found = re.search(rf"(?:^|error: ){name} c.*?(?=^\w+ cannot|\Z)", stderr, re.MULTILINE | re.DOTALL)
    assert found, stderr
    return found[0]


BROKEN: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "absent": (
        {"app.py": f"import json\nimport yaml\n{HANDLER}"},
        ("neither the function nor the runtime provides the module 'yaml' that app.py:2 imports.", "requirements (PyYAML)"),
    ),
    "below": (
        {
            "app.py": f"import tools.more\n{HANDLER}",
            "tools/__init__.py": "",
            "tools/more.py": "\nfrom google.cloud import storage\n",
        },
        ("'google.cloud.storage' that tools/more.py:2 imports", "requirements (google-cloud-storage)"),
    ),
    "chained": (
        {"app.py": f"try:\n    import jwt\nexcept ImportError as error:\n    raise ImportError('it') from error\n{HANDLER}"},
        ("'jwt' that app.py:2 imports", "requirements (PyJWT)"),
    ),
    "unknown": (
        {"app.py": f"import acme_nobody_has\n{HANDLER}"},
        ("'acme_nobody_has' that app.py:1 imports", "Add the distribution that provides it to its requirements, and"),
    ),
    "sought": (
        {
            "app.py": f"import finder\n{HANDLER}",
            "finder.py": "import ctypes; raise ImportError('failed to find libmagic.  Check it')\n",
        },
        ("has the library libmagic that finder.py:1 loads.", 'format = "image"'),
    ),
    "wrapped": (
        {
            "app.py": "import ctypes\ntry:\n    ctypes.CDLL('libnowhere.so.3')\nexcept OSError as error:\n"
            f"    raise ImportError('install it') from error\n{HANDLER}"
        },
        ("has the library libnowhere.so.3 that app.py:3 loads.", "Put it into lib/"),
    ),
    "misplaced": (
        {"app.py": f"import tool\n{HANDLER}", "lib/tool.py": ""},
        ("'tool' that app.py:1 imports: it lies in lib/, where Python does not look.", "Import it as lib.tool"),
    ),
    "hidden": (
        {"app.py": f"import email.mime.text\n{HANDLER}", "email.py": ""},
        ("email.py of the function's own hides the module 'email.mime'", "Give email.py another name."),
    ),
    "name": (
        {"app.py": f"from tool import wanted\n{HANDLER}", "tool.py": "other = 1\n"},
        ("tool has no 'wanted' that app.py:1 imports.", "Define it there"),
    ),
    "metadata": (
        {"app.py": f"from importlib.metadata import version\nversion('acme')\n{HANDLER}"},
        ("nothing provides the metadata of the distribution 'acme' that app.py:2 asks for.", "Add acme to its requirements"),
    ),
    "project": (
        {
            "app.py": f"from importlib.metadata import version\nversion('Acme.Own')\n{HANDLER}",
            "pyproject.toml": '[project]\nname = "acme-own"\ndynamic = ["version"]\n',
            "requirements.txt": "",
        },
        ("the metadata of the distribution 'Acme.Own'", "Require the project itself"),
    ),
    "library": (
        {"app.py": f"import ctypes\nctypes.CDLL('libnowhere.so.3')\n{HANDLER}"},
        ("neither the function nor the runtime has the library libnowhere.so.3 that app.py:2 loads.", "Put it into lib/"),
    ),
    "locks": (
        {"app.py": f"import multiprocessing\nPOOL = multiprocessing.Pool(2)\n{HANDLER}"},
        ("OSError: [Errno 38] Function not implemented, at app.py:2; multiprocessing needs /dev/shm", "multiprocessing.Pipe"),
    ),
    "writes": (
        {"app.py": f"import os\nos.makedirs('/var/cache/models')\n{HANDLER}"},
        ("Read-only file system: '/var/cache', at app.py:2; only /tmp can be written.", "Write below /tmp"),
    ),
    "beside": (
        {"app.py": f"import tool\n{HANDLER}", "tool.py": "open('tool.log', 'w')\n"},
        ("Read-only file system: 'tool.log', at tool.py:1; only /tmp can be written.", "Write below /tmp"),
    ),
    "data": (
        {"app.py": f"CITIES = open('cities.csv')\n{HANDLER}"},
        ("'cities.csv', at app.py:1; it is not packed with the function.", "Put it into its source"),
    ),
    "ignored": (
        {"app.py": f"import tool\n{HANDLER}", "tool.py": "open('a/b.csv')\n", "a/b.csv": "1\n", ".gitignore": "a/*.csv\n"},
        ("'a/b.csv', at tool.py:1; it is not packed with the function, though it lies in the source.", "a line !a/b.csv in"),
    ),
    "program": (
        {"app.py": f"import subprocess\nsubprocess.run(['git', '--version'])\n{HANDLER}"},
        ("'git', at app.py:2; there is no program git.", "Put git into bin/ of a layer"),
    ),
    "function": (
        {
            "app.py": "import os\nfrom json import dumps\n\ndef main(): ...\n\ndef handle(event, context): ...\n\n"
            "class Order: ...\n\nLIMIT = 3\nREGION = os.environ.get('REGION')\n"
        },
        ("Handler 'handler' missing on module 'app'", "The module has handle, main. Define it in that module"),
    ),
    "undefined": (
        {"app.py": f"import os\nSTAGE = os.environ.get('STAGE')\nTABLE = prefix + 'orders'\n{HANDLER}"},
        ("NameError: name 'prefix' is not defined, at app.py:3.", "Define it before that line"),
    ),
    "unbound": (
        {"app.py": f"COUNT = 0\ndef count():\n    COUNT += 1\ncount()\n{HANDLER}"},
        ("UnboundLocalError: ", "'COUNT'", "at app.py:3."),
    ),
    "quits": (
        {"app.py": f"import tool\n{HANDLER}", "tool.py": "import sys\nsys.exit(3)\n"},
        ("SystemExit: 3, at tool.py:2: its import ends the process.", "Raise an error instead"),
    ),
    "quits_at_once": (
        {"app.py": f"import os\nos._exit(0)\n{HANDLER}"},
        ("the interpreter ended with status 0", "Raise an error instead"),
    ),
}


def test_what_fails_on_lambda_too_ends_the_build_with_its_remedy(tmp_path, lpack, index, cache):
    write_functions(tmp_path, {name: files for name, (files, _) in BROKEN.items()})
    finished = lpack("build", cwd=tmp_path)
    assert finished.returncode == 4
    for name, (_, told) in BROKEN.items():
        said = error_of(finished.stderr, name)
        assert [each for each in told if each not in said] == [], said
    assert not (tmp_path / "dist" / "absent.zip").exists()


def test_a_standard_module_of_other_pythons_names_what_brings_it(tmp_path, lpack, index, cache):
    module, first, substitute = ("distutils", 12, "setuptools") if MINOR >= 12 else ("annotationlib", 14, "")
    write_functions(tmp_path, {"one": {"app.py": f"import {module}\n{HANDLER}"}})
    finished = lpack("build", cwd=tmp_path)
    assert finished.returncode == 4
    assert f"'{module}' that app.py:1 imports is" in finished.stderr
    assert f"from 3.{first} on, and nothing else provides it." in finished.stderr
    assert substitute in finished.stderr


PATH_FILES = {
    "a folder": (
        {"bundle.pth": b"# ours\nbundled\n", "bundled/inner.py": b""},
        "bundle on bundle.pth (bundled)",
        "/var/task/bundled",
    ),
    "an import": ({"bundle.pth": b"import sys; sys.modules['inner'] = sys\n"}, "bundle on bundle.pth to", "do in the handler"),
}


@pytest.mark.parametrize(("files", "relies", "helps"), PATH_FILES.values(), ids=PATH_FILES)
def test_a_pth_file_that_lambda_does_not_read_is_named(tmp_path, lpack, index, index_folder, cache, files, relies, helps):
    make_wheel(index_folder, "bundle", "1.0", files)
    project = make_project(tmp_path / "project", lpack, f"import inner\n{HANDLER}", "bundle\n")
    stderr = project.run("build", status=4).stderr
    assert "Lambda reads no .pth file, and " in stderr
    assert relies.replace("bundle on", "bundle relies on") in stderr
    assert helps in stderr
    if b"bundled" in files["bundle.pth"]:
        project.configure('environment = { PYTHONPATH = "/var/task/bundled" }')
        assert project.build()["verified"]["level"] == "import"


def test_optional_imports_are_no_matter(tmp_path, lpack, index, cache):
    source = f"try:\n    import yaml\nexcept ImportError:\n    yaml = None\n{HANDLER}"
    project = make_project(tmp_path / "project", lpack, source)
    assert project.build("--strict")["verified"]["level"] == "import"


ELSEWHERE = {
    "a variable": ("import os\nTABLE = os.environ['TABLE']\n", "", "deployment", "KeyError: 'TABLE'"),
    "a name that a variable decides": (
        "import os\nif 'TABLE' in os.environ:\n    TABLE = 1\nprint(TABLE)\n",
        "",
        "deployment",
        "NameError: name 'TABLE' is not defined, at app.py:4",
    ),
    "a name of an unknown layer": (
        "try:\n    import yaml\nexcept ImportError:\n    pass\nyaml.Loader\n",
        f'attached = ["{ARN}:Mine:3"]',
        "layer",
        "NameError: name 'yaml' is not defined, at app.py:5; it may come from layer Mine:3",
    ),
    "an exit that a variable decides": (
        "import os, sys\nif not os.environ.get('TABLE'):\n    sys.exit('no TABLE')\n",
        "",
        "deployment",
        "SystemExit: no TABLE, at app.py:3: its import ends the process",
    ),
    "an exit that the network decides": (
        "import socket, sys\ntry:\n    socket.create_connection(('192.0.2.1', 80))\nexcept OSError:\n    sys.exit('no peer')\n",
        "",
        "deployment",
        "SystemExit: no peer, at app.py:5: its import ends the process",
    ),
    "a value that a variable gives": ("import os\nSIZE = int(os.environ.get('SIZE', ''))\n", "", "deployment", "ValueError: "),
    "native code that fails outside of the runtime": (
        "import ctypes\nctypes.string_at(0)\n",
        "",
        "interpreter",
        "the interpreter ended with signal 11 (SIGSEGV), outside of the runtime's own files",
    ),
    "an unknown layer": (
        "import yaml\n",
        f'attached = ["{ARN}:Mine:3"]',
        "layer",
        "the module 'yaml' that app.py:1 imports is not here; it may lie in layer Mine:3",
    ),
    "a file system": (
        "import sys\nsys.path.append('/mnt/packages')\nimport torch\n",
        "",
        "deployment",
        "the module 'torch' that app.py:3 imports is not here; it may lie in a folder that only the deployed function has",
    ),
    "a home": (
        "import os\nos.makedirs(os.path.expanduser('~/.cache'))\n",
        "",
        "deployment",
        "OSError: [Errno 30] Read-only file system: '/home/sbx_user1051', at app.py:2; only /tmp can be written",
    ),
    "a folder that a variable names": (
        "import os\nos.makedirs(os.environ.get('CACHE', '/var/cache/one'))\n",
        "",
        "deployment",
        "OSError: [Errno 30] Read-only file system: '/var/cache', at app.py:2; only /tmp can be written",
    ),
    "a file that a variable names": (
        "import os\nopen(os.environ.get('CITIES', 'cities.csv'))\n",
        "",
        "deployment",
        "FileNotFoundError: [Errno 2] No such file or directory: 'cities.csv', at app.py:2; it is not packed with the function",
    ),
    "a file of an unknown layer": (
        "open('/opt/cities.csv')\n",
        f'attached = ["{ARN}:Data:3"]',
        "layer",
        "FileNotFoundError: [Errno 2] No such file or directory: '/opt/cities.csv', at app.py:1; it is not packed with",
    ),
    "a program of an unknown layer": (
        "import subprocess\nsubprocess.run('git')\n",
        f'attached = ["{ARN}:Git:3"]',
        "layer",
        "FileNotFoundError: [Errno 2] No such file or directory: 'git', at app.py:2; there is no program git here",
    ),
    "the network": (
        "import socket\nsocket.create_connection(('192.0.2.1', 80), 1)\n",
        "",
        "deployment",
        "OSError: [Errno 101]",
    ),
}


@pytest.mark.parametrize(("source", "settings", "cause", "reason"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_what_only_the_deployment_has_is_a_warning_and_an_error_when_strict(
    tmp_path, lpack, index, cache, source, settings, cause, reason
):
    project = make_project(tmp_path / "project", lpack, source + HANDLER, settings=settings)
    finished = project.run("build")
    assert "warning: one was not verified: it cannot be run here, trimmed or not" in finished.stderr
    assert f"  not verified: {reason[:60]}" in finished.stdout
    verified = project.build()["verified"]
    assert (verified["level"], verified["not_verified"]["cause"]) == ("none", cause)
    assert reason in verified["not_verified"]["reason"]
    strict = project.run("build", "--strict", status=4).stderr
    assert "one was not verified, and --strict asks for that: " in strict
    assert reason in strict


def test_verified_functions_say_so_in_the_table(tmp_path, lpack, index, cache):
    project = make_project(tmp_path / "project", lpack, HANDLER)
    assert "  built  verified  " in project.run("build").stdout
    assert "verified" not in project.run("build", "--verify", "none").stdout


def sdk_wheels(folder: Path) -> None:
    """Write stand-ins for what the runtime has."""
    make_wheel(folder, "boto3", "1.0", {"boto3/__init__.py": b"import botocore\n"}, requires=("botocore",))
    make_wheel(folder, "botocore", "1.0", {"botocore/__init__.py": b"import six\n"}, requires=("six",))
    make_wheel(folder, "six", "1.0", {"six.py": b""})


SDK_USERS = {
    "its module": {"app.py": f"import boto3\n{HANDLER}"},
    "an optional import": {"app.py": f"try:\n    import boto3\nexcept ImportError:\n    raise SystemExit\n{HANDLER}"},
    "a module of its own": {"app.py": f"import tool\n{HANDLER}", "tool.py": "from boto3 import botocore\n"},
    "a computed name": {"app.py": f"import importlib\nimportlib.import_module('bo' + 'to3')\n{HANDLER}"},
}


@pytest.mark.parametrize("files", SDK_USERS.values(), ids=SDK_USERS)
def test_what_the_runtime_has_is_fetched_for_the_proof_alone(tmp_path, lpack, index, index_folder, cache, files):
    sdk_wheels(index_folder)
    write_functions(tmp_path, {"one": files})
    report = json.loads(lpack("build", "--json", "--verify", "import", cwd=tmp_path).stdout)["functions"]["one"]
    assert report["verified"]["level"] == "import"
    assert report["distributions"] == []
    with zipfile.ZipFile(tmp_path / "dist" / "one.zip") as archive:
        assert not [name for name in archive.namelist() if "boto" in name or "six" in name]


def test_a_dependency_that_leaves_its_own_to_the_runtime_is_verified(tmp_path, lpack, index, index_folder, cache):
    sdk_wheels(index_folder)
    make_wheel(index_folder, "user", "1.0", {"user.py": b"import six\n"})
    project = make_project(tmp_path / "project", lpack, f"import user\n{HANDLER}", "user\n")
    assert project.build()["verified"]["level"] == "import"


def test_functions_that_do_not_use_it_fetch_nothing(tmp_path, lpack, index, index_folder, cache):
    sdk_wheels(index_folder)
    project = make_project(tmp_path / "project", lpack, f'"""Nothing of boto3."""\n{HANDLER}')
    assert "downloaded" not in project.run("build").stderr


def test_offline_the_runtimes_packages_leave_a_function_not_verified(tmp_path, lpack, index, index_folder, cache):
    sdk_wheels(index_folder)
    project = make_project(tmp_path / "project", lpack, f"import boto3\n{HANDLER}")
    report = project.build("--offline")
    assert report["verified"]["not_verified"]["cause"] == "runtime"
    assert "'boto3' that app.py:1 imports, which the runtime has, is not here" in report["verified"]["not_verified"]["reason"]


HANDLERS = {
    "in a layer": ("instana.lambda_handler", "layer", "its handler lies in a layer (instana-python:62)"),
    "a script": ("run.sh", "script", "its handler is a script"),
}


@pytest.mark.parametrize(("handler", "cause", "reason"), HANDLERS.values(), ids=HANDLERS)
def test_a_handler_that_is_no_module_of_the_function_is_built(tmp_path, lpack, index, cache, handler, cause, reason):
    files = {"app.py": HANDLER, "run.sh": "#!/bin/bash\nexec python app.py\n"}
    settings = f'handler = "{handler}"\nattached = ["{ARN}:instana-python:62"]'
    write_functions(tmp_path, {"plain": {"app.py": HANDLER}, "traced": files}, {"traced": settings})
    finished = lpack("build", "--verify", "import", cwd=tmp_path)
    assert finished.returncode == 0
    assert f"not verified: {reason}" in finished.stdout
    assert f"warning: traced was not verified: {reason}." in finished.stderr
    manifest = json.loads((tmp_path / "dist" / "lpack.json").read_text())["functions"]
    assert manifest["plain"]["verified"]["level"] == "import"
    assert manifest["traced"]["verified"] == {
        "level": "none",
        "not_verified": {"cause": cause, "reason": reason, "handler_elsewhere": True},
    }
    with zipfile.ZipFile(tmp_path / "dist" / "traced.zip") as archive:
        assert {"app.py", "run.sh"} <= set(archive.namelist())
        assert archive.getinfo("run.sh").external_attr >> 16 & 0o777 == (0o755 if handler == "run.sh" else 0o644)
    assert ("run.sh is packed as executable" in finished.stderr) == (handler == "run.sh")
    told = lpack("verify", cwd=tmp_path)
    assert (told.returncode, told.stdout.splitlines()[1]) == (0, f"traced  not verified: {reason}")
    skipped = json.loads(lpack("verify", "--json", "traced", cwd=tmp_path).stdout)
    assert skipped == {"traced": {"not_verified": {"cause": cause, "reason": reason, "handler_elsewhere": True}}}
    started = lpack("coldstart", "traced", cwd=tmp_path)
    assert started.returncode == 4
    assert f"traced cannot be started here: {reason}." in started.stderr
    strict = lpack("build", "--strict", cwd=tmp_path)
    assert strict.returncode == 4
    assert f"traced was not verified, and --strict asks for that: {reason}." in strict.stderr


@pytest.mark.parametrize("handler", ["instana.lambda_handler", "bootstrap", "node_modules/.bin/serve"])
def test_any_handler_is_built_where_nothing_is_verified(tmp_path, lpack, index, cache, handler):
    write_functions(tmp_path, {"one": {"app.py": HANDLER}}, {"one": f'handler = "{handler}"'})
    assert lpack("build", "--verify", "none", cwd=tmp_path).returncode == 0
    assert lpack("build", cwd=tmp_path).returncode == 2


AWAY_FAULTS = {
    "a syntax error": ({"app.py": "def handler(event, context)\n    return 1\n"}, "SyntaxError: expected ':' (app.py, line 1)"),
    "no such function": ({"app.py": "def main(event, context): ...\n"}, "The module has main."),
    "an absent module": (
        {"app.py": f"import tool\n{HANDLER}", "tool.py": "import sys\nimport cv2\n"},
        "the module 'cv2' that tool.py:2 imports",
    ),
}


@pytest.mark.parametrize(("files", "told"), AWAY_FAULTS.values(), ids=AWAY_FAULTS)
def test_faults_that_the_source_shows_are_found_without_the_targets_python(tmp_path, lpack, index, cache, files, told):
    write_functions(tmp_path, {"one": files})
    finished = lpack("build", "--runtime", AWAY, cwd=tmp_path)
    assert finished.returncode == 4
    assert told in finished.stderr


AWAY_SOUND = {
    "newer syntax": "type Pair[T] = tuple[T, T]\n" if MINOR < 14 else "",
    "names of another": "from tool import *\n",
    "a path of its own": "import sys\nsys.path.append('vendor')\nimport cv2\n",
    "an optional import": "try:\n    import cv2\nexcept ImportError:\n    pass\n",
    "what the runtime has": "import boto3, awslambdaric\n",
}


def test_what_the_source_does_not_decide_is_built_not_verified(tmp_path, lpack, index, cache):
    sources = {
        f"f{number}": {"app.py": text + ("" if "*" in text else HANDLER)} for number, text in enumerate(AWAY_SOUND.values())
    }
    write_functions(tmp_path, {name: {**files, "tool.py": HANDLER} for name, files in sources.items()})
    finished = lpack("build", "--runtime", AWAY, "--json", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    for report in json.loads(finished.stdout)["functions"].values():
        assert report["verified"]["not_verified"]["cause"] == "interpreter"
        assert f"no Python 3.{AWAY.partition('.')[2]} is here" in report["verified"]["not_verified"]["reason"]


TEMPLATE = """\
Transform: AWS::Serverless-2016-10-31
Parameters: {Stage: {Type: String, Default: dev}}
Conditions: {IsDev: !Equals [!Ref Stage, dev]}
Globals: {Function: {Runtime: %s, Architectures: [%s]}}
Resources:
  Shared: {Type: AWS::Serverless::LayerVersion, Properties: {ContentUri: shared}}
  Later: {Type: AWS::Lambda::LayerVersion, Properties: {Content: later.zip}}
  Made:
    Type: AWS::Serverless::LayerVersion
    Properties: {ContentUri: made}
    Metadata: {BuildMethod: python3.12}
  One:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: one
      Handler: app.handler
      Layers: %s
"""


def template_project(folder: Path, source: str, layers: str, made: str = "") -> None:
    files = {
        "template.yaml": TEMPLATE % (RUNTIME, ARCHITECTURE, layers),
        "one/app.py": f"{source}\n{HANDLER}",
        "shared/python/tool.py": "VALUE = 'shared'\n",
        "made/common.py": "",
        "made/requirements.txt": made,
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    with zipfile.ZipFile(folder / "later.zip", "w") as archive:
        archive.writestr("python/tool.py", "VALUE = 'later'\n")


def build_template(lpack: Any, folder: Path, *flags: str) -> dict[str, Any]:
    finished = lpack("build", "--template", "template.yaml", "--json", *flags, cwd=folder)
    assert finished.returncode == 0, finished.stderr
    report: dict[str, Any] = json.loads(finished.stdout)["functions"]["One"]
    return report


LOCAL = {
    "one": ("[!Ref Shared]", "'shared'"),
    "the later wins": ("[!Ref Shared, !Ref Later]", "'later'"),
    "the other way": ("[!Ref Later, !Ref Shared]", "'shared'"),
    "by a condition": ("[!If [IsDev, !Ref Shared, !Ref Later]]", "'shared'"),
    "by its ARN": ("[!GetAtt Later.LayerVersionArn]", "'later'"),
    "no list": ("!If [IsDev, [!Ref Shared], []]", "'shared'"),
}


@pytest.mark.parametrize(("layers", "value"), LOCAL.values(), ids=LOCAL)
def test_a_templates_own_layers_lie_at_opt_in_their_order(tmp_path, lpack, index, cache, layers, value):
    template_project(
        tmp_path, f"import tool\nassert tool.VALUE == {value}\nassert tool.__file__[:12] == '/opt/python/'", layers
    )
    report = build_template(lpack, tmp_path)
    assert report["verified"]["level"] == "import"
    assert report["attached_bytes"] >= len("VALUE = 'later'\n")


def test_a_layer_that_changes_is_proved_again(tmp_path, lpack, index, cache):
    template_project(tmp_path, "from tool import VALUE", "[!Ref Shared]")
    assert build_template(lpack, tmp_path)["verified"]["level"] == "import"
    (tmp_path / "shared/python/tool.py").write_text("OTHER = 1\n")
    finished = lpack("build", "--template", "template.yaml", cwd=tmp_path)
    assert finished.returncode == 4
    assert "tool has no 'VALUE' that app.py:1 imports." in finished.stderr


def test_what_no_known_layer_has_ends_the_build(tmp_path, lpack, index, cache):
    template_project(tmp_path, "import yaml", "[!Ref Shared]")
    finished = lpack("build", "--template", "template.yaml", cwd=tmp_path)
    assert finished.returncode == 4
    assert "neither the function, nor its layers, nor the runtime provides the module 'yaml'" in finished.stderr


@pytest.mark.parametrize(("made", "known"), [("", True), ("# nothing\n", True), ("pyyaml\n", False)])
def test_a_layer_that_sam_builds_may_hold_what_it_requires(tmp_path, lpack, index, cache, made, known):
    template_project(tmp_path, "import common, yaml", "[!Ref Made]", made)
    finished = lpack("build", "--template", "template.yaml", cwd=tmp_path)
    assert finished.returncode == (4 if known else 0)
    assert ("it may lie in layer Made" in finished.stdout) == (not known)


def test_a_templates_own_layers_count_against_lambdas_limit(tmp_path, lpack, index, cache):
    template_project(tmp_path, "import tool", "[!Ref Shared]")
    with (tmp_path / "shared" / "data").open("wb") as file:
        file.truncate(262_144_000)
    finished = lpack("build", "--template", "template.yaml", "--verify", "none", cwd=tmp_path)
    assert finished.returncode == 3
    assert "attached layers 250.0 MB" in finished.stderr


def test_variables_of_a_template_are_those_of_the_proof(tmp_path, lpack, index, cache):
    template_project(tmp_path, "import os\nassert os.environ['STAGE'] == 'dev'", "[]")
    template = tmp_path / "template.yaml"
    template.write_text(f"{template.read_text()}      Environment: {{Variables: {{STAGE: !Ref Stage}}}}\n")
    assert build_template(lpack, tmp_path)["verified"]["level"] == "import"
