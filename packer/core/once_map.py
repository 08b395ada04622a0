"""Work that many threads ask for at the same time; builders share it out as well, so the tables themselves are theirs."""

from builders.once import Locks, Once

__all__ = ["Locks", "Once"]
