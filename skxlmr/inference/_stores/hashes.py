"""A file's stamp, under which its content hash can be remembered."""

import os
import time

FRESH_SECONDS = 3.0  # a file system may count times in steps of two seconds


def file_stamp(file: str | os.PathLike[str]) -> str | None:
    """What changes when a file is changed or replaced: path, device, inode, size, and times of change.

    Returns
    -------
    str or None
        None if the file was changed so recently that another change could leave its times as they are, and no hash may be
        remembered.

    Raises
    ------
    OSError
        If there is no such file.
    """
    path = os.path.abspath(file)
    status = os.stat(path)
    if not 0 <= max(status.st_mtime, status.st_ctime) < time.time() - FRESH_SECONDS:
        return None
    parts = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    name = os.fsdecode(path).encode("utf-8", "backslashreplace").decode()  # the database takes no other names
    return f"{name} {' '.join(map(str, parts))}"
