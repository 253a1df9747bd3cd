# SPDX-License-Identifier: GPL-2.0-or-later
"""A small stand-in for uhttpd, rpcd and LuCI's dispatcher, for one router of the lab.

    python -m tests.luci.standin.server DIRECTORY ADDRESS

It serves Tandem's views and the stand-in for LuCI's client side, and carries out calls on /ubus: of the
object `tandem` by the daemon's control socket, of `tandem.commands` by the real plugin, of `uci` by the file
DIRECTORY/tandem. Rights are those of the ACL files that the package brings. Users: root, viewer, operator.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tandem.config import uci
from tandem.config.uci import quote

ROOT = Path(__file__).resolve().parents[3]
HTDOCS = ROOT / "openwrt-feed/luci-app-tandem/htdocs"
MENU = json.loads(
    (ROOT / "openwrt-feed/luci-app-tandem/root/usr/share/luci/menu.d/luci-app-tandem.json").read_text()
)
ACLS = {
    name: group
    for path in (ROOT / "files/usr/share/rpcd/acl.d").iterdir()
    for name, group in json.loads(path.read_text()).items()
}
USERS = {
    "root": set(ACLS),
    "viewer": {"tandem-status"},
    "operator": {"tandem-status", "tandem-operate"},
}
# LuCI's module `uqr` is this package of npm, and its drawing has a size instead of a viewBox.
UQR = ROOT / "tests/luci/node_modules/uqr/dist/index.cjs"
UQR_MODULE = """\
'use strict';
'require baseclass';
const exports = {};
%s
return baseclass.extend({
	renderSVG: (data, options) => exports.renderSVG(data, options)
		.replace(/viewBox="0 0 (\\d+) (\\d+)"/, 'width="$1" height="$2"')
});
"""
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}

PAGE = """\
<!DOCTYPE html><html lang="en" data-darkmode="{dark}"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Stand-in for LuCI</title>
<link rel="stylesheet" href="/luci-static/resources/theme.css"><script>window.ENV = {environment};</script>
<script src="/luci-static/resources/luci.js"></script></head>
<body><nav><ul class="tabs">{links}</ul></nav><main id="maincontent"><div id="view"></div></main></body>
</html>"""

Json = dict[str, Any]


class Ubus:
    """The calls of one router."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.staged: dict[str, Json] | None = None
        self.serial = 0

    def call(self, user: str, target: str, method: str, arguments: Json) -> list[Any] | None:
        """The result, as uhttpd gives it; None: the user may not call this."""
        if (target, method) == ("session", "access"):
            return [0, {"access": arguments["object"] in USERS[user]}]
        if target == "uci":
            if not any(
                "uci" in ACLS[group].get(kind, {}) for group in USERS[user] for kind in ("read", "write")
            ):
                return None
            return [0, self.uci(method, arguments)]
        allowed = {
            name
            for group in USERS[user]
            for rights in ACLS[group].values()
            if isinstance(rights, dict)
            for name in rights["ubus"].get(target, ())
        }
        if method not in allowed:
            return None
        return self.daemon(method, arguments) if target == "tandem" else self.plugin(method, arguments)

    def daemon(self, method: str, arguments: Json) -> list[Any]:
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(10)
                sock.connect(str(self.directory / "control.sock"))
                request = {"command": method, **arguments}
                sock.sendall(json.dumps(request).encode() + b"\n")
                answer = json.loads(sock.makefile("rb").readline())
        except (OSError, ValueError):
            return [4]
        if not answer["ok"]:
            return [8, {key: value for key, value in answer.items() if key != "ok"}]
        return [0, answer["result"]]

    def plugin(self, method: str, arguments: Json) -> list[Any]:
        done = subprocess.run(
            [sys.executable, "-m", "tests.luci.standin.plugin", str(self.directory), method],
            input=json.dumps(arguments).encode(),
            capture_output=True,
            check=False,
            cwd=ROOT,
        )
        if done.returncode:
            print(done.stderr.decode(), file=sys.stderr, flush=True)
            return [9]
        return [0, json.loads(done.stdout)]

    # uci, as rpcd has it: changes are staged until they are applied

    def sections(self) -> dict[str, Json]:
        if self.staged is None:
            self.staged = {}
            path = self.directory / "tandem"
            text = path.read_text() if path.exists() else ""
            for index, section in enumerate(uci.read(text, "tandem").sections):
                name = section.name or f"cfg{index:06x}"
                one: Json = {
                    ".name": name,
                    ".type": section.type,
                    ".anonymous": not section.name,
                    ".index": index,
                }
                for option, given in section.options.items():
                    values = [value.text for value in given.values]
                    one[option] = values if given.is_list else values[-1]
                self.staged[name] = one
        return self.staged

    def uci(self, method: str, arguments: Json) -> Json:
        sections = self.sections()
        match method:
            case "get":
                return {"values": sections}
            case "set":
                sections[arguments["section"]].update(arguments["values"])
            case "add":
                self.serial += 1
                name = arguments.get("name") or f"cfg{0x100 + self.serial:06x}"
                head = {".name": name, ".type": arguments["type"], ".anonymous": "name" not in arguments}
                sections[name] = {**head, ".index": 1000 + self.serial, **arguments["values"]}
            case "delete":
                for option in arguments.get("options") or ():
                    sections[arguments["section"]].pop(option, None)
                if not arguments.get("options"):
                    del sections[arguments["section"]]
            case "apply":
                (self.directory / "tandem").write_text(text_of(sections))
                self.staged = None
                self.daemon("reload", {})
            case "revert":
                self.staged = None
        return {}


