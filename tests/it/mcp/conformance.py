"""The client that a conformance suite of the protocol tests: orch with a server at an address.

    python3 conformance.py URL

Lists the tools of the server and calls each of them with `orch tools`, or makes the calls that the scenario asks for. If
the scenario is about calls at the same time, a run makes them all. Only the suite decides whether the client is right.
The variable ORCH names the program.
"""

import json
import os
import subprocess
import sys
import tempfile

#: The tool whose argument is the definition of the other tool.
SCHEMA_ECHO = "json_schema_echo"
#: The tool that asks nothing, and whose calls may not get what belongs to the calls of other tools.
UNRELATED = "peer.test_mrtr_unrelated"


def run(folder, *arguments, codes=(0,)):
    environment = {**os.environ, "XDG_CONFIG_HOME": os.path.join(folder, "config")}
    command = [os.environ["ORCH"], *arguments]
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if ran.returncode not in codes:
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


def call_in_parallel(folder, calls):
    """Makes all calls at once in one run, and answers the questions of the server. While orch makes the calls again with
    the answers, it calls the tool that asks nothing once more."""
    steps = [{"id": f"call{number}", "call": name, "args": args} for number, (name, args) in enumerate(calls)]
    gate = {"id": "gate", "approve": "Go on?", "output": "gate"}
    again = {"id": "again", "call": UNRELATED, "args": {}}
    group = {"id": "all", "max_parallel": 8, "parallel": [*steps, {"id": "later", "steps": [gate, again]}]}
    os.mkdir(os.path.join(folder, "pipelines"))
    with open(os.path.join(folder, "pipelines", "calls.yaml"), "w") as file:
        json.dump({"name": "calls", "steps": [group]}, file)
    run(folder, "pipeline", "run", "pipelines/calls.yaml", codes=(3,))
    report = json.loads(run(folder, "runs", "show", "--output", "json"))
    for step in report["steps"]:
        if "question" in step:
            run(folder, "runs", "approve", report["run"], step["name"], "--note", "{}")
    run(folder, "pipeline", "resume", report["run"])


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
        calls = calls or [(tool["name"], arguments_for(tool, tools)) for tool in chosen]
        for name, arguments in calls:
            options = ["--args", json.dumps(arguments), "--answer", "{}", "--output", "json"]
            # An error that a tool returns (1) is a result.
            run(folder, "tools", "call", name, *options, codes=(0, 1))
        if any(name == UNRELATED for name, _ in calls):
            call_in_parallel(folder, calls)


main()
