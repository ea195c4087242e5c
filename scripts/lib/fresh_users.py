"""Hooks of schemathesis: every request comes from a user of its own.

With one user for all of them the limit of status updates would answer most requests, and little else would be seen.
"""

import base64
import hashlib
import hmac
import json
import time
import uuid

import schemathesis

DEVELOPMENT_SECRET = b"presence-service-development-secret-known-to-everyone"


@schemathesis.auth(refresh_interval=None)
class FreshUser:
    def get(self, case, context):
        claims = {"sub": str(uuid.uuid4()), "exp": int(time.time()) + 3600}
        message = part({"alg": "HS256", "typ": "JWT"}) + b"." + part(claims)
        signature = hmac.new(DEVELOPMENT_SECRET, message, hashlib.sha256).digest()
        return (message + b"." + base64url(signature)).decode()

    def set(self, case, token, context):
        case.headers["Authorization"] = f"Bearer {token}"


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def part(value):
    return base64url(json.dumps(value).encode())
