"""A server of the official Python SDK, which speaks both versions of the protocol.

    python peer.py stdio
    python peer.py PORT

With a port, it speaks HTTP on the loopback, until its standard input is closed.
"""

import os
import sys
import threading

import anyio
from mcp.server.mcpserver import Context, MCPServer
from mcp_types import ElicitRequest, ElicitRequestFormParams, InputRequiredResult
from pydantic import BaseModel

server = MCPServer("orch-peer", version="1.0", log_level="ERROR")


class Sum(BaseModel):
    sum: int
    exact: float


@server.tool()
def add(a: int, b: int) -> Sum:
    """Adds two numbers."""
    return Sum(sum=a + b, exact=a + b + 0.5)


@server.tool()
async def wait_for_file(path: str, ctx: Context) -> str:
    """Reports its progress until a file exists."""
    number = 0
    while not os.path.exists(path):
        number += 1
        await ctx.report_progress(number - 0.5, 1000, "waiting")
        await anyio.sleep(0.05)
    return "the file exists"


@server.tool()
def environment() -> str:
    """Lists the names of the environment variables."""
    return " ".join(sorted(os.environ))


@server.tool()
def fail() -> str:
    """Fails."""
    raise ValueError("this tool always fails")


@server.tool()
def order(ctx: Context) -> str | InputRequiredResult:
    """Asks for a size before it orders."""
    if not ctx.input_responses:
        size = {"type": "string", "enum": ["S", "L"]}
        schema = {"type": "object", "properties": {"size": size}, "required": ["size"]}
        question = ElicitRequest(params=ElicitRequestFormParams(message="Which size?", requested_schema=schema))
        return InputRequiredResult(input_requests={"size": question}, request_state="order 7")
    answer = ctx.input_responses["size"]
    if answer.action != "accept":
        return f"not ordered: {answer.action} ({ctx.request_state})"
    return f"ordered {answer.content['size']} ({ctx.request_state})"


def end_with_input() -> None:
    sys.stdin.read()
    # A regular exit waits for open connections.
    os._exit(0)


if sys.argv[1] == "stdio":
    server.run("stdio")
else:
    threading.Thread(target=end_with_input, daemon=True).start()
    server.run("streamable-http", port=int(sys.argv[1]))
