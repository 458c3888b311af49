"""systemd's manager over D-Bus, by sd-bus (sd-bus(3)) from libsystemd, which every host with
systemd has: no further dependency, and no message format of our own.

Values go with their D-Bus type (D-Bus specification, "Type System"): ``("t", 5)``,
``("as", ["a"])``; a variant holds such a pair.
"""

from __future__ import annotations

import ctypes
import os
import time

from runtime.errors import SystemdError

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

__all__ = ["Bus"]

_DESTINATION = b"org.freedesktop.systemd1"
_PATH = b"/org/freedesktop/systemd1"
_MANAGER = b"org.freedesktop.systemd1.Manager"
_PRIVATE = b"unix:path=/run/systemd/private"
"""The socket that systemd itself listens on, for root, where no bus daemon runs."""

_BASIC: dict[str, Any] = {
    "b": ctypes.c_int,
    "y": ctypes.c_uint8,
    "i": ctypes.c_int32,
    "u": ctypes.c_uint32,
    "x": ctypes.c_int64,
    "t": ctypes.c_uint64,
}


class _Error(ctypes.Structure):
    """`sd_bus_error` (sd_bus_error(3))."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("message", ctypes.c_char_p),
        ("need_free", ctypes.c_int),
    )


_Handler = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(_Error))


class Bus:
    """A connection to the system's manager, or to the user's. Used as a context.

    Raises SystemdError where none can be had, and for whatever it refuses."""

    def __init__(self, user: bool) -> None:
        try:
            self._lib = ctypes.CDLL("libsystemd.so.0")
        except OSError as error:
            raise SystemdError("", f"libsystemd cannot be loaded: {error}") from error
        self._bus = ctypes.c_void_p()
        self._ended: dict[str, str] = {}  # job → result
        opener = self._lib.sd_bus_open_user if user else self._lib.sd_bus_open_system
        result = opener(ctypes.byref(self._bus))
        if result < 0 and not user:
            result = self._open_private()
        if result < 0:
            which = "user" if user else "system"
            raise SystemdError(
                "",
                f"no {which} bus: {os.strerror(-result)}; is dbus installed and running"
                + (", and XDG_RUNTIME_DIR set?" if user else "?"),
            )
        self._handler = _Handler(self._on_signal)  # kept: the library holds its address
        self._check(
            self._lib.sd_bus_match_signal(
                self._bus,
                None,
                None,  # on the private socket there is no sender
                _PATH,
                _MANAGER,
                b"JobRemoved",
                self._handler,
                None,
            ),
            "match JobRemoved",
        )

    def _open_private(self) -> int:
        result = self._lib.sd_bus_new(ctypes.byref(self._bus))
        if result >= 0:
            result = self._lib.sd_bus_set_address(self._bus, _PRIVATE)
        return int(self._lib.sd_bus_start(self._bus) if result >= 0 else result)

    def __enter__(self) -> Bus:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lib.sd_bus_flush_close_unref.restype = ctypes.c_void_p
        self._lib.sd_bus_flush_close_unref(self._bus)

    def call(self, method: str, *arguments: tuple[str, Any]) -> str:
        """Call a method of the manager; the object path that it answers with, or ""."""
        message, reply = ctypes.c_void_p(), ctypes.c_void_p()
        self._check(
            self._lib.sd_bus_message_new_method_call(
                self._bus,
                ctypes.byref(message),
                _DESTINATION,
                _PATH,
                _MANAGER,
                method.encode(),
            ),
            method,
        )
        error = _Error()
        try:
            for signature, value in arguments:
                self._append(message, signature, value)
            result = self._lib.sd_bus_call(
                self._bus, message, ctypes.c_uint64(0), ctypes.byref(error), ctypes.byref(reply)
            )
            if result < 0:
                raise self._failure(method, error, result)
            path = ctypes.c_char_p()
            if self._lib.sd_bus_message_read_basic(reply, ord("o"), ctypes.byref(path)) <= 0:
                return ""
            return (path.value or b"").decode()
        finally:
            self._lib.sd_bus_error_free(ctypes.byref(error))
            for each in (message, reply):
                if each:
                    self._lib.sd_bus_message_unref(each)

    def manager_property(self, name: str) -> str:
        """A property of the manager that is a string: ``Version``, ``ControlGroup``."""
        error, value = _Error(), ctypes.c_char_p()
        result = self._lib.sd_bus_get_property_string(
            self._bus,
            _DESTINATION,
            _PATH,
            _MANAGER,
            name.encode(),
            ctypes.byref(error),
            ctypes.byref(value),
        )
        if result < 0:
            raise self._failure(name, error, result)
        text = (value.value or b"").decode()
        self._lib.free(value)
        return text

    def wait_job(self, job: str, timeout: float) -> str:
        """The result of a job (org.freedesktop.systemd1(5), "JobRemoved"): ``done`` is success.

        Raises SystemdError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while job not in self._ended:
            left = deadline - time.monotonic()
            if left <= 0:
                raise SystemdError("", f"job {job} has not ended within {timeout:g} s")
            if self._check(self._lib.sd_bus_process(self._bus, None), "process") == 0:
                self._check(
                    self._lib.sd_bus_wait(self._bus, ctypes.c_uint64(int(left * 1e6))), "wait"
                )
        return self._ended.pop(job)

    def _on_signal(self, message: int, _data: int, _error: object) -> int:
        """JobRemoved: id, job, unit, result."""
        pointer = ctypes.c_void_p(message)
        number, words = ctypes.c_uint32(), []
        self._lib.sd_bus_message_read_basic(pointer, ord("u"), ctypes.byref(number))
        for kind in "oss":
            word = ctypes.c_char_p()
            self._lib.sd_bus_message_read_basic(pointer, ord(kind), ctypes.byref(word))
            words.append((word.value or b"").decode())
        job, _, result = words
        self._ended[job] = result
        return 0

    def _append(self, message: ctypes.c_void_p, signature: str, value: Any) -> None:
        kind, rest = signature[0], signature[1:]
        if kind in "so":
            self._check(
                self._lib.sd_bus_message_append_basic(message, ord(kind), value.encode()), value
            )
        elif kind in _BASIC:
            number = _BASIC[kind](value)
            self._check(
                self._lib.sd_bus_message_append_basic(message, ord(kind), ctypes.byref(number)),
                str(value),
            )
        elif kind == "a":
            self._container(message, "a", rest, [(rest, each) for each in value])
        elif kind == "v":
            self._container(message, "v", value[0], [value])
        else:  # "(…)", of basic types and variants only
            members = rest[:-1]
            self._container(message, "r", members, list(zip(members, value, strict=True)))

    def _container(
        self, message: ctypes.c_void_p, kind: str, contents: str, members: list[tuple[str, Any]]
    ) -> None:
        self._check(
            self._lib.sd_bus_message_open_container(message, ord(kind), contents.encode()), contents
        )
        for signature, value in members:
            self._append(message, signature, value)
        self._check(self._lib.sd_bus_message_close_container(message), contents)

    def _check(self, result: int, about: str) -> int:
        if result < 0:
            raise SystemdError("", f"sd-bus, {about}: {os.strerror(-result)}")
        return result

    def _failure(self, method: str, error: _Error, result: int) -> SystemdError:
        name = (error.name or b"").decode()
        said = (error.message or b"").decode() or os.strerror(-result)
        return SystemdError(name, f"{method}: {said} ({name or 'sd-bus'})")
