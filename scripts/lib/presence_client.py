"""What a gateway and a reader need to talk to the service, with nothing but Python's standard library.

NATS is spoken as its text protocol: that is all a gateway has to do.
"""

import json
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 10  # seconds that anything may take


class Failed(Exception):
    """Says in a sentence what went wrong."""


class Event:
    """Something that was told about a user, and when it came here."""

    def __init__(self, subject, payload):
        self.subject = subject
        self.frame = json.loads(payload)
        self.presence = self.frame["d"]
        self.came_at = now_ms()


class Nats:
    """A connection to NATS, with a subscription to everything that is told about users, and to the dead letters."""

    def __init__(self, url):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "nats" or not parts.hostname:
            raise Failed(f"{url} is no nats://host:port")
        try:
            self.socket = socket.create_connection((parts.hostname, parts.port or 4222), PATIENCE)
        except OSError as error:
            raise Failed(f"NATS can't be reached at {parts.hostname}:{parts.port or 4222}: {error}") from error
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.events = []
        self.letters = []  # subject and payload
        options = {"verbose": False, "headers": True, "name": "gateway"}
        if parts.password is not None:
            options.update(user=urllib.parse.unquote(parts.username), **{"pass": urllib.parse.unquote(parts.password)})
        elif parts.username:
            options["auth_token"] = urllib.parse.unquote(parts.username)
        self.send(f"CONNECT {json.dumps(options)}\r\nSUB presence.> 1\r\n")
        self.flush()

    def publish(self, subject, message):
        """Tells what a gateway or the voice service tells; returns when the server has it."""
        payload = message if isinstance(message, bytes) else json.dumps(message).encode()
        self.send(f"PUB {subject} {len(payload)}\r\n".encode() + payload + b"\r\n")
        self.flush()

    def flush(self):
        """Returns when the server has everything that was sent, and has sent everything that it had."""
        self.send("PING\r\n")
        deadline = time.monotonic() + PATIENCE
        while self.read(deadline) != "PONG":
            pass

    def events_of(self, user):
        """The events of one user that the server has sent so far, the oldest first."""
        self.flush()
        return [event for event in self.events if event.presence["user_id"] == user.id]

    def wait(self, what, find):
        """Waits for what comes next until `find` finds something in it, and gives that back."""
        deadline = time.monotonic() + PATIENCE
        while not (found := find()):
            try:
                self.read(deadline)
            except Failed as failure:
                raise Failed(f"{what}: {failure}") from failure
        return found

    def send(self, data):
        try:
            self.socket.sendall(data if isinstance(data, bytes) else data.encode())
        except OSError as error:
            raise Failed(f"the connection to NATS broke: {error}") from error

    def read(self, deadline):
        """One line of the protocol. Messages are put aside, pings are answered."""
        line = self.take_line(deadline)
        name, *words = line.split(" ")
        if name in ("MSG", "HMSG"):
            total = int(words[-1])
            headers = int(words[-2]) if name == "HMSG" else 0
            payload = self.take(total + 2, deadline)[headers:total]
            if words[0].startswith("presence.dlq."):
                self.letters.append((words[0], payload))
            else:
                self.events.append(Event(words[0], payload))
        elif name == "PING":
            self.send("PONG\r\n")
        elif name == "-ERR":
            raise Failed(f"NATS refuses: {line}")
        return line

    def take_line(self, deadline):
        while b"\r\n" not in self.buffer:
            self.fill(deadline)
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line.decode()

    def take(self, count, deadline):
        while len(self.buffer) < count:
            self.fill(deadline)
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def fill(self, deadline):
        self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            data = self.socket.recv(65536)
        except OSError as error:
            raise Failed(f"NATS does not answer: {error}") from error
        if not data:
            raise Failed("NATS closed the connection")
        self.buffer += data


class Api:
    """The HTTP interface, at any base URL."""

    def __init__(self, base_url):
        self.base_url = base_url.rstrip("/")

    def status(self, user, body):
        """Sets what the body names."""
        return self.request("POST", "/presence/status", user, body)

    def presence(self, user, reader):
        """What the reader sees of the user."""
        return self.request("GET", f"/presence/{user.id}", reader)

    def request(self, method, path, caller, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base_url + path, data, method=method)
        request.add_header("Authorization", f"Bearer {caller.token}")
        if data is not None:
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as response:
                return json.loads(response.read() or b"null")
        except urllib.error.HTTPError as error:
            raise Failed(f"{method} {path} answers {error.code}: {error.read().decode(errors='replace')}") from error
        except OSError as error:
            raise Failed(f"{method} {self.base_url}{path} has no answer: {error}") from error


class User:
    """Somebody who was never seen before, with a token from scripts/token."""

    def __init__(self):
        self.id = str(uuid.uuid4())
        made = subprocess.run([ROOT / "scripts/token", self.id], capture_output=True, text=True, check=False)
        if made.returncode != 0:
            raise Failed(made.stderr.strip())
        self.token = made.stdout.strip()


def now_ms():
    return time.time_ns() // 1_000_000


def until(what, ask, is_it):
    """Asks until the answer is what was waited for, and gives it back."""
    deadline = time.monotonic() + PATIENCE
    while True:
        answer = ask()
        if is_it(answer):
            return answer
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {PATIENCE} s; seen instead: {json.dumps(answer)}")
        time.sleep(0.02)
