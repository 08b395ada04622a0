"""Which test suites `bench.own_tests` runs, and which differences between installed and packed are explained."""

from __future__ import annotations

import re

from msgspec import Struct

UNTIL = "2026-11-30T00:00:00Z"
"""Dependencies and test tools are the newest that were published by then, so that a run can be repeated."""
CONFIGURATION = ("conftest.py", "pyproject.toml", "setup.cfg", "pytest.ini", "tox.ini")
"""Files of an sdist's root that configure pytest; they are copied with the tests where they are there."""
PYTEST = "pytest>=8"


class Suite(Struct, frozen=True, kw_only=True):
    """The tests of one distribution, taken from its sdist, all of them or a part that is done in minutes.

    ``modules`` are what the function imports. ``tests`` are copied to a folder outside of the packages and run there, and what
    is ``beside`` them is copied too. ``within`` are tests below the packages that can only run there: where lpack removed them
    they are put back. ``needs`` are test tools and whatever the distribution does not require by itself; none of it is trimmed.
    ``options`` are arguments of pytest, which also say what is left out.
    """

    requirement: str
    modules: tuple[str, ...]
    tests: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    within: tuple[str, ...] = ()
    part: tuple[str, ...] = ()
    """What is run of ``tests`` and of ``within`` where it is not all."""
    needs: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    returned: str = "None"
    """What the function's handler returns: code that calls what the tests call, where lpack goes by what a function calls."""

    @property
    def run(self) -> tuple[str, ...]:
        """What is run of the copied tests."""
        return tuple(path for path in self.part if path.startswith(self.tests)) if self.part and self.tests else self.tests

    @property
    def run_within(self) -> tuple[str, ...]:
        """What is run of the tests below the packages."""
        return self.part if self.part and self.within else tuple(path for path in self.within if not path.endswith(".py"))

    @property
    def pin(self) -> str:
        """``name==version``, without extras."""
        return re.sub(r"\[[^]]*\]", "", self.requirement)


class Explanation(Struct, frozen=True, kw_only=True):
    """Why tests of a distribution may fail as it is packed: ``tests`` is a pattern that is searched for in their ids."""

    name: str
    tests: str
    reason: str


