"""Does the work on functions that may share layers: prepares them, makes layers, and builds and proves each with its own.

What is asked for, and what is given back, are plain values: whoever plans need not be where the work is done.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from packer.assemble import Part, check_handler
from packer.gather import Gathered, Gatherer, Tools
from packer.layering import Need, Needed, Share
from packer.layers import Piece
from packer.layout import LayerArchive
from packer.makelayer import LayerMaker, MadeLayer, Wanted
from packer.model import OWN_SOURCE, Function, Tree
from packer.native import native_of
from packer.pieces import Variant, own_size, variants_of
from packer.placing import Layered
from packer.prove import Proof
from packer.record import Result, result_of
from packer.rules import Unit
from packer.shape import Cut
from packer.sharedlibs import entangled
