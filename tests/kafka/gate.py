"""A gate in front of a broker. It makes the broker look like a different server with Kafka's protocol: fewer requests, older versions, throttling.

Clients use ApiVersions to learn which requests a server supports. So the gate answers this request itself, in version 0, and passes all other
requests on.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time

# Roughly Azure Event Hubs: no ids of topics (Metadata from version 10 on), no transactions, no ACLs, no administration of brokers.
EVENT_HUBS = {
    0: (3, 7), 1: (4, 6), 2: (1, 2), 3: (1, 8), 8: (2, 3), 9: (1, 3), 10: (0, 2), 11: (2, 2), 12: (0, 1), 13: (0, 1),
    14: (0, 1), 15: (0, 1), 16: (0, 1), 17: (0, 1), 18: (0, 0), 19: (2, 3), 20: (1, 3), 22: (0, 1), 32: (1, 1),
}  # fmt: skip
PRODUCE, FETCH, API_VERSIONS = 0, 1, 18
UNSUPPORTED_VERSION = 35


class Gate:
    """Listens on a port, and passes requests on to a broker whose advertised address is this gate."""

    def __init__(
        self, port: int, broker: tuple[str, int], offers: dict[int, tuple[int, int]], throttle_ms: int = 0
    ) -> None:
        self.broker, self.offers, self.throttle_ms = broker, offers, throttle_ms
        self.asked: list[int] = []
        self.listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self.serve, daemon=True).start()

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self.pass_on, args=(client,), daemon=True).start()

    def pass_on(self, client: socket.socket) -> None:
        upstream = socket.create_connection(self.broker)
        waiting: dict[int, int] = {}
        lock = threading.Lock()

        def back() -> None:
            with contextlib.suppress(OSError, EOFError):
                while True:
                    answer = bytearray(frame(upstream))
                    (correlation,) = struct.unpack_from(">i", answer)
                    api = waiting.pop(correlation, -1)
                    if self.throttle_ms and api in (PRODUCE, FETCH):
                        # A server that throttles answers late, and says how long the client must wait.
                        time.sleep(self.throttle_ms / 1000)
                        at = 4 if api == FETCH else len(answer) - 4
                        struct.pack_into(">i", answer, at, self.throttle_ms)
                    with lock:
                        client.sendall(struct.pack(">i", len(answer)) + answer)
            client.close()

        threading.Thread(target=back, daemon=True).start()
        with contextlib.suppress(OSError, EOFError):
            while True:
                request = frame(client)
                api, version, correlation = struct.unpack_from(">hhi", request)
                self.asked.append(api)
                if api == API_VERSIONS:
                    error = 0 if version == 0 else UNSUPPORTED_VERSION
                    body = struct.pack(">ihi", correlation, error, len(self.offers))
                    body += b"".join(struct.pack(">hhh", key, *span) for key, span in self.offers.items())
                    with lock:
                        client.sendall(struct.pack(">i", len(body)) + body)
                    continue
                low, high = self.offers.get(api, (0, -1))
                if not low <= version <= high:
                    break  # like a server that does not know the request
                waiting[correlation] = api
                upstream.sendall(struct.pack(">i", len(request)) + request)
        upstream.close()
        client.close()


def frame(of: socket.socket) -> bytes:
    (length,) = struct.unpack(">i", exactly(of, 4))
    return exactly(of, length)


def exactly(of: socket.socket, length: int) -> bytes:
    out = b""
    while len(out) < length:
        more = of.recv(length - len(out))
        if not more:
            raise EOFError
        out += more
    return out
