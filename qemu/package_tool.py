# SPDX-License-Identifier: GPL-2.0-or-later
"""The router's own package manager, as shell commands: opkg, or apk on OpenWrt 25.12 and later."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .machine import Machine


class PackageTool(ABC):
    """The shell commands of one package manager."""

    @staticmethod
    def of(router: Machine) -> PackageTool:
        """Return the package manager that the router has."""
        return Apk() if "apk" in router.run("command -v apk", check=False) else Opkg()

    @abstractmethod
    def install(self, name: str) -> str:
        """Read the lists, and install a package with all that it needs."""

    @abstractmethod
    def follow(self, feed: str) -> str:
        """Replace the feed tandem by another one of ours."""

    @abstractmethod
    def upgrade(self, name: str, feed: str) -> str:
        """Upgrade to the version in another of our feeds, which replaces the feed tandem."""

    @abstractmethod
    def version(self, name: str) -> str:
        """Print the name and version of a package."""


class Opkg(PackageTool):
    def install(self, name: str) -> str:
        return f"opkg update && opkg install {name}"

    def follow(self, feed: str) -> str:
        return f"sed -i 's,/tandem$,/{feed},' /etc/opkg/customfeeds.conf"

    def upgrade(self, name: str, feed: str) -> str:
        return f"{self.follow(feed)}; opkg update && opkg upgrade {name}"

    def version(self, name: str) -> str:
        return f"opkg list-installed {name}"


class Apk(PackageTool):
    """apk-tools 3. Our feed is not signed."""

    _UPDATE = "apk --allow-untrusted update"

    def install(self, name: str) -> str:
        return f"{self._UPDATE} && apk --allow-untrusted add {name}"

    def follow(self, feed: str) -> str:
        lists = "/etc/apk/repositories.d/customfeeds.list"
        return f"sed -i 's,/tandem/packages.adb$,/{feed}/packages.adb,' {lists}"

    def upgrade(self, name: str, feed: str) -> str:
        return f"{self.follow(feed)}; {self._UPDATE} && apk --allow-untrusted upgrade {name}"

    def version(self, name: str) -> str:
        return f"apk list --installed {name}"
