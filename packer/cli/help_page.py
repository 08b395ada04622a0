"""The page of ``lpack --help`` as click makes it; a test holds the two together."""

HELP = """\
Usage: lpack [OPTIONS] COMMAND [ARGS]...

  Package Python functions for AWS Lambda.

  Dependencies are resolved for the runtime that will run them, and written to
  byte-for-byte reproducible archives or images.

Options:
  --version   Show the version and exit.
  -h, --help  Show this message and exit.

Commands:
  affected    List the functions that what git has changed affects.
  baseline    Write down what functions take, to check later states against.
  build       Build functions into reproducible archives or images, trimmed and
              proved.
  cache       Show, verify or prune the cache that all projects share.
  check       Check functions against budgets and limits, without building them.
  coldstart   Measure how long functions take to start, untrimmed and built.
  completion  Print a shell's completion script.
  diff        Compare two builds, archives, images or commits by what they hold.
  doctor      Say whether what builds rely on is there, and what would bring it.
  graph       Draw functions, layers and distributions as an SVG picture.
  init        Write a configuration from what a folder holds.
  load        Put built images into the local container engine.
  lock        Write each function's exact versions to pylock.NAME.toml.
  plan        Show which layers functions would share, and what that saves.
  profile     Write down which files functions open, for `build --trim max`.
  push        Push built images to a registry, without a daemon.
  report      Write an HTML report of what was built: one file that needs
              nothing else.
  runtime     Pull the runtimes' file systems, in which functions are proved.
  schema      Print the JSON Schema of a file, or of what a command prints as
              JSON.
  tree        Show what functions require, as a tree with bytes.
  verify      Run what was built, with the configured sample events.
  why         Say which requirements bring a package in, and what it costs.

  Exit status: 0 good, 1 the build failed, 2 wrong usage or configuration, 3
  over a budget or a limit of Lambda's, 4 verification failed, 70 an internal
  error of lpack.
"""
