"""What modules are called, and who brings them: the distributions whose names differ, and what of Python comes and goes."""

from __future__ import annotations

import re
import sys
from pathlib import PurePosixPath

from builders.runtimes import RUNTIME_MODULES

# Modules whose distribution on PyPI has another name than they have.
_DISTRIBUTIONS = {
    "Crypto": "pycryptodome",
    "Cryptodome": "pycryptodomex",
    "MySQLdb": "mysqlclient",
    "OpenSSL": "pyOpenSSL",
    "PIL": "pillow",
    "_cffi_backend": "cffi",
    "attr": "attrs",
    "aws_cdk": "aws-cdk-lib",
    "bs4": "beautifulsoup4",
    "bson": "pymongo",
    "cv2": "opencv-python-headless",
    "discord": "discord.py",
    "dns": "dnspython",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "faiss": "faiss-cpu",
    "fitz": "PyMuPDF",
    "git": "GitPython",
    "github": "PyGithub",
    "google.api_core": "google-api-core",
    "google.auth": "google-auth",
    "google.cloud.bigquery": "google-cloud-bigquery",
    "google.cloud.firestore": "google-cloud-firestore",
    "google.cloud.logging": "google-cloud-logging",
    "google.cloud.pubsub_v1": "google-cloud-pubsub",
    "google.cloud.secretmanager": "google-cloud-secret-manager",
    "google.cloud.storage": "google-cloud-storage",
    "google.oauth2": "google-auth",
    "google.protobuf": "protobuf",
    "googleapiclient": "google-api-python-client",
    "grpc": "grpcio",
    "gridfs": "pymongo",
    "jose": "python-jose",
    "jwt": "PyJWT",
    "ldap": "python-ldap",
    "magic": "python-magic",
    "memcache": "python-memcached",
    "mpl_toolkits": "matplotlib",
    "multipart": "python-multipart",
    "mysql": "mysql-connector-python",
    "nacl": "PyNaCl",
    "opensearchpy": "opensearch-py",
    "opentelemetry.trace": "opentelemetry-api",
    "pkg_resources": "setuptools<81",
    "pptx": "python-pptx",
    "psycopg2": "psycopg2-binary",
    "psycopg": "psycopg[binary]",
    "pydantic_core": "pydantic",
    "pylab": "matplotlib",
    "pythonjsonlogger": "python-json-logger",
    "rest_framework": "djangorestframework",
    "ruamel": "ruamel.yaml",
    "samtranslator": "aws-sam-translator",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "slugify": "python-slugify",
    "snowflake.connector": "snowflake-connector-python",
    "socks": "PySocks",
    "telegram": "python-telegram-bot",
    "websocket": "websocket-client",
    "yaml": "PyYAML",
    "zmq": "pyzmq",
}
_OF_THE_SAME_NAME = frozenset(
    (
        *("aiohttp", "alembic", "anthropic", "arrow", "aws_lambda_powertools", "cachetools", "celery", "certifi"),
        *("cffi", "click", "cryptography", "duckdb", "elasticsearch", "fastapi", "flask", "fsspec", "geopandas", "httpx"),
        *("jinja2", "jsonschema", "lightgbm", "lxml", "mangum", "markdown", "markupsafe", "marshmallow"),
        *("matplotlib", "msgpack", "networkx", "nltk", "numba", "numpy", "openai", "openpyxl", "orjson", "packaging", "pandas"),
        *("paramiko", "pendulum", "polars", "psutil", "pyarrow", "pydantic", "pydantic_settings", "pymongo", "pymysql"),
        *("pyodbc", "pytest", "pytz", "redis", "regex", "requests", "rich", "s3fs", "scipy", "sentry_sdk", "setuptools"),
        *("shapely", "simplejson", "sqlalchemy", "starlette", "stripe", "structlog", "sympy", "tabulate", "tenacity", "toml"),
        *("tornado", "tqdm", "typer", "typing_extensions", "uvicorn", "werkzeug", "wrapt", "xgboost", "xlsxwriter"),
    )
)
"""Modules of well-known distributions that are called as they are, but for capitals and hyphens."""
NAMESPACES = {
    "azure": "azure-",
    "backports": "backports.",
    "google": "google-",
    "google.cloud": "google-cloud-",
    "opentelemetry": "opentelemetry-",
    "zope": "zope.",
}
"""Packages of which each distribution brings one part, and how such a distribution's name begins."""

