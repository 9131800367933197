"""The client that a conformance suite of the protocol tests: `orch tools` with a server at an address.

    python3 conformance.py URL

Lists the tools of the server and calls each of them, or makes the calls that the scenario asks for. Only the suite
decides whether the client is right. The variable ORCH names the program.
"""

import json
import os
import subprocess
import sys
import tempfile

#: The tool whose argument is the definition of the other tool.
SCHEMA_ECHO = "json_schema_echo"


def run(folder, *arguments, may_fail=False):
    environment = {**os.environ, "XDG_CONFIG_HOME": os.path.join(folder, "config")}
    command = [os.environ["ORCH"], *arguments]
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    # An error that a tool returns (1) is a result.
    if ran.returncode not in ((0, 1) if may_fail else (0,)):
        sys.exit(f"{arguments} ended with {ran.returncode}:\n{ran.stdout}\n{ran.stderr}")
    return ran.stdout


def example(schema):
    """A value that fits the schema of an argument."""
    if "default" in schema:
        return schema["default"]
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) else kind
    return {"number": 5, "integer": 3, "boolean": True, "array": [], "object": {}}.get(kind, "text")


def arguments_for(tool, tools):
    if tool["name"].endswith("." + SCHEMA_ECHO):
        others = [other for other in tools if other is not tool]
        return {"schema": others[0]["arguments"]}
    schema = tool["arguments"]
    properties = schema.get("properties", {})
    return {name: example(properties.get(name, {})) for name in schema.get("required", properties)}


def main():
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "orch.yaml"), "w") as file:
            json.dump({"mcp": {"peer": {"url": sys.argv[-1], "access": "read"}}}, file)
        run(folder, "trust")
        tools = json.loads(run(folder, "tools", "list", "--server", "peer", "--output", "json"))["tools"]
        context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
        calls = [("peer." + call["name"], call["arguments"]) for call in context.get("toolCalls", [])]
        # The other tool of this scenario only has a definition.
        chosen = [tool for tool in tools if tool["name"].endswith("." + SCHEMA_ECHO)] or tools
        for name, arguments in calls or [(tool["name"], arguments_for(tool, tools)) for tool in chosen]:
            options = ["--args", json.dumps(arguments), "--answer", "{}", "--output", "json"]
            run(folder, "tools", "call", name, *options, may_fail=True)


main()