def text_of(sections: dict[str, Json]) -> str:
    lines = []
    for one in sorted(sections.values(), key=lambda section: section[".index"]):
        lines.append(f"config {one['.type']}" + ("" if one[".anonymous"] else f" {quote(one['.name'])}"))
        for name, value in one.items():
            if isinstance(value, list):
                lines += [f"\tlist {name} {quote(item)}" for item in value]
            elif not name.startswith("."):
                lines.append(f"\toption {name} {quote(value)}")
    return "\n".join(lines) + "\n"


class Handler(BaseHTTPRequestHandler):
    """Pages, files and calls; the user is the session, `dark` and `user` are in the query."""

    ubus: Ubus
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        values = dict(item.split("=", 1) for item in query.split("&") if "=" in item)
        if path.startswith("/cgi-bin/luci/"):
            self._page(path.removeprefix("/cgi-bin/luci/"), values)
            return
        if path == "/luci-static/resources/uqr.js":
            self._answer((UQR_MODULE % UQR.read_text()).encode(), TYPES[".js"])
            return
        for file in (HTDOCS / path[1:], Path(__file__).with_name(path.rpartition("/")[2])):
            if file.is_file() and ".." not in path:
                self._answer(file.read_bytes(), TYPES.get(file.suffix, "application/octet-stream"))
                return
        self._answer(b"", "text/plain", 404 if path != "/favicon.ico" else 204)

    def do_POST(self) -> None:
        calls = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(json.dumps([self._called(call) for call in calls]).encode(), "application/json")

    def _called(self, call: Json) -> Json:
        user, target, method, arguments = call["params"]
        result = self.ubus.call(user, target, method, arguments)
        if result is None:
            return {"id": call["id"], "error": {"code": -32002, "message": "Access denied"}}
        return {"id": call["id"], "jsonrpc": "2.0", "result": result}

    def _page(self, path: str, values: dict[str, str]) -> None:
        cookies = dict(
            item.strip().split("=", 1) for item in self.headers.get("Cookie", "").split(";") if "=" in item
        )
        user = values.get("user") or cookies.get("user", "root")
        dark = (values.get("dark") or cookies.get("dark", "0")) == "1"
        tabs = [
            (name, row["title"])
            for name, row in MENU.items()
            if name.count("/") == 3 and set(row["depends"]["acl"]) <= USERS[user]
        ]
        row = MENU.get(path)
        if path == "admin/status/overview":
            view = "view.status.include.15_tandem"
        elif row and path in dict(tabs):
            view = f"view.{row['action']['path'].replace('/', '.')}"
        else:
            self._answer(b"<!DOCTYPE html><title>no</title>no such page", "text/html", 404)
            return
        links = "".join(
            f'<li{" class=active" if name == path else ""}><a href="/cgi-bin/luci/{name}">{title}</a></li>'
            for name, title in tabs
        )
        environment = json.dumps({"sessionid": user, "view": view, "resource_version": "0"})
        page = PAGE.format(dark=str(dark).lower(), environment=environment, links=links)
        cookie = f"user={user}; Path=/", f"dark={int(dark)}; Path=/"
        self._answer(page.encode(), "text/html; charset=utf-8", cookies=cookie)

    def _answer(self, data: bytes, kind: str, status: int = 200, cookies: tuple[str, ...] = ()) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for cookie in cookies:
            self.send_header("Set-Cookie", cookie)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def main(directory: str, address: str) -> None:
    Handler.ubus = Ubus(Path(directory))
    server = ThreadingHTTPServer((address, 80), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign] # a browser that hangs up
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
