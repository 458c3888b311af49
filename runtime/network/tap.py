"""A tap on a network's bridge, for the network card of a virtual machine."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct

from runtime.errors import KernelRefused
from runtime.network.config import NetworkConfig

__all__ = ["open_tap"]

# include/uapi/linux/if_tun.h
_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000


def open_tap(config: NetworkConfig, name: str) -> int:
    """Make a tap of that name in the bridge, up; its descriptor, with which it dies.

    Packets carry a virtio header, so that checksums and segmentation can be left to the host
    (Documentation/networking/tuntap.rst; QEMU asks the descriptor). Raises KernelRefused."""
    from runtime.network import netlink as nl

    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise KernelRefused("open /dev/net/tun for a tap", error.errno or 0) from error
    try:
        flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
        bridge = socket.if_nametoindex(config.bridge)
        with nl.Netlink() as netlink:
            netlink.run(
                nl.quiet_ipv6(name),
                nl.change_link(
                    name,
                    f"put the tap {name} into {config.bridge}",
                    up=True,
                    master=bridge,
                    group=config.group,
                    mtu=config.mtu,
                ),
            )
    except OSError as error:
        os.close(fd)
        raise KernelRefused(f"make the tap {name}", error.errno or errno.EIO) from error
    except BaseException:
        os.close(fd)
        raise
    return fd
