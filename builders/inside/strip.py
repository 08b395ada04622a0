"""Strips libraries by eu-strip: ``python strip.py INPUT ANSWER``, run where that is.

INPUT is a folder of files that are named by numbers. ANSWER gets for each its number, the status that eu-strip ended with, the
length of what follows, and that: the stripped file, or what eu-strip said. It stays away where there is no eu-strip.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

NUMBER = 8
"""Bytes of each of the three numbers, little-endian and signed."""


def main(folder: Path, answer: Path) -> int:
    """Strip every file; give the exit status."""
    whole, after = answer.with_suffix(".all"), answer.with_suffix(".after")
    with whole.open("wb") as out:
        for path in sorted(folder.iterdir(), key=lambda path: int(path.name)):
            command = ["eu-strip", "-o", str(after), str(path)]
            try:
                done = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
            except OSError as error:
                sys.stdout.write(f"{error}\n")
                return 1
            data = done.stderr if done.returncode else after.read_bytes()
            for number in (int(path.name), done.returncode, len(data)):
                out.write(number.to_bytes(NUMBER, "little", signed=True))
            out.write(data)
    whole.rename(answer)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
