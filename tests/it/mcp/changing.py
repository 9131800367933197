"""An MCP server that ends during its first call, and lists another tool when it starts after that."""

import json
import os
import sys

name = "other" if os.path.exists("called") else "find"
schema = {"type": "object", "properties": {"text": {"type": "string"}}}

for line in sys.stdin:
    message = json.loads(line)
    method, result = message.get("method"), None
    if method == "initialize":
        info = {"name": "changing", "version": "1"}
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": info}
    elif method == "tools/list":
        result = {"tools": [{"name": name, "inputSchema": schema}]}
    elif method == "tools/call":
        open("called", "w").close()
        sys.exit(0)
    if "id" not in message:
        continue
    answer = {"jsonrpc": "2.0", "id": message["id"]}
    if result is None:
        answer["error"] = {"code": -32601, "message": "unknown method"}
    else:
        answer["result"] = result
    print(json.dumps(answer), flush=True)
