# SPDX-License-Identifier: GPL-2.0-or-later
"""Puts the public keys of a feed and a page that says how to use it beside the packages.

feed_page.py KEYS FEED    KEYS is the directory of `make feed-key`
"""

from __future__ import annotations

import base64
import html
import shutil
import sys
from pathlib import Path

PAGE = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Tandem for OpenWrt</title>
<h1>Tandem for OpenWrt</h1>
<p>Two routers, one gateway. FEED in these lines is the address of this page.</p>
<h2>OpenWrt 25.12 (main: <code>apk/main</code>)</h2>
<pre>wget -O /etc/apk/keys/tandem.pem FEED/keys/tandem.pem
echo FEED/apk/25.12/packages.adb >/etc/apk/repositories.d/tandem.list
apk update &amp;&amp; apk add tandem</pre>
<h2>OpenWrt 24.10 and older</h2>
<pre>wget -O /etc/opkg/keys/{fingerprint} FEED/keys/{fingerprint}
echo 'src/gz tandem FEED/opkg' >>/etc/opkg/customfeeds.conf
opkg update &amp;&amp; opkg install tandem</pre>
<p><code>tandem-import</code> makes a configuration of one for keepalived, conntrackd or ucarp.</p>
<h2>The gate</h2>
<p><code>tandem-gate</code> (<code>option guarantee 'connection'</code>) requires python3-netfilterqueue,
which is made for one kind of processor. With apk, and with opkg:</p>
<pre>echo FEED/apk/25.12/$(cat /etc/apk/arch)/packages.adb >>/etc/apk/repositories.d/tandem.list
. /etc/openwrt_release; echo "src/gz tandem_gate FEED/opkg/$DISTRIB_ARCH" >>/etc/opkg/customfeeds.conf</pre>
<h2>Packages</h2>
<ul>
{packages}
</ul>
</html>
"""


def main(argv: list[str]) -> int:
    if len(argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    keys, feed = map(Path, argv)
    published = feed / "keys"
    published.mkdir(exist_ok=True)
    name = fingerprint(keys / "opkg.pub")
    shutil.copy(keys / "apk.pem", published / "tandem.pem")
    shutil.copy(keys / "opkg.pub", published / name)
    files = sorted(str(path.relative_to(feed)) for path in feed.rglob("*") if path.suffix in (".apk", ".ipk"))
    links = [f'<li><a href="{html.escape(file)}">{html.escape(file)}</a>' for file in files]
    (feed / "index.html").write_text(PAGE.format(fingerprint=name, packages="\n".join(links)))
    print(f"{feed}: {len(files)} packages, index.html says how to install them")
    return 0


def fingerprint(key: Path) -> str:
    """Return the name under which opkg looks for a public key: its number in hexadecimal (usign -F)."""
    return base64.b64decode(key.read_text().splitlines()[1])[2:10].hex()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
