"""A conductor that answers every zome call at once, to see what a gateway itself costs.

    python bench/instant.py PORT FOLDER

Puts what opens its one hApp, `notes`, into FOLDER. Checks nothing, and speaks no more of the
websocket protocol than our own client needs.
"""

import asyncio
import base64
import hashlib
import re
import struct
import sys
from pathlib import Path

import msgspec
import uvloop

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import gateways
from hivekeeper.holochain import app, hashes, wire
from hivekeeper.holochain.apps import AppInfo
from hivekeeper.holochain.wire import Tagged

AGENT = hashes.AGENT.of(b"\x02" * 32)
INFO = app.APP_INFO.encode_response(AppInfo("notes", {}, Tagged("enabled"), AGENT, {}, 0))
CALLED = app.CALL_ZOME.encode_response(msgspec.msgpack.encode(7))
SALT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
BINARY, CLOSE = 2, 8


class Peer(asyncio.Protocol):
    """One websocket."""

    transport: asyncio.Transport
    data = b""
    is_open = False
    answer = INFO
    """To the first request; then `CALLED`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        if not self.is_open:
            self.is_open = self.shake_hands()
        while self.is_open and (frame := self.take_frame()) is not None:
            opcode, content = frame
            if opcode == CLOSE:
                self.transport.close()
            elif opcode == BINARY:
                self.take(wire.decode_message(content))

    def shake_hands(self) -> bool:
        head, end, rest = self.data.partition(b"\r\n\r\n")
        key = re.search(rb"(?i)sec-websocket-key: (\S+)", head)
        if not end or key is None:
            return False
        self.data = rest
        accept = base64.b64encode(hashlib.sha1(key[1] + SALT).digest())  # noqa: S324 -- RFC 6455
        lines = [
            b"HTTP/1.1 101 Switching Protocols",
            b"Upgrade: websocket",
            b"Connection: Upgrade",
        ]
        self.transport.write(b"\r\n".join([*lines, b"Sec-WebSocket-Accept: " + accept, b"", b""]))
        return True

    def take_frame(self) -> tuple[int, bytes] | None:
        data = self.data
        if len(data) < 4:
            return None
        size, at = data[1] & 127, 2
        if size == 126:
            size, at = struct.unpack(">H", data[2:4])[0], 4
        if len(data) < at + 4 + size:
            return None
        mask, masked = data[at : at + 4], data[at + 4 : at + 4 + size]
        self.data = data[at + 4 + size :]
        key = (mask * (size // 4 + 1))[:size]
        plain = int.from_bytes(masked, "little") ^ int.from_bytes(key, "little")
        return data[0] & 15, plain.to_bytes(size, "little")

    def take(self, message: wire.Message) -> None:
        if isinstance(message, wire.Request):
            content = wire.encode(wire.Response(message.id, self.answer))
            self.answer = CALLED
            size = len(content)
            length = bytes([size]) if size < 126 else b"\x7e" + struct.pack(">H", size)
            self.transport.write(b"\x82" + length + content)


async def main(port: int, folder: Path) -> None:
    server = await asyncio.get_running_loop().create_server(Peer, "127.0.0.1", port)
    gateways.hand_over(folder, gateways.opened(port=port))
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1]), Path(sys.argv[2])))
