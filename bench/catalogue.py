"""Which distributions `bench.popular` takes, and what is imported of each."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

POPULAR = (
    # scientific
    *("numpy", "pandas", "scipy", "scikit-learn", "pyarrow", "polars", "matplotlib", "numba", "networkx"),
    # databases
    *("psycopg2-binary", "psycopg[binary]", "asyncpg", "pymysql", "mysql-connector-python", "pymongo", "redis", "sqlalchemy"),
    # cryptography
    *("cryptography", "pycryptodome", "pynacl", "bcrypt", "paramiko", "pyopenssl"),
    # the web
    *("fastapi", "flask", "django", "starlette", "aiohttp", "httpx", "requests", "pydantic", "mangum", "beautifulsoup4"),
    # AWS
    *("boto3", "aws-lambda-powertools", "s3fs", "aws-xray-sdk", "aiobotocore", "awswrangler"),
    # images and documents
    *("pillow", "opencv-python-headless", "scikit-image", "reportlab", "openpyxl", "lxml", "pypdf", "python-docx"),
    # telemetry, which is found by entry points
    *("opentelemetry-sdk", "opentelemetry-distro", "sentry-sdk", "ddtrace"),
    # others
    *("grpcio", "google-cloud-storage", "openai", "langchain-core", "nltk", "spacy", "jinja2", "orjson", "pyyaml", "celery"),
    *("stripe", "twilio", "jsonschema", "pyjwt", "python-dateutil", "tzdata", "shapely", "babel", "setuptools"),
)
"""Requirements that many functions have, in the newest version that fits."""
MODULES = {
    "attrs": "attr attrs",
    "aws-xray-sdk": "aws_xray_sdk.core aws_xray_sdk.ext.boto_utils",
    "babel": "babel.dates babel.numbers",
    "beautifulsoup4": "bs4",
    "boto3": "boto3 boto3.session",
    "celery": "celery celery.app.task",
    "cryptography": "cryptography.fernet cryptography.x509 cryptography.hazmat.primitives.asymmetric.rsa",
    "ddtrace": "ddtrace ddtrace.trace",
    "django": "django django.db.models django.http django.template.loader",
    "et-xmlfile": "et_xmlfile",
    "google-cloud-storage": "google.cloud.storage",
    "googleapis-common-protos": "google.rpc.status_pb2",
    "grpcio": "grpc grpc.aio",
    "langchain-core": "langchain_core.messages langchain_core.prompts langchain_core.runnables",
    "lxml": "lxml.etree lxml.html lxml.objectify",
    "matplotlib": "matplotlib.pyplot",
    "mysql-connector-python": "mysql.connector",
    "numpy": "numpy numpy.linalg numpy.random numpy.fft numpy.testing",
    "opencv-python-headless": "cv2",
    "opensearch-py": "opensearchpy",
    "opentelemetry-distro": "opentelemetry.distro opentelemetry.instrumentation.auto_instrumentation",
    "opentelemetry-sdk": "opentelemetry.sdk.trace opentelemetry.sdk.metrics",
    "pandas": "pandas pandas.testing",
    "pillow": "PIL.Image PIL.ImageDraw PIL.ImageFont",
    "pyarrow": "pyarrow pyarrow.parquet pyarrow.dataset pyarrow.compute",
    "pycryptodome": "Crypto.Cipher.AES Crypto.PublicKey.RSA",
    "pyjwt": "jwt",
    "pynacl": "nacl.public nacl.signing",
    "pyopenssl": "OpenSSL.SSL",
    "python-dateutil": "dateutil.parser dateutil.tz",
    "python-docx": "docx",
    "pyyaml": "yaml",
    "psycopg2-binary": "psycopg2 psycopg2.extras",
    "reportlab": "reportlab.pdfgen.canvas reportlab.platypus",
    "scikit-image": "skimage skimage.io skimage.filters skimage.transform",
    "scikit-learn": "sklearn sklearn.ensemble sklearn.linear_model sklearn.pipeline",
    "scipy": "scipy scipy.stats scipy.optimize scipy.sparse.linalg",
    "sentry-sdk": "sentry_sdk sentry_sdk.integrations.aws_lambda",
    "shapely": "shapely.geometry",
    "spacy": "spacy spacy.lang.en",
    "sqlalchemy": "sqlalchemy sqlalchemy.orm",
    "typing-extensions": "typing_extensions",
}
"""What is imported of a distribution where that is more than its name, with underscores."""
PROVIDED = {
    "mysql-connector-python": ("libudev.so.1",),
    "numba": ("libgomp.so.1.0.0", "libtbb.so.12"),
}
"""Libraries that Lambda lacks, for parts of a distribution that it can do without."""


def base_name(requirement: str) -> str:
    """Give the normalized name that a requirement is for."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""


def modules_of(requirement: str) -> tuple[str, ...]:
    """Give the modules to import of what a requirement brings."""
    name = base_name(requirement)
    return tuple(MODULES.get(name, name.replace("-", "_")).split())


def locked(locks: Iterable[Path]) -> tuple[str, ...]:
    """Give each distinct ``name==version`` of lock files (PEP 751), sorted."""
    packages = (package for lock in locks for package in tomllib.loads(lock.read_text())["packages"])
    return tuple(sorted({f"{package['name']}=={package['version']}" for package in packages}))


def chosen(requirements: Iterable[str], names: str) -> tuple[str, ...]:
    """Give the requirements for the names of a list like ``numpy,psycopg``, or all; `SystemExit` where one names nothing."""
    requirements = tuple(requirements)
    wanted = {base_name(name) for name in names.split(",") if name.strip()}
    unknown = wanted.difference(map(base_name, requirements))
    if unknown:
        raise SystemExit(f"No {', '.join(sorted(unknown))} among what is taken; bench/catalogue.py has the list.")
    return tuple(each for each in requirements if not wanted or base_name(each) in wanted)
