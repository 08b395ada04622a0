"""Which kinds of derived files machines share, and why: the one table that the remote store follows.

Shared is what a key determines, no matter where it was made (of kinds that are replaced, the newest is what is wanted), and
what costs more to make than to ask for. Of the 46 wheels of bench/workloads/mono12, on two processors, reading the native
code of scipy took 2.3 s, that of all 6.2 s; reading the sources of botocore 1.3 s, those of all 3.9 s; 32 took less than 30 ms.
Kinds that are not in the table are not shared, nor is a payload that names the folder of the cache that made it.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from packer.cache.store import NATIVE


class SharingRule(Struct, frozen=True, kw_only=True):
    """Whether derived files of a kind are shared, and why.

    ``together``: files that are read at once form one object. ``replaced``: a newer file replaces an older one of its key.
    """

    shared: bool
    why: str
    together: bool = False
    replaced: bool = False


KINDS: Mapping[str, SharingRule] = {
    "built": SharingRule(
        shared=True, why="a build costs minutes; the key has all that decides its bytes, and the record their digest"
    ),
    "last": SharingRule(shared=True, why="machines without a builder get what others built last of a source", replaced=True),
    "hooks": SharingRule(
        shared=True, why="what back ends ask for beyond what sources say: part of the key of a build", replaced=True
    ),
    "sources": SharingRule(shared=True, why="to look into a source it must be unpacked, or even checked out"),
    "bytecode": SharingRule(shared=True, why="one object for a distribution saves running the target's Python"),
    "stripped": SharingRule(
        shared=True, why="one object for a distribution saves running eu-strip for each library", together=True
    ),
    NATIVE: SharingRule(shared=True, why="of a large wheel every library must be inflated to be read"),
    "scans": SharingRule(shared=True, why="of a large wheel thousands of sources must be inflated, and many parsed"),
    "pieces": SharingRule(
        shared=True, why="the sizes of a distribution in a layer, which is trimmed, compiled and compressed for that"
    ),
    "deflated": SharingRule(shared=False, why="compressing a small file again takes less time than a request"),
    "resolutions": SharingRule(shared=False, why="they name this machine's folders, and say what an index had at one time"),
    "requirements": SharingRule(shared=False, why="reading a few files of metadata takes less time than a request"),
    "closures": SharingRule(shared=False, why="checking a set against its metadata takes less time than a request"),
    "required-names": SharingRule(shared=False, why="reading a file of metadata takes less time than a request"),
    "wheel-trees": SharingRule(shared=False, why="reading a wheel's directory takes less time than a request"),
    "parsed-locks": SharingRule(shared=False, why="parsing a lock takes less time than a request"),
    "layers": SharingRule(
        shared=True, why="what a layer's archive is going to be; its distributions must be merged to know it"
    ),
    "tickets": SharingRule(shared=True, why="what workers of a cluster must know, by its digest"),
    "repairs": SharingRule(shared=False, why="what was found by running a function is found anew by whoever relies on it"),
    "image-layers": SharingRule(shared=False, why="splicing a layer from what is here takes less time than to bring it"),
    "base-layers": SharingRule(shared=False, why="they say how layers of this machine's engine and files were packed"),
    "base-images": SharingRule(shared=False, why="they name layers that were packed on this machine"),
    "checked-layers": SharingRule(shared=False, why="whoever builds upon a base from elsewhere looks into it"),
    "blob-homes": SharingRule(shared=False, why="others may not read the repositories that this machine pushed to"),
    "outlines": SharingRule(shared=False, why="asking an index for a few KB takes no longer than asking anybody else"),
    "machine": SharingRule(shared=False, why="what the Pythons of this machine need of it, and what it allows"),
    "starts": SharingRule(shared=False, why="how long something took to start on this machine"),
    "history": SharingRule(shared=False, why="what was built on this machine, and when"),
    "sboms": SharingRule(shared=False, why="writing one anew takes less time than a request"),
    "verified": SharingRule(shared=False, why="a proof is worth what ran it, and times of another machine mean nothing here"),
}
