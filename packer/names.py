"""The names of lpack's own files and folders, and of the project file that may configure it."""

CONFIG_FILE = "lpack.toml"
PROJECT_FILE = "pyproject.toml"
DEFAULT_OUT = "dist"
MANIFEST_FILE = "lpack.json"
TEMPLATE_FILE = "template.yaml"
