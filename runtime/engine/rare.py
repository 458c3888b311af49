"""Steps that few containers need: loaded with the first of them.

See `runtime.engine.steps` for what a step is.
"""

from __future__ import annotations

import errno
import os
import stat
from select import POLLIN, poll

from runtime import syscalls
from runtime.engine.constants import MS_PRIVATE
from runtime.engine.steps import held, open_directory

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["STEPS", "copy_up"]


def fail(number: int, step: object) -> None:
    """In the place of a step, for tests of failure: its error, without its work."""
    raise OSError(number, os.strerror(number), "injected")


_LABELS = {
    "apparmor": ("/sys/module/apparmor/parameters/enabled", "Y", "attr/apparmor/exec"),
    "selinux": ("/proc/filesystems", "selinuxfs", "attr/exec"),
}


def open_label(module: str) -> None:
    """Hold the file that takes the label of the next exec, if this kernel has the module."""
    switch, word, name = _LABELS[module]
    try:
        with open(switch) as file:
            there = word in file.read()
    except FileNotFoundError:
        there = False
    if not there:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), module)
    # The writer must be the thread itself, and it is the only one (proc_pid_attr(5)).
    held[module] = os.open(f"/proc/self/{name}", os.O_WRONLY | os.O_CLOEXEC)


def write_label(module: str, label: str) -> None:
    """What the next exec shall run as."""
    fd = held.pop(module)
    os.write(fd, (f"exec {label}" if module == "apparmor" else label).encode())
    os.close(fd)


def private_parent(rootfs: str) -> None:
    """Make the mount that `rootfs` is on private: pivot_root(2) takes no other parent. All others
    stay as they are, the host's peers."""
    best = "/"
    with open("/proc/self/mountinfo") as file:
        for line in file:
            point = line.split(" ", 5)[4].encode().decode("unicode_escape")
            if rootfs.startswith(f"{point.rstrip('/')}/") and len(point) >= len(best):
                best = point
    syscalls.mount(None, best, None, MS_PRIVATE, None)


def enter_root() -> None:
    """Confine the coming steps to the new root, the working directory, without letting go of the
    host's (chroot(2))."""
    for name, path in (("host root", "/"), ("new root", ".")):
        held[name] = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.chroot(".")
    os.chdir("/")


def leave_root() -> None:
    """Back to the host's root, with the new one as the working directory."""
    os.chdir(held["host root"])
    os.chroot(".")
    os.chdir(held["new root"])
    os.close(held.pop("host root"))
    os.close(held.pop("new root"))


def make_directory(path: str) -> None:
    """A directory and those above it, within the root."""
    os.close(open_directory(path))


def device_at(path: str, mode: int, major: int, minor: int, uid: int, gid: int) -> None:
    """A device node, or a FIFO, at a place that an image can have a say in. The same one, if it
    is there already, is taken."""
    head, _, name = path.rpartition("/")
    parent = open_directory(head or "/")
    device = os.makedev(major, minor)
    try:
        os.mknod(name, mode, device, dir_fd=parent)
    except FileExistsError:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if (stat.S_IFMT(found.st_mode), found.st_rdev) != (stat.S_IFMT(mode), device):
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), path) from None
    else:
        os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
    finally:
        os.close(parent)


def copy_up(below: int, target: str) -> None:
    """Fill the file system that is now mounted on `target` with what the directory `below`,
    which it hides, holds (the mount option `tmpcopyup`)."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    source = os.open(".", flags, dir_fd=below)
    above = open_directory(target)
    here = os.open(".", flags, dir_fd=above)
    os.close(above)
    try:
        _copy(source, here)
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"{target}/{error.filename or ''}") from None
    finally:
        os.close(source)
        os.close(here)


def _copy(source: int, target: int) -> None:
    """The entries of one directory, owners, modes and times included."""
    for name in os.listdir(source):
        info = os.stat(name, dir_fd=source, follow_symlinks=False)
        kind = stat.S_IFMT(info.st_mode)
        if kind == stat.S_IFDIR:
            os.mkdir(name, 0o700, dir_fd=target)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
            below = os.open(name, flags, dir_fd=source)
            fresh = os.open(name, flags, dir_fd=target)
            _copy(below, fresh)
            os.close(below)
            os.close(fresh)
        elif kind == stat.S_IFREG:
            read = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=source)
            written = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=target)
            while os.sendfile(written, read, None, 1 << 20):
                pass
            os.close(read)
            os.close(written)
        elif kind == stat.S_IFLNK:
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        else:
            os.mknod(name, info.st_mode, info.st_rdev, dir_fd=target)
        os.chown(name, info.st_uid, info.st_gid, dir_fd=target, follow_symlinks=False)
        if kind != stat.S_IFLNK:
            os.chmod(name, stat.S_IMODE(info.st_mode), dir_fd=target)
        times = (info.st_atime_ns, info.st_mtime_ns)
        os.utime(name, ns=times, dir_fd=target, follow_symlinks=False)


def remove_tree(path: str) -> None:
    """Remove a directory and all below it, as the root of a user namespace whose users own it. No
    link is followed."""
    above = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _remove(above, os.path.basename(path))
    finally:
        os.close(above)


def _remove(above: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=above)
    except IsADirectoryError:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, dir_fd=above)
        for entry in os.listdir(fd):
            _remove(fd, entry)
        os.close(fd)
        os.rmdir(name, dir_fd=above)


def hook(
    kind: str,
    path: str,
    args: tuple[str, ...],
    env: Sequence[str],
    timeout: float,
    before: str,
    after: str,
) -> None:
    """Execute a hook of the container's own, its state on standard input, and wait for its end
    (OCI config.md, "POSIX-platform Hooks"). A status other than 0 is a failure."""
    state = os.memfd_create("state")
    os.pwrite(state, f"{before}{os.getpid()}{after}".encode(), 0)
    environment = dict(entry.partition("=")[::2] for entry in env)
    pid = os.posix_spawn(path, args, environment, file_actions=[(os.POSIX_SPAWN_DUP2, state, 0)])
    os.close(state)
    if timeout:
        _wait_or_kill(pid, timeout, path)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        how = f"status {status}" if status > 0 else f"signal {-status}"
        raise OSError(errno.ECANCELED, "the hook failed", f"{kind} hook {path}: {how}")


def _wait_or_kill(pid: int, timeout: float, path: str) -> None:
    pidfd = os.pidfd_open(pid)
    poller = poll()
    poller.register(pidfd, POLLIN)
    ended = poller.poll(timeout * 1000)
    os.close(pidfd)
    if not ended:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), path)


STEPS: dict[str, Callable[..., object]] = {
    "device_at": device_at,
    "enter_root": enter_root,
    "fail": fail,
    "hook": hook,
    "ioprio_set": syscalls.ioprio_set,
    "leave_root": leave_root,
    "make_directory": make_directory,
    "open_label": open_label,
    "personality": syscalls.personality,
    "private_parent": private_parent,
    "remove_tree": remove_tree,
    "sched_setaffinity": os.sched_setaffinity,
    "sched_setattr": syscalls.sched_setattr,
    "setdomainname": syscalls.setdomainname,
    "write_label": write_label,
}
