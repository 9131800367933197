"""An MCP server on standard input and output whose tool appends a line to `made.txt` in its folder.

It does not answer a call while the folder has the file `hang`.
"""

import json
import os
import sys

SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


def call(params):
    with open("made.txt", "a") as file:
        file.write(params["arguments"]["text"] + "\n")
    if os.path.exists("hang"):
        return None
    return {"content": [{"type": "text", "text": "written"}]}


def answer(message):
    match message.get("method"):
        case "initialize":
            return {
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "writer", "version": "1"},
            }
        case "tools/list":
            return {"tools": [{"name": "append", "description": "Appends a line.", "inputSchema": SCHEMA}]}
        case "tools/call":
            return call(message["params"])
        case _:
            raise LookupError


for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    reply = {"jsonrpc": "2.0", "id": message["id"]}
    try:
        reply["result"] = answer(message)
    except LookupError:
        reply["error"] = {"code": -32601, "message": "unknown method"}
    if "error" in reply or reply["result"] is not None:
        print(json.dumps(reply), flush=True)