_PARTED = frozenset(name.partition(".")[0] for name in NAMESPACES)
# Module to (the first minor of Python 3 without it, what brings it back), from "Porting to Python 3.N" and PEP 594.
_REMOVED = {
    "asynchat": (12, "pyasynchat"),
    "asyncore": (12, "pyasyncore"),
    "distutils": (12, "setuptools"),
    "imp": (12, ""),
    "smtpd": (12, "aiosmtpd"),
    "lib2to3": (13, ""),
    "aifc": (13, "standard-aifc"),
    "audioop": (13, "audioop-lts"),
    "cgi": (13, "legacy-cgi"),
    "cgitb": (13, "legacy-cgi"),
    "chunk": (13, "standard-chunk"),
    "crypt": (13, "legacycrypt"),
    "imghdr": (13, "standard-imghdr"),
    "mailcap": (13, "standard-mailcap"),
    "nntplib": (13, "standard-nntplib"),
    "pipes": (13, "standard-pipes"),
    "sndhdr": (13, "standard-sndhdr"),
    "spwd": (13, ""),
    "sunau": (13, "standard-sunau"),
    "telnetlib": (13, "standard-telnetlib"),
    "uu": (13, "standard-uu"),
    "xdrlib": (13, "standard-xdrlib"),
}
# Module to (the first minor of Python 3 with it, what brings it before that).
_ADDED = {"tomllib": (11, "tomli"), "compression": (14, "backports.zstd"), "annotationlib": (14, "")}


def likely_distribution(module: str) -> tuple[str, bool]:
    """Return the distribution that likely brings a module, and whether that is known rather than guessed from its name.

    A guess is good to look for among distributions that the user knows, and never to be offered: anyone may register it.
    """
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if name in NAMESPACES and len(parts) > length:
            return NAMESPACES[name] + parts[length].replace("_", "-"), False
        if name in _DISTRIBUTIONS:
            return _DISTRIBUTIONS[name], True
    is_known = parts[0] in RUNTIME_MODULES or parts[0] in _OF_THE_SAME_NAME
    return RUNTIME_MODULES.get(parts[0], parts[0].replace("_", "-")), is_known


def removed_from(module: str, minor: int) -> tuple[int, str] | None:
    """Return the minor of Python 3 that removed a standard module before this one, and what brings it back; else None."""
    first, substitute = _REMOVED.get(module.partition(".")[0], (minor + 1, ""))
    return (first, substitute) if first <= minor else None


def added_after(module: str, minor: int) -> tuple[int, str] | None:
    """Return the minor of Python 3 that added a standard module after this one, and what brings it before; else None."""
    first, substitute = _ADDED.get(module.partition(".")[0], (0, ""))
    return (first, substitute) if first > minor else None


def is_standard(module: str, minor: int) -> bool:
    """Return whether a module is of the standard library of a minor of Python 3."""
    top = module.partition(".")[0]
    if top in _REMOVED or top in _ADDED:
        return removed_from(module, minor) is None and added_after(module, minor) is None
    return top in sys.stdlib_module_names


def leading_folder(text: str, paths: set[str], top: str) -> str:
    """Return the folder that a line of a .pth file adds to the path, and that holds a module; empty where there is none."""
    lines = (line.strip() for line in text.splitlines() if not line.startswith(("#", "import ", "import\t")))
    folders = (str(PurePosixPath(line)) for line in lines if line)
    return next((folder for folder in folders if _holds(paths, folder, top)), "")


def _holds(paths: set[str], folder: str, top: str) -> bool:
    base = "" if folder == "." else f"{folder}/"
    wanted = (f"{base}{top}.py", f"{base}{top}/", f"{base}{top}.")
    return any(path.startswith(wanted) for path in paths)


def full_name(module: str, trace: str) -> str:
    """Return the name of a module as the last statement of a traceback imports it: of a package that is absent, the part."""
    line = trace.rstrip().splitlines()[-2:] or [""]
    text = re.sub(r"\bfrom +([\w.]+) +import +(\w+)", r"\1.\2", " ".join(line)) if "." not in module else ""
    found = re.search(rf"\b{re.escape(module)}\.[\w.]+", text)
    return found[0] if found and module in _PARTED else module
