"""A small HTTP server: POST a picture to /downscale, and what came back to /upscale.

    python examples/04_server.py          # asks itself for pictures from several threads, says how fast, and stops
    python examples/04_server.py 8000     # serves this machine on that port until Ctrl-C or SIGTERM

Needs nothing but the package. One Rescaler serves all requests; while too many wait, the answer is 503.
"""

import http.client
import io
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image

from bdflow_rt import Rescaler, decode_png, encode_png
from bdflow_rt.containers import read_picture
from bdflow_rt.errors import BdflowError, BusyError, InputError, PacketError
from bdflow_rt.picture import UInt8Array, sample_picture

MAX_BYTES, MAX_PIXELS, WORKERS, CLIENTS = 32 << 20, 1 << 24, 2, 6
STOP = {signal.SIGINT, signal.SIGTERM}


class Handler(BaseHTTPRequestHandler):
    """One request, in a thread of its own."""

    rescaler: Rescaler
    timeout = 30  # seconds: a client that sends nothing must not keep its thread

    def do_POST(self) -> None:
        """Answer with a PNG, or with the reason in one line."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_BYTES:
            return self.answer(413, f"Content-Length must be a number of at most {MAX_BYTES}.\n".encode())
        try:
            self.answer(200, self.compute(self.rfile.read(int(length))))
        except (InputError, PacketError) as error:
            self.answer(400, f"{error}\n".encode())
        except BdflowError as error:
            self.answer(503 if isinstance(error, BusyError) else 500, f"{error}\n".encode())

    def compute(self, body: bytes) -> bytes:
        """The PNG to answer with; `block=False` raises BusyError where the workers have their fill."""
        if self.path == "/downscale":
            picture = read_picture(body, max_pixels=MAX_PIXELS)
            return encode_png(self.rescaler.submit_downscale(picture, block=False).wait())
        packet = decode_png(body, max_pixels=MAX_PIXELS)
        return png(self.rescaler.submit_upscale(packet, block=False).wait())

    def answer(self, status: int, body: bytes) -> None:
        """Send it."""
        self.send_response(status)
        self.send_header("Content-Type", "image/png" if status == 200 else "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Say nothing of single requests."""


class Server(ThreadingHTTPServer):
    """A thread for each request; closing it waits for those under way."""

    daemon_threads = False
    request_queue_size = 128  # connections that wait to be accepted; further ones are reset


def png(pixels: UInt8Array) -> bytes:
    """A picture as the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def post(port: int, path: str, body: bytes, busy: list[int]) -> bytes:
    """Ask until the server has room; each 503 goes into `busy`."""
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", path, body)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        if response.status == 200:
            return content
        if response.status != 503:
            raise RuntimeError(f"{response.status}: {content.decode()}")
        busy.append(response.status)
        time.sleep(0.05)


def ask(port: int) -> None:
    """Send pictures both ways from several threads, and say how fast that was."""
    pictures = [png(sample_picture(240, 320, seed)) for seed in range(2 * CLIENTS)]
    busy: list[int] = []
    started = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as clients:
        small = list(clients.map(lambda body: post(port, "/downscale", body, busy), pictures))
        large = list(clients.map(lambda body: post(port, "/upscale", body, busy), small))
    seconds, count = time.perf_counter() - started, len(small) + len(large)
    print(f"{count} requests in {seconds:.2f} s: {count / seconds:.1f} requests/s; {len(busy)} times 503")


def main() -> None:
    """Serve, and end without breaking off a request."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP if port else ())  # before there are threads, which inherit it
    with Rescaler.from_pretrained("bdflow-x4-fast", workers=WORKERS) as Handler.rescaler:
        Handler.rescaler.warm_up(height=240, width=320)
        with Server(("127.0.0.1", port), Handler) as server:
            threading.Thread(target=server.serve_forever).start()
            try:
                print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
                signal.sigwait(STOP) if port else ask(server.server_port)
            finally:
                server.shutdown()
    print("closed")


if __name__ == "__main__":
    main()
