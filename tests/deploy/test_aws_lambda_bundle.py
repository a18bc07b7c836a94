"""What goes to AWS: the ZIP, and how its code reads the document."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deploy.aws_lambda.bundle import pack
from deploy.aws_lambda.handler import download
from deploy.aws_lambda.ranges import BrokenDocumentError

LOADED = """
import json, sys
sys.path.insert(0, sys.argv[1])
before = {name.split(".")[0] for name in sys.modules}
import deploy.aws_lambda.handler as handler
loaded = {name.split(".")[0] for name in sys.modules} - before - sys.stdlib_module_names
print(json.dumps([handler.__file__, sorted(loaded)]))
"""

WITH_BOTO3 = {
    "boto3",
    "botocore",
    "s3transfer",
    "jmespath",
    "dateutil",
    "urllib3",
    "six",
    "awscrt",
    "certifi",
    "brotli",
    "_brotli",
}
"""boto3, what it brings, and what that uses where it is installed."""


def test_the_bundle_runs_by_itself(tmp_path: Path) -> None:
    """The handler is imported out of the ZIP, with nothing but boto3 and the standard library."""
    bundled = subprocess.run(
        [sys.executable, "-m", "deploy.aws_lambda.bundle", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    path = bundled.stdout.strip()
    assert Path(path).read_bytes() == pack(), "the same sources, the same bytes"
    ran = subprocess.run(
        [sys.executable, "-I", "-c", LOADED, path],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    file, loaded = json.loads(ran.stdout)
    assert file.startswith(path)
    assert set(loaded) <= WITH_BOTO3 | {"deploy", "__mp_main__"}


@contextmanager
def web_server(status: int, body: bytes, **headers: str) -> Iterator[str]:
    """A server that gives this answer to everything; its URL."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Not to the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def test_download() -> None:
    """The document comes as it is."""
    with web_server(200, b"{}") as url:
        assert download(url) == b"{}"


def test_no_other_host_is_asked() -> None:
    """A redirection is not followed: only the host was checked that the message named."""
    with (
        web_server(200, b"{}") as elsewhere,
        web_server(302, b"", Location=elsewhere) as url,
        pytest.raises(BrokenDocumentError, match="302"),
    ):
        download(url)


def test_no_whole_document() -> None:
    """One that is cut off, and one that can't be reached."""
    with (
        web_server(200, b"{", **{"Content-Length": "9"}) as url,
        pytest.raises(BrokenDocumentError, match="8 bytes are missing"),
    ):
        download(url)
    with pytest.raises(BrokenDocumentError, match="can't be read"):
        download("http://127.0.0.1:1/")
