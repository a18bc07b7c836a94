"""An S3 (and KMS) of moto's in the test's process, whose uploads can be held up.

with S3Server() as server:
    server.hold_from_part(3)
    ...
"""

import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs

import boto3
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from mypy_boto3_s3 import S3Client
from werkzeug.serving import BaseWSGIServer, make_server

HELD_S = 60.0


class S3Server:
    """Listens on a port of the loopback, from `with` to its end. `parts`: those that arrived."""

    def __init__(self, port: int = 0) -> None:
        self.parts: list[int] = []
        self.holding = threading.Event()
        self._hold_from = 0
        self._free = threading.Event()
        self._port = port
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server: BaseWSGIServer
        self._thread: threading.Thread

    def __enter__(self) -> Self:
        self._server = make_server(
            "127.0.0.1", self._port, self._serve, threaded=True, request_handler=MotoRequestHandler
        )
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.go_on()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """What boto3 needs to find it; the credentials are none."""
        return {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_KMS": self.url,
            "S3_ENDPOINT_URL": self.url,
        }

    def client(self, service: str) -> Any:
        """A client of S3 or KMS."""
        return boto3.client(
            service,  # type: ignore[call-overload]
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def bucket(self, name: str) -> S3Client:
        """Make a bucket; a client to look into it."""
        s3: S3Client = self.client("s3")
        s3.create_bucket(Bucket=name)
        return s3

    def hold_from_part(self, number: int) -> None:
        """Leave this part and later ones without an answer; `holding` tells that one has come."""
        self._hold_from = number
        self.holding.clear()
        self._free.clear()

    def go_on(self) -> None:
        """Hold nothing any more; what was held is dropped."""
        self._hold_from = 0
        self._free.set()

    def _serve(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        numbers = parse_qs(environ.get("QUERY_STRING", "")).get("partNumber")
        if numbers and environ["REQUEST_METHOD"] == "PUT":
            number = int(numbers[0])
            if self._hold_from and number >= self._hold_from:
                self.holding.set()
                self._free.wait(HELD_S)
                start_response("503 Slow Down", [("Content-Length", "0")])
                return [b""]
            self.parts.append(number)
        answer: Iterable[bytes] = self._app(environ, start_response)
        return answer
