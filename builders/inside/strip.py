"""Strips libraries by eu-strip: ``python strip.py INPUT ANSWER``, run where that is.

INPUT is a folder of files that are named by numbers. ANSWER gets for each its number, the status that eu-strip ended with, the
length of what follows, and that: the stripped file, or what eu-strip printed. It is missing where there is no eu-strip.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

NUMBER = 8
"""Bytes of each of the three numbers, little-endian and signed."""
NO_FILE = 256
"""The status of an eu-strip that ended with 0 and wrote no file; no process can end with it."""


def main(folder: Path, answer: Path) -> int:
    """Strip every file, and return the exit status."""
    whole = []
    with tempfile.TemporaryDirectory() as name:
        after = Path(name, "after")
        for path in sorted(folder.iterdir(), key=lambda path: int(path.name)):
            command = ["eu-strip", "-o", str(after), str(path)]
            try:
                done = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
            except OSError as error:
                sys.stdout.write(f"{error}\n")
                return 1
            status = done.returncode or (0 if after.is_file() else NO_FILE)
            data = done.stderr if status else after.read_bytes()
            whole += [number.to_bytes(NUMBER, "little", signed=True) for number in (int(path.name), status, len(data))]
            whole.append(data)
            after.unlink(missing_ok=True)  # or it would pass for what the next file became
    answer.write_bytes(b"".join(whole))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
