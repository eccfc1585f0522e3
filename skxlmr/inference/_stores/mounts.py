"""Whether a folder is on another machine."""

import os
import re
from contextlib import suppress
from pathlib import Path

_MOUNTS = Path("/proc/self/mounts")  # Linux
_LOCAL_FUSE = ("fuseblk", "fuse.overlayfs", "fuse-overlayfs", "fuse.fuse-overlayfs")
_NETWORK = (
    "nfs",
    "cifs",
    "smb",
    "9p",
    "afs",
    "ceph",
    "lustre",
    "gpfs",
    "beegfs",
    "glusterfs",
    "pvfs",
    "fuse",
    "virtiofs",
)


def is_on_network(folder: str) -> bool:
    """Whether a folder is, or may be, on a file system that other machines share. False where this can't be known."""
    path = os.path.realpath(folder)
    best, kind = "", ""
    with suppress(OSError):
        for line in _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            _, place, its_kind, *_ = line.split(" ")
            place = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), place)  # a space is \040
            is_above = path == place or path.startswith(place.rstrip("/") + "/")
            if is_above and len(place) >= len(best):  # of two in one place, the later one is seen
                best, kind = place, its_kind
    return kind.startswith(_NETWORK) and kind not in _LOCAL_FUSE