SUITES = (
    Suite(
        requirement="aiohttp==3.14.5",
        modules=("aiohttp",),
        tests=("tests",),
        part=(
            "tests/test_web_request.py",
            "tests/test_web_response.py",
            "tests/test_multipart.py",
            "tests/test_helpers.py",
            "tests/test_urldispatch.py",
        ),
        needs=(
            "coverage",
            "pytest-mock",
            "pytest-timeout",
            "trustme",
            "re-assert",
            "freezegun",
            "proxy.py",
            "blockbuster",
            "uvloop",
            "isal",
            "zlib_ng",
            "brotli",
            "time-machine",
            "python-on-whales",
            "aiodns",
            "backports.zstd",
            "setuptools-git",
            "pytest-codspeed",
        ),
        options=(
            "-m",
            "not dev_mode and not autobahn and not internal",
            "-W",
            "ignore::pytest.PytestUnraisableExceptionWarning",
        ),
    ),
    Suite(
        requirement="alembic==1.20.1",
        modules=("alembic",),
        tests=("tests",),
        beside=("alembic/testing/plugin/bootstrap.py",),
        needs=("black", "zimports", "tzdata"),
    ),
    Suite(
        requirement="anyio==4.16.0",
        modules=("anyio",),
        tests=("tests",),
        part=("tests/streams", "tests/test_fileio.py", "tests/test_synchronization.py"),
        needs=("hypothesis", "psutil", "pytest-mock", "trustme", "truststore", "trio", "blockbuster", "pytest-timeout"),
    ),
    Suite(
        requirement="attrs==26.1.0", modules=("attr", "attrs"), tests=("tests",), needs=("hypothesis", "cloudpickle", "pympler")
    ),
    Suite(requirement="babel==2.19.0", modules=("babel",), tests=("tests",), needs=("freezegun", "pytz", "setuptools")),
    Suite(requirement="beautifulsoup4==4.15.0", modules=("bs4",), within=("bs4/tests",), needs=("lxml", "html5lib")),
    Suite(
        requirement="botocore==1.44.8",
        modules=("botocore", "botocore.session"),
        tests=("tests",),
        part=(
            "tests/unit/auth",
            "tests/unit/test_session.py",
            "tests/unit/test_config_provider.py",
            "tests/unit/test_loaders.py",
        ),
        needs=("jsonschema", "pytest-xdist"),
        returned='[botocore.session.Session().create_client("ec2"), botocore.session.Session().create_client("s3")]',
    ),
    Suite(requirement="cachetools==8.0.2", modules=("cachetools",), tests=("tests",)),
    Suite(requirement="charset-normalizer==3.5.3", modules=("charset_normalizer",), tests=("tests", "data")),
    Suite(requirement="click==8.5.1", modules=("click",), tests=("tests",), options=("-m", "not stress")),
    Suite(
        requirement="cryptography==50.0.2",
        modules=("cryptography",),
        tests=("tests",),
        part=(
            "tests/hazmat/primitives/test_aes.py",
            "tests/x509/test_x509_ext.py",
            "tests/test_fernet.py",
            "tests/hazmat/primitives/test_serialization.py",
        ),
        needs=("cryptography-vectors==50.0.2", "pretend", "certifi", "pytest-benchmark"),
        options=("--benchmark-disable",),
    ),
    Suite(requirement="cssselect==1.6.0", modules=("cssselect",), tests=("tests",), needs=("lxml",)),
    Suite(
        requirement="docutils==0.23",
        modules=("docutils",),
        tests=("test",),
        beside=("docs", "tools"),
        needs=("pillow", "pygments", "myst-parser", "recommonmark"),
    ),
    Suite(
        requirement="fastapi==0.165.0",
        modules=("fastapi",),
        tests=("tests",),
        beside=("docs_src", "scripts"),
        needs=(
            "httpx2",
            "httpx",
            "pytest-xdist",
            "dirty-equals",
            "inline-snapshot",
            "flask",
            "a2wsgi",
            "pyyaml",
            "python-multipart",
            "pyjwt",
            "pwdlib[argon2]",
            "sqlmodel",
            "orjson",
            "ujson",
            "email-validator",
            "trio",
            "typer",
            "opentelemetry-sdk",
            "pytest-timeout",
            "pytest<9.2",
        ),
        options=("--ignore-glob=tests/test_[n-z]*", "--ignore=tests/benchmarks", "--ignore=tests/memory_benchmarks"),
    ),
    Suite(
        requirement="flask==3.1.3",
        modules=("flask",),
        tests=("tests",),
        needs=("asgiref", "greenlet", "python-dotenv", "pytest<9"),
    ),
    Suite(requirement="frozenlist==1.8.0", modules=("frozenlist",), tests=("tests",)),
    Suite(requirement="h11==0.16.0", modules=("h11",), within=("h11/tests",)),
    Suite(
        requirement="httpx==0.28.1",
        modules=("httpx",),
        tests=("tests",),
        needs=(
            "anyio",
            "trio",
            "uvicorn",
            "trustme",
            "chardet<6",
            "click",
            "rich",
            "pygments",
            "h2",
            "socksio",
            "brotli",
            "zstandard",
            "pytest<9",
        ),
        options=("-W", "ignore::DeprecationWarning", "-W", "ignore::pytest.PytestUnraisableExceptionWarning"),
    ),
    Suite(requirement="idna==3.20", modules=("idna",), tests=("tests",), beside=("tools",), needs=("hypothesis",)),
    Suite(
        requirement="importlib-metadata==10.2.0",
        modules=("importlib_metadata",),
        tests=("tests",),
        needs=("jaraco.test", "pyfakefs", "packaging"),
    ),
    Suite(requirement="itsdangerous==2.2.0", modules=("itsdangerous",), tests=("tests",), needs=("freezegun",)),
    Suite(requirement="jinja2==3.1.6", modules=("jinja2",), tests=("tests",), needs=("trio",)),
    Suite(
        requirement="jsonschema==4.26.0",
        modules=("jsonschema",),
        within=("jsonschema/tests", "json"),
        part=("jsonschema/tests",),
        needs=("jsonpath-ng", "pip"),
    ),
    Suite(
        requirement="lxml==6.1.3",
        modules=("lxml.etree", "lxml.html", "lxml.objectify"),
        within=("lxml/tests", "lxml/html/tests"),
        needs=("cssselect", "beautifulsoup4", "html5lib", "lxml_html_clean"),
    ),
    Suite(
        requirement="mako==1.4.3",
        modules=("mako",),
        tests=("test",),
        needs=("babel", "pygments", "beaker", "dogpile.cache", "lingua"),
    ),
    Suite(requirement="markdown==3.11.3", modules=("markdown",), tests=("tests",), needs=("pyyaml",)),
    Suite(requirement="markupsafe==3.0.4", modules=("markupsafe",), tests=("tests",)),
    Suite(requirement="marshmallow==4.4.0", modules=("marshmallow",), tests=("tests",), needs=("simplejson",)),
    Suite(requirement="more-itertools==11.2.1", modules=("more_itertools",), tests=("tests",)),
    Suite(requirement="msgpack==1.2.4", modules=("msgpack",), tests=("test",)),
    Suite(
        requirement="multidict==7.2.1",
        modules=("multidict",),
        tests=("tests",),
        beside=("tools",),
        needs=("objgraph", "psutil", "pytest-codspeed"),
        options=("-m", "not leaks and not hypothesis and not capi", "-k", "not benchmark"),
    ),
    Suite(
        requirement="networkx==3.7",
        modules=("networkx",),
        within=("networkx/conftest.py", "networkx/**/tests"),
        part=(
            "networkx/classes/tests",
            "networkx/generators/tests",
            "networkx/readwrite/tests",
            "networkx/utils/tests",
            "networkx/algorithms/centrality/tests",
        ),
        needs=("numpy", "scipy"),
    ),
    Suite(
        requirement="numpy==2.5.5",
        modules=("numpy",),
        within=("numpy/conftest.py", "numpy/**/tests"),
        part=("numpy/lib/tests", "numpy/fft/tests", "numpy/polynomial/tests", "numpy/matrixlib/tests"),
        needs=("hypothesis", "pytz"),
        options=("-m", "not slow"),
    ),
    Suite(
        requirement="packaging==26.4",
        modules=("packaging",),
        tests=("tests",),
        needs=("hypothesis", "pretend", "tomli_w", "pip"),
        options=("--ignore=tests/property", "--ignore=tests/test_version.py", "--ignore=tests/test_specifiers.py"),
    ),
    Suite(
        requirement="pandas==3.1.1",
        modules=("pandas",),
        within=("pandas/conftest.py", "pandas/tests"),
        part=("pandas/tests/series/methods", "pandas/tests/util"),
        needs=("hypothesis",),
        options=("-m", "not clipboard and not single_cpu and not slow and not network and not db"),
    ),
    Suite(
        requirement="pillow==13.0.0",
        modules=("PIL", "PIL.Image"),
        tests=("Tests",),
        needs=("defusedxml", "olefile", "numpy", "markdown2", "packaging", "pytest-timeout"),
        options=("-k", "test_image or test_file_png or test_file_webp or test_font"),
    ),
    Suite(requirement="pluggy==1.7.0", modules=("pluggy",), tests=("testing",), needs=("pytest-benchmark",)),
    Suite(
        requirement="pydantic[email]==2.14.4",
        modules=("pydantic",),
        tests=("tests",),
        part=(
            "tests/types",
            "tests/test_main.py",
            "tests/test_json_schema.py",
            "tests/test_validators.py",
            "tests/test_generics.py",
            "tests/test_dataclasses.py",
        ),
        needs=(
            "cloudpickle",
            "dirty-equals",
            "jsonschema",
            "pytest-mock",
            "pytest-examples",
            "pytest-run-parallel",
            "pytest-timeout",
            "faker",
            "pytest-benchmark",
            "pytz",
            "packaging",
            "tzdata",
            "sqlalchemy",
            "pytest-codspeed",
            "ansi2html",
            "devtools",
        ),
        options=("--benchmark-disable",),
    ),
    Suite(
        requirement="pygments==2.21.0",
        modules=("pygments",),
        tests=("tests",),
        beside=("doc", "scripts"),
        needs=("lxml", "wcag-contrast-ratio"),
    ),
    Suite(requirement="pyjwt[crypto]==2.15.1", modules=("jwt",), tests=("tests",)),
    Suite(
        requirement="python-dateutil==4.0.0",
        modules=("dateutil",),
        tests=("tests",),
        needs=("attrs", "hypothesis", "freezegun", "pytest-cov", "six"),
        options=("--ignore=tests/property",),
    ),
    Suite(requirement="python-docx==1.2.0", modules=("docx",), tests=("tests",), needs=("pyparsing<3.3",)),
    Suite(requirement="pytz==2026.6", modules=("pytz",), tests=("pytz/tests",)),
    Suite(requirement="pyyaml==6.0.4", modules=("yaml",), tests=("tests",)),
    Suite(
        requirement="requests[socks]==2.34.2",
        modules=("requests",),
        tests=("tests",),
        beside=("requirements-dev.txt",),
        needs=("pytest-httpbin==2.1.0", "httpbin~=0.10.0", "pytest-mock", "trustme"),
    ),
    Suite(requirement="simplejson==4.3.0", modules=("simplejson",), within=("simplejson/tests",)),
    Suite(
        requirement="sqlalchemy[asyncio,aiosqlite]==2.1.9",
        modules=("sqlalchemy", "sqlalchemy.orm"),
        tests=("test",),
        beside=("lib/sqlalchemy/testing/plugin",),
        part=("test/base", "test/engine", "test/dialect"),
        needs=("pytest-xdist",),
    ),
    Suite(requirement="sqlparse==0.6.1", modules=("sqlparse",), tests=("tests",)),
    Suite(requirement="starlette[full]==1.10.0", modules=("starlette",), tests=("tests",), needs=("trio", "pyyaml")),
    Suite(
        requirement="structlog==26.1.0",
        modules=("structlog",),
        tests=("tests",),
        needs=("pytest-asyncio", "simplejson", "time-machine", "twisted", "rich"),
    ),
    Suite(requirement="tabulate==0.10.0", modules=("tabulate",), tests=("test",)),
    Suite(requirement="tomlkit==0.15.2", modules=("tomlkit",), tests=("tests",), needs=("pyyaml",)),
    Suite(requirement="toolz==1.2.0", modules=("toolz", "tlz"), within=("toolz/tests", "toolz/sandbox/tests")),
    Suite(
        requirement="urllib3==2.8.0",
        modules=("urllib3",),
        tests=("test", "dummyserver"),
        part=("test",),
        needs=(
            "anyio[trio]",
            "h2",
            "httpx",
            "hypercorn",
            "pysocks",
            "pytest-socket",
            "pytest-timeout",
            "quart",
            "quart-trio",
            "trio",
            "trustme",
            "cryptography",
            "brotli",
            "pyopenssl",
        ),
    ),
    Suite(
        requirement="werkzeug==3.1.9",
        modules=("werkzeug",),
        tests=("tests",),
        needs=("cryptography", "ephemeral-port-reserve", "pytest-timeout", "watchdog"),
        options=("-m", "not dev_server"),
    ),
    Suite(requirement="wrapt==2.5.2", modules=("wrapt",), tests=("tests",)),
    Suite(requirement="yarl==1.25.1", modules=("yarl",), tests=("tests",), needs=("hypothesis",)),
)
EXPLANATIONS: tuple[Explanation, ...] = ()
"""Why tests differ that are right to do so: none does."""
