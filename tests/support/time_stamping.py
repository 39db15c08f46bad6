"""A time-stamping authority that uses `openssl ts`, on loopback."""

import http.server
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CONFIG = """
[tsa]
default_tsa = own
[own]
serial = {folder}/serial
crypto_device = builtin
signer_cert = {folder}/tsa.pem
certs = {folder}/ca.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
ess_cert_id_alg = sha256
"""


@dataclass
class Authority:
    """A running authority. Tests can replace `answer`, which receives the valid answer and returns the one to send."""

    url: str
    certificate: Path
    answer: Callable[[bytes], bytes] = bytes


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


@contextmanager
def authority(folder: Path) -> Iterator[Authority]:
    """Run an authority with a certificate issued by its own root certificate."""
    folder.mkdir()
    (folder / "tsa.conf").write_text(CONFIG.format(folder=folder))
    (folder / "extensions").write_text("extendedKeyUsage = critical,timeStamping\n")
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    _openssl("req", "-x509", *new, "-subj", "/CN=Root", "-keyout", f"{folder}/ca.key", "-out", f"{folder}/ca.pem")
    _openssl("req", *new, "-subj", "/CN=TSA", "-keyout", f"{folder}/tsa.key", "-out", f"{folder}/tsa.csr")
    _openssl(
        *("x509", "-req", "-in", f"{folder}/tsa.csr", "-CA", f"{folder}/ca.pem", "-CAkey", f"{folder}/ca.key"),
        *("-CAcreateserial", "-extfile", f"{folder}/extensions", "-out", f"{folder}/tsa.pem"),
    )

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query, reply = folder / "query.tsq", folder / "reply.tsr"
            query.write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
            _openssl("ts", "-reply", "-config", f"{folder}/tsa.conf", "-queryfile", str(query), "-out", str(reply))
            content = running.answer(reply.read_bytes())
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        running = Authority(f"http://127.0.0.1:{server.server_port}/", folder / "ca.pem")
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield running
        finally:
            server.shutdown()
