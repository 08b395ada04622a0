"""The names of lpack's own files and folders."""

CONFIG_FILE = "lpack.toml"
DEFAULT_OUT = "dist"
MANIFEST_FILE = "lpack.json"
TEMPLATE_FILE = "template.yaml"
