"""A model server for examples: OpenAI-compatible, on the loopback, with scripted replies.

It prints its port on one line and serves until it is ended. The reply is picked by the name of
the JSON Schema in the request or, when none is sent, by the first words of the system prompt.
With --fail-code every request of the coder is refused with HTTP 400.
"""

import argparse
import http.server
import json

PLAN = {
    "summary": "Add a User class that stores a salted password hash and checks a password against it.",
    "files": [{"path": "user.py", "purpose": "the User class and its checks"}],
    "steps": [
        {
            "title": "Write the User class",
            "detail": "A dataclass User(email, salt, password_hash) with User.create(email, password) and check(password).",
            "files": ["user.py"],
            "acceptance": ["check() is true for the right password and false for any other"],
        }
    ],
    "risks": ["The number of hash rounds is fixed: raise it as machines get faster."],
}

SOURCE = '''import hashlib
import hmac
import secrets
from dataclasses import dataclass

ROUNDS = 600_000


def _hash(password: str, salt: bytes) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ROUNDS)


@dataclass(frozen=True)
class User:
    email: str
    salt: bytes
    password_hash: bytes

    @classmethod
    def create(cls, email: str, password: str) -> "User":
        if "@" not in email or len(password) < 12:
            raise ValueError("an e-mail address and a password of 12 characters are needed")
        salt = secrets.token_bytes(16)
        return cls(email, salt, _hash(password, salt))

    def check(self, password: str) -> bool:
        return hmac.compare_digest(self.password_hash, _hash(password, self.salt))
'''

CODE = {"files": [{"path": "user.py", "language": "python", "content": SOURCE}], "notes": []}

REVIEW = {
    "approved": True,
    "score": 8,
    "summary": "Passwords are salted, hashed and compared in constant time. It can be used as it is.",
    "issues": [
        {
            "severity": "minor",
            "file": "user.py",
            "line": 23,
            "message": "The e-mail address is checked only for an at sign.",
            "suggestion": "Check it with a parser where users are registered.",
        }
    ],
}

REVIEW_OF_PLAN = {
    "approved": False,
    "score": 4,
    "summary": "No code was written, so there is nothing to ship. The plan itself meets the task.",
    "issues": [],
}

# The name of the schema, and how the system prompt of the same step begins.
STEPS = {
    "plan": "You are a senior software engineer. You plan",
    "code": "You are a senior software engineer. You write",
    "review": "You are a careful code reviewer.",
}


def step_of(request):
    """The step that asks: `plan`, `code`, `review`, or None."""
    schema = (request.get("response_format") or {}).get("json_schema") or {}
    if schema.get("name") in STEPS:
        return schema["name"]
    system = next((m["content"] for m in request["messages"] if m["role"] == "system"), "")
    return next((name for name, words in STEPS.items() if system.startswith(words)), None)


def reply_to(step, request):
    """The value that a step answers with."""
    if step == "review":
        return REVIEW if "# code" in request["messages"][-1]["content"] else REVIEW_OF_PLAN
    return {"plan": PLAN, "code": CODE}[step]


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers `POST …/chat/completions` with an event stream."""

    protocol_version = "HTTP/1.1"
    fail_code = False

    def log_message(self, *args):
        """Says nothing: the terminal belongs to orch."""

    def do_POST(self):  # the name is given by http.server
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        step = step_of(request)
        if step is None:
            self.refuse("there is no reply for this request")
        elif step == "code" and self.fail_code:
            self.refuse("the coder is out of order")
        else:
            self.stream(json.dumps(reply_to(step, request), indent=2), request["model"])

    def refuse(self, words):
        error = {"message": words, "type": "invalid_request_error"}
        self.send(400, "application/json", json.dumps({"error": error}))

    def stream(self, text, model):
        events = []
        for at in range(0, len(text), 200):
            delta = {"index": 0, "delta": {"content": text[at : at + 200]}, "finish_reason": None}
            events.append({"id": "reply", "model": model, "choices": [delta]})
        events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        usage = {"prompt_tokens": 900, "completion_tokens": len(text) // 4}
        events.append({"choices": [], "usage": usage})
        lines = [f"data: {json.dumps(event)}\n\n" for event in events]
        self.send(200, "text/event-stream", "".join(lines) + "data: [DONE]\n\n")

    def send(self, status, kind, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fail-code", action="store_true", help="refuse every request of the coder")
    arguments = parser.parse_args()
    Handler.fail_code = arguments.fail_code
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
