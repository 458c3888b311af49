"""The command `lab-oci`: an OCI runtime with the command line of runc and crun.

    lab-oci [global options] VERB [options] CONTAINER-ID

One process does one verb and ends, in a few milliseconds: nothing is imported here that the
frequent verbs do not need, and each verb is a module of its own, imported when it is asked for.
"""

from __future__ import annotations

import os
import sys

from runtime.errors import ContainerError, UsageError
from runtime.oci.log import FORMATS, Log
from runtime.oci.options import FLAG, TEXT, Option, Parsed, describe, parse
from runtime.oci.paths import absolute

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from types import ModuleType
    from typing import NoReturn

__all__ = ["Context", "main", "run"]

VERBS = {
    "create": "create a container, and stop short of its program",
    "start": "let a created container run its program",
    "run": "create and start a container, and wait for its end",
    "exec": "run another program in a container",
    "state": "print a container's state as JSON",
    "kill": "send a signal to a container",
    "delete": "remove a container and what it held",
    "list": "list the containers",
    "ps": "list a container's processes",
    "pause": "freeze a container",
    "resume": "let a frozen container go on",
    "update": "change a container's limits",
    "events": "print a container's use of resources, and its OOM kills",
    "spec": "write a config.json to start from",
    "features": "print what of the specification is supported, as JSON",
}

OPTIONS: tuple[Option, ...] = (
    ("root", "", TEXT, "directory for the state of containers"),
    ("log", "", TEXT, "file for errors and warnings (default: standard error)"),
    ("log-format", "", TEXT, "text or json"),
    ("debug", "", FLAG, "log more"),
    ("systemd-cgroup", "", FLAG, "make cgroups through systemd; cgroupsPath is slice:prefix:name"),
    ("cgroup-manager", "", TEXT, "cgroupfs, systemd or disabled, as crun has it"),
    ("rootless", "", TEXT, "true, false or auto: tolerated, it is always found out"),
    ("criu", "", TEXT, "tolerated"),
    ("version", "v", FLAG, "print the version"),
    ("help", "h", FLAG, "print this"),
)

MANAGERS = ("cgroupfs", "systemd", "disabled")


class Context:
    """What the global options say."""

    def __init__(self, options: Parsed) -> None:
        self.log = Log(
            absolute(options["log"]) if options["log"] else "",
            options["log-format"] or "text",
            options["debug"],
        )
        self.debug: bool = options["debug"]
        self._root: str = options["root"]
        self.root_given = bool(options["root"])
        manager = options["cgroup-manager"] or "cgroupfs"
        self.cgroup_manager = "systemd" if options["systemd-cgroup"] else manager
        """`cgroupfs`, `systemd` or `disabled`."""
        if self.log.style not in FORMATS:
            raise UsageError(f"--log-format {self.log.style!r} is neither text nor json")
        if self.cgroup_manager not in MANAGERS:
            raise UsageError(f"--cgroup-manager {manager!r} is none of {', '.join(MANAGERS)}")

    @property
    def root(self) -> str:
        """The directory of all containers."""
        if not self._root:
            from runtime.oci.state import default_root

            return default_root()
        return absolute(self._root)


def main() -> NoReturn:
    """Run the command line of this process, and end it."""
    status = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError:
        pass  # whoever was to read it has gone
    os._exit(status)  # nothing is left to finalise, and finalising takes a millisecond


def run(line: list[str]) -> int:
    """One command line; its exit status. What goes wrong has been logged."""
    context = None
    verb = ""
    try:
        options = parse(line, OPTIONS, leading=True)
        context = Context(options)
        if options["version"]:
            return _version()
        if options["help"] or not options.rest:
            print(_usage())
            return 0
        verb, *rest = options.rest
        return _verb(context, verb, rest)
    except ContainerError as error:
        message = _in_go(error)
    except OSError as error:
        message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    except KeyboardInterrupt:
        message = "interrupted"
    except Exception as error:  # a defect of this runtime: the caller shall have one line too
        if context is not None and context.debug:
            raise
        message = f"internal error in {verb}: {type(error).__name__}: {error}"
    (Log() if context is None else context.log).error(message)
    return 255 if verb == "exec" else 1  # of exec, other numbers are the program's own


def _in_go(error: ContainerError) -> str:
    """The message with the kernel's words in small letters, as Go has them: by "no such file or
    directory" and "permission denied" Docker tells exit status 127 from 126 and 125."""
    message = str(error)
    number = getattr(error, "errno", 0)
    if not number:
        return message
    words = os.strerror(number)
    return message.replace(words, words.lower())


def _verb(context: Context, verb: str, line: list[str]) -> int:
    if verb not in VERBS:
        raise UsageError(f"no command {verb!r}; there are {', '.join(VERBS)}")
    module: ModuleType = __import__(f"runtime.oci.verbs.{verb}", fromlist=["main"])
    least, most = module.ARGUMENTS
    parsed = parse(line, (*module.OPTIONS, OPTIONS[-1]), leading=most is None)
    if parsed["help"]:
        print(f"lab-oci {verb} [options] {module.USAGE}\n\n{VERBS[verb]}\n")
        print(describe(module.OPTIONS))
        return 0
    if len(parsed.rest) < least or (most is not None and len(parsed.rest) > most):
        raise UsageError(
            f"{verb}: {len(parsed.rest)} arguments given; usage: lab-oci {verb} {module.USAGE}"
        )
    status: int = module.main(context, parsed)
    return status


def _usage() -> str:
    verbs = "\n".join(f"  {verb:<10} {text}" for verb, text in VERBS.items())
    return (
        "lab-oci [global options] COMMAND [options] [arguments]\n\n"
        f"Commands:\n{verbs}\n\nGlobal options:\n{describe(OPTIONS)}"
    )


def _version() -> int:
    from runtime.oci.verbs.features import version_text

    print(version_text())
    return 0


if __name__ == "__main__":
    main()
