# SPDX-License-Identifier: GPL-2.0-or-later
"""The whole surface of the binding once, with nothing but what is in an OpenWrt root; prints "ok".

    python3 inside.py PACKAGES [SOCKET]     in a chroot, where ubusd runs

The tests proper need more of Python than such a root has.
"""

import sys
import time

sys.path.insert(0, sys.argv[1])

from tandem.openwrt import find_libubus
from tandem.openwrt import libubus as lib
from tandem.openwrt.ubus import Method, Ubus, UbusError

print(sys.version.split()[0], find_libubus())

bus, caller = Ubus(*sys.argv[2:]), Ubus(*sys.argv[2:])
bus.connect()
caller.connect()
later = []
added = bus.add(
    "inside",
    {
        "echo": Method(lambda _call, arguments: arguments, {"data": dict}),
        "slow": Method(lambda call, _arguments: later.append(call.defer())),
    },
)
heard = []
caller.listen("inside.*", lambda event, data: heard.append((event, data)))
caller.subscribe("inside", lambda kind, data: heard.append((kind, data)), lambda: heard.append("gone"))
assert caller.objects("inside") == {"inside": {"echo": {"data": 2}, "slow": {}}}, caller.objects()
assert caller.lookup("inside") == added.id


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "timeout"
        bus.loop(0)
        caller.loop(0.0005)


def exchange(method, arguments):
    found = []
    caller.call_async(added.id, method, arguments, lambda status, replies: found.extend((status, replies)))
    until(lambda: found or later)
    return found


data = {"text": "a\u00fc", "int": -5, "large": 1 << 40, "double": 0.1, "null": None, "list": [1, {}]}
assert exchange("echo", {"data": data}) == [lib.OK, [{"data": data}]]
assert exchange("echo", {"data": "text"}) == [lib.INVALID_ARGUMENT, []]
assert exchange("echo", {"other": 1}) == [lib.INVALID_ARGUMENT, []]
assert exchange("nothing", {}) == [lib.METHOD_NOT_FOUND, []]
long = {"text": "x" * 1_000_000}
assert exchange("echo", {"data": long}) == [lib.OK, [{"data": long}]]
answer = exchange("slow", {})
call = later.pop()
call.reply({"late": True})
call.finish()
until(lambda: answer)
assert answer == [lib.OK, [{"late": True}]]
until(lambda: added.has_subscribers)
bus.notify(added, "kind", {"n": 1})
bus.send_event("inside.event", {"n": 2})
until(lambda: len(heard) == 2)
assert sorted(heard) == [("inside.event", {"n": 2}), ("kind", {"n": 1})], heard
for number in range(2000):
    assert exchange("echo", {"data": {"n": number}}) == [lib.OK, [{"data": {"n": number}}]]
board = caller.call("system", "board") if "system" in caller.objects() else None
bus.remove(added)
until(lambda: heard[-1] == "gone")
try:
    caller.call("inside", "echo")
except UbusError as error:
    assert error.status == lib.NOT_FOUND
else:
    raise AssertionError("called what is not there")
bus.disconnect()
caller.disconnect()
print("ok")
