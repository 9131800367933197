"""An agent of the Agent Client Protocol that does what its first argument says; for tests."""
import json
import os
import signal
import sys
import time

mode = sys.argv[1]


def send(value):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **value}) + "\n")
    sys.stdout.flush()


def say(session, text):
    update = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}
    send({"method": "session/update", "params": {"sessionId": session, "update": update}})


def prompt(message):
    session, words = message["params"]["sessionId"], message["params"]["prompt"][0]["text"]
    with open("said", "a") as said:
        said.write(f"[{session}] {words}\n")
    if mode == "exit":
        print("out of luck", file=sys.stderr)
        sys.exit(1)
    if mode == "killed":
        say(session, "half an ans")
        os.kill(os.getpid(), 9)
    if mode == "flood":
        sys.stdout.write("x" * (50 << 20))
        sys.stdout.flush()
    if mode == "garbage":
        sys.stdout.write("no JSON at all\n\x00\n")
        say(session, "nor here")
    if mode == "hang":
        open("hangs", "w").write(str(os.getpid()))
        return
    if mode == "reask":
        say(session, '{"n": 9}' if "does not fit" in words else '{"n": "nine"}')
    stop = {"refuse": "refusal", "cut": "max_tokens", "turns": "max_turn_requests", "aborts": "aborted"}.get(mode, "end_turn")
    if mode in ("aborts", "stays", "counts"):
        say(session, '{"n": 5}')
    for amount in (0.25, 1e30) if mode == "counts" else ():
        update = {"sessionUpdate": "usage_update", "used": 1, "size": 2, "cost": {"amount": amount, "currency": "USD"}}
        send({"method": "session/update", "params": {"sessionId": session, "update": update}})
    if mode == "broke":
        send({"id": message["id"], "error": {"code": -32603, "message": "Internal error", "data": "Credit balance is too low"}})
        return
    usage = {"inputTokens": 10**18 if mode == "counts" else 70, "outputTokens": 8, "totalTokens": 78}
    counted = {"usage": usage} if mode in ("aborts", "stays", "counts") else {}
    send({"id": message["id"], "result": {"stopReason": stop, **counted}})
    if mode == "stays":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(60)


for line in sys.stdin:
    message = json.loads(line)
    method = message.get("method")
    if method == "initialize":
        capabilities = {"loadSession": mode == "reask"}
        send({"id": message["id"], "result": {"protocolVersion": 1, "agentCapabilities": capabilities}})
    elif method == "session/new":
        if mode == "login":
            send({"id": message["id"], "error": {"code": -32000, "message": "Authentication required"}})
        else:
            send({"id": message["id"], "result": {"sessionId": "s1"}})
    elif method == "session/load":
        say("s1", '{"n": "an old answer, told again"}')
        send({"id": message["id"], "result": {}})
    elif method == "session/cancel":
        open("cancelled", "w").write("yes")
    elif method == "session/prompt":
        prompt(message)
