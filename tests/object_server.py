"""A real S3 server on this machine (moto's), in a process of its own: buckets, keys with rights, a log of requests."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3

_REQUEST = re.compile(r'"([A-Z]+) (\S+) HTTP')
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class ObjectServer:
    """A server that runs; its buckets are gone with it."""

    url: str
    _log: list[str] = field(default_factory=list)
    """`METHOD /bucket/key?...` in the order of their answers."""
    _logged: threading.Condition = field(default_factory=threading.Condition)

    def environment(self, key: str = "anyone", secret: str = "any") -> dict[str, str]:
        """The variables by which users name a store and themselves; nothing is asked of a cloud's own machines."""
        return {
            "AWS_ENDPOINT_URL_S3": self.url,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str) -> Any:
        """Amazon's own client, to look at what is stored without this project's code."""
        return boto3.client(
            service,
            endpoint_url=self.url,
            aws_access_key_id="anyone",
            aws_secret_access_key="any",
            region_name="us-east-1",
        )

    def requests(self) -> list[str]:
        """`METHOD /bucket/key?...` of what was asked so far, in the order of the answers."""
        mark = f"/moto-api/?mark={uuid.uuid4().hex}"
        with urllib.request.urlopen(self.url + mark) as answer:
            assert answer.status == 200
        with self._logged:
            assert self._logged.wait_for(lambda: f"GET {mark}" in self._log, timeout=60)
            return [one for one in self._log if "/moto-api/" not in one]

    def listen(self, log: Any) -> None:
        """Read the server's log to its end."""
        for line in log:
            if found := _REQUEST.search(_COLOURS.sub("", line)):
                with self._logged:
                    self._log.append(f"{found[1]} {found[2]}")
                    self._logged.notify_all()

    def new_bucket(self, name: str) -> None:
        self.client("s3").create_bucket(Bucket=name)

    def new_key(self, user: str, actions: list[str]) -> tuple[str, str]:
        """Key and secret of a user who may do only these things."""
        iam = self.client("iam")
        iam.create_user(UserName=user)
        statement = [{"Effect": "Allow", "Action": actions, "Resource": "*"}]
        policy = json.dumps({"Version": "2012-10-17", "Statement": statement})
        iam.put_user_policy(UserName=user, PolicyName="only", PolicyDocument=policy)
        made = iam.create_access_key(UserName=user)["AccessKey"]
        return made["AccessKeyId"], made["SecretAccessKey"]

    @contextmanager
    def checking_rights(self) -> Iterator[None]:
        """Keys count for as long as the block lasts; else everyone may do everything."""
        self._check_after("0")
        try:
            yield
        finally:
            self._check_after("inf")

    def _check_after(self, num_requests: str) -> None:
        plain = {"Content-Type": "text/plain"}
        request = urllib.request.Request(f"{self.url}/moto-api/reset-auth", num_requests.encode(), plain)
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 200


@contextmanager
def object_server() -> Iterator[ObjectServer]:
    """Starts the server on a free port and ends it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        said: list[str] = []
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"Running on (http://[0-9.:]+)", line):
                break
        else:
            raise RuntimeError(f"the object server did not start: {''.join(said)}")
        server = ObjectServer(found[1])
        listener = threading.Thread(target=server.listen, args=(process.stderr,))
        listener.start()
        try:
            yield server
        finally:
            process.terminate()
            listener.join()
    finally:
        process.terminate()
        process.wait()
        process.stderr.close()
