"""Where a verb says what went wrong, in the two formats that runc has and its callers parse.

containerd reads the last `"level":"error"` line of the file given by `--log --log-format json`;
Podman takes the whole file for one JSON object; conmon takes standard error. So an error is one
line in the file and one on standard error, and nothing else is written unless it was asked for.
"""

from __future__ import annotations

import os
import time

from runtime.oci.lightjson import dumps

__all__ = ["FORMATS", "Log"]

FORMATS = ("text", "json")


class Log:
    """A log file, or standard error if there is none. It is opened when there is something to
    say: most verbs have nothing."""

    def __init__(self, path: str = "", style: str = "text", debug: bool = False) -> None:
        self.path = path
        self.style = style
        self._debug = debug

    def error(self, message: str) -> None:
        """What ended the verb, in the file and on standard error."""
        self._write("error", message)
        if self.path:
            _to_stderr(f"{message}\n")

    def warning(self, message: str) -> None:
        """What the specification wants to be logged and to change nothing."""
        self._write("warning", message)

    def debug(self, message: str) -> None:
        """Only with --debug."""
        if self._debug:
            self._write("debug", message)

    def _write(self, level: str, message: str) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self.style == "json":
            line = dumps({"level": level, "msg": message, "time": now}) + "\n"
        else:
            line = f'time="{now}" level={level} msg={dumps(message)}\n'
        if not self.path:
            _to_stderr(line)
            return
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            fd = os.open(self.path, flags, 0o644)
        except OSError as error:
            _to_stderr(f"cannot write to log {self.path}: {error.strerror}\n{line}")
            return
        try:
            os.write(fd, line.encode())
        finally:
            os.close(fd)


def _to_stderr(text: str) -> None:
    try:
        os.write(2, text.encode(errors="surrogateescape"))
    except OSError:
        pass  # closed, or a pipe without a reader: there is nobody to tell
