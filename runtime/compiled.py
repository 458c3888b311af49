"""Small C programs of this package, compiled once into a cache."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from runtime.errors import CompileFailed

__all__ = ["compiled"]


def compiled(source: Path, cache: Path, flags: tuple[str, ...]) -> Path:
    """The binary of a C source, in `cache`, made once per source and flags.

    Raises CompileFailed if there is no C compiler, or with what it said."""
    key = hashlib.sha256(source.read_bytes() + " ".join(flags).encode()).hexdigest()[:16]
    binary = cache / f"{source.stem}-{key}"
    if binary.exists():
        return binary
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise CompileFailed(
            f"{source.name}: no C compiler: neither cc nor gcc on PATH; install the package gcc"
        )
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        fresh = Path(folder, source.stem)
        command = [compiler, *flags, "-o", str(fresh), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CompileFailed(f"{' '.join(command)} failed ({done.returncode}):\n{done.stderr}")
        fresh.rename(binary)  # two builders at once: both are right
    return binary
