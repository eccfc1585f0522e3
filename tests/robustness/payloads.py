"""Fifty pickles that create a file, the canary, when unpickled; ``main`` proves it, in a process of its own."""

import bz2
import codecs
import cProfile
import dbm.dumb
import functools
import gzip
import importlib
import io
import logging
import lzma
import operator
import os
import pathlib
import pickle
import runpy
import shelve
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import time
import timeit
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch


class Call:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def payloads(canary: str) -> dict[str, bytes]:
    """Pickles by name; each creates ``canary``, or a folder or file with a name that begins like that.

    Two of them run a script next to it, one as a module: its folder should be on ``sys.path``.
    """
    code = f"__import__('os').mkdir({canary!r})"
    script = Path(canary).with_name("script_of_the_payloads.py")
    calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
        (os.mkdir, (canary,)),
        (os.makedirs, (canary,)),
        (os.system, (f"touch '{canary}'",)),
        (os.popen, (f"touch '{canary}'",)),
        (os.symlink, ("/dev/null", canary)),
        (os.mkfifo, (canary,)),
        (os.open, (canary, os.O_CREAT | os.O_WRONLY)),
        (os.posix_spawn, ("/bin/mkdir", ["mkdir", canary], {})),
        (subprocess.call, (["touch", canary],)),
        (subprocess.check_call, (["touch", canary],)),
        (subprocess.check_output, (["touch", canary],)),
        (subprocess.run, (["touch", canary],)),
        (subprocess.Popen, (["touch", canary],)),
        (subprocess.getoutput, (f"touch '{canary}'",)),
        (eval, (code,)),
        (exec, (code,)),
        (open, (canary, "w")),
        (io.open, (canary, "w")),
        (io.FileIO, (canary, "w")),
        (codecs.open, (canary, "w")),
        (gzip.open, (canary, "w")),
        (bz2.open, (canary, "w")),
        (lzma.open, (canary, "w")),
        (tarfile.open, (canary, "w")),
        (zipfile.ZipFile, (canary, "w")),
        (shelve.open, (canary,)),
        (dbm.dumb.open, (canary,)),
        (sqlite3.connect, (canary,)),
        (logging.FileHandler, (canary,)),
        (shutil.copyfile, ("/dev/null", canary)),
        (shutil.copy2, ("/dev/null", canary)),
        (timeit.timeit, (code, "pass", timeit.default_timer, 1)),
        (cProfile.run, (code,)),
        (runpy.run_path, (str(script),)),
        (functools.reduce, (os.makedirs, [canary, 0o755])),
        (operator.call, (os.mkdir, canary)),
        (pathlib.Path.touch, (pathlib.Path(canary),)),
        (pickle.loads, (pickle.dumps(Call(os.mkdir, canary)),)),
        (np.save, (canary, np.ones(1))),
        (np.savetxt, (canary, np.ones(1))),
        (np.memmap, (canary, "u1", "w+", 0, (1,))),
        (torch.save, (1, canary)),
        (joblib.dump, (1, canary)),
        (importlib.import_module, (script.stem,)),
    ]
    script.write_text(code)
    made = {
        f"{function.__module__}.{function.__qualname__}": pickle.dumps(Call(function, *arguments), protocol=i % 6)
        for i, (function, arguments) in enumerate(calls)
    }
    text = repr(canary).encode()
    path = _text(canary)
    mkdir_of_path = b"\x80\x04\x8c\x07pathlib\x8c\nPath.mkdir\x93"
    memmap = path + _text("u1") + _text("w+") + b"K\0(K\1t"
    by_hand = {
        "INST": b"(S" + text + b"\niposix\nmkdir\n.",
        "OBJ": b"(cposix\nmkdir\n" + path + b"o.",
        "NEWOBJ": b"cnumpy\nmemmap\n(" + memmap + b"t\x81.",
        "BUILD": b"cfunctools\npartial\n(cposix\nmkdir\ntR(cposix\nmkdir\n(" + path + b"t}Ntb)R.",
        "attribute of an attribute": mkdir_of_path + b"cpathlib\nPosixPath\n" + path + b"\x85R\x85R.",
        "in a list": b"]cposix\nmkdir\n(" + path + b"tRa.",
        "as a name": b"}cposix\nmkdir\n(" + path + b"tRK\1s.",
    }
    return made | by_hand


def _text(content: str) -> bytes:
    """The instruction that pushes a string on the stack."""
    return b"X" + len(content.encode()).to_bytes(4, "little") + content.encode()


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    sys.path.append(str(folder))
    for i, (name, content) in enumerate(payloads(str(folder / "canary")).items()):
        try:
            pickle.loads(content)
        except Exception as error:  # some fail after creating it
            print(f"{name}: {error!r}", file=sys.stderr)
        for _ in range(100):
            if found := [path for path in folder.iterdir() if path.name.startswith("canary")]:
                break
            time.sleep(0.02)
        print(i, name, "fires" if found else "is harmless")
        for path in found:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
