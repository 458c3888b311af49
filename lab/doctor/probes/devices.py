"""Devices of the kernel that virtual machines and rootless containers use.

Opening one may load its kernel module, as any use of it would.
"""

from __future__ import annotations

import fcntl
import os
import struct

from lab.doctor.probe import Host, Outcome, ok, probe
from runtime.namespaces import Namespace
from runtime.syscalls import MNT_DETACH, MS_PRIVATE, MS_REC, mount, umount2, unshare

__all__ = ["PROBES"]

_VHOST_GET_FEATURES = 0x8008AF00  # include/uapi/linux/vhost.h
_TUNSETIFF = 0x400454CA  # include/uapi/linux/if_tun.h
_IFF_TAP = 0x0002
_IFF_NO_PI = 0x1000


def _vhost_features(path: str) -> Outcome:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    answer = fcntl.ioctl(fd, _VHOST_GET_FEATURES, bytes(8))
    return ok(f"features {struct.unpack('=Q', answer)[0]:#x}")


@probe(
    "vhost-net",
    group="devices",
    tried="/dev/vhost-net opened and asked for its features",
    advice="sudo modprobe vhost_net; without, QEMU itself moves each packet",
    needed_for=["vhost-net"],
)
def vhost_net(_: Host) -> Outcome:
    """virtio-net in the host's kernel."""
    return _vhost_features("/dev/vhost-net")


@probe(
    "vhost-vsock",
    group="devices",
    tried="/dev/vhost-vsock opened and asked for its features",
    advice="sudo modprobe vhost_vsock; the lab's own channels are virtio-serial and do without",
    needed_for=["vsock"],
)
def vhost_vsock(_: Host) -> Outcome:
    """Sockets between guest and host."""
    return _vhost_features("/dev/vhost-vsock")


@probe(
    "tap",
    group="devices",
    tried="/dev/net/tun opened and a tap made in a network namespace of its own",
    advice="sudo modprobe tun; inside a container, pass the device and CAP_NET_ADMIN",
    needed_for=["vm-network"],
)
def tap(_: Host) -> Outcome:
    """The host's end of a guest's network card; gone when its descriptor is closed."""
    unshare(Namespace.NET)
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    request = struct.pack("16sH22x", b"lab%d", _IFF_TAP | _IFF_NO_PI)
    name = fcntl.ioctl(fd, _TUNSETIFF, request)[:16].rstrip(b"\0").decode()
    return ok(f"made {name}")


@probe(
    "FUSE",
    group="devices",
    tried="/dev/fuse opened and a file system on it mounted in a mount namespace of its own",
    advice="sudo modprobe fuse; inside a container, pass the device",
    needed_for=["fuse"],
)
def fuse(host: Host) -> Outcome:
    """Nobody answers it: it is mounted, looked at by nobody, and unmounted."""
    point = str(host.room("fuse"))
    unshare(Namespace.MOUNT)
    mount(None, "/", None, MS_REC | MS_PRIVATE, None)
    fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    mount("lab-doctor", point, "fuse", 0, f"fd={fd},rootmode=40000,user_id=0,group_id=0")
    umount2(point, MNT_DETACH)
    return ok("mounted and unmounted")


PROBES = (vhost_net, vhost_vsock, tap, fuse)
