"""Has a program rewrite a file: ``python rewrite.py INPUT ANSWER PROGRAM WORD…``, run where the program is.

The program gets the words and, last, the path of a copy of INPUT's ``file``, which it changes. ANSWER gets the changed file; it
is missing where the program fails.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path


def main(folder: Path, answer: Path, *command: str) -> int:
    """Rewrite the file, and return the program's exit status."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "file")
        path.write_bytes((folder / "file").read_bytes())
        try:
            status = subprocess.run([*command, str(path)], stdin=subprocess.DEVNULL, check=False).returncode
        except OSError as error:
            sys.stdout.write(f"{error}\n")
            return 1
        if status == 0:
            answer.write_bytes(path.read_bytes())
    return status


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]))
