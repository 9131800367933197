"""Serves a GGUF model with llama.cpp's own HTTP server, from the wheel `xllamacpp`.

    python llamacpp.py MODEL.gguf

When the server is ready, prints the base URL of its OpenAI-compatible API. Ends when the
standard input is closed.
"""

import os
import sys

import xllamacpp


def main() -> None:
    params = xllamacpp.CommonParams()
    params.model.path = sys.argv[1]
    params.port = 0
    params.n_ctx = 2048
    params.n_parallel = 1
    params.cpuparams.n_threads = 2
    params.warmup = False
    # Tools need the chat template of the file.
    params.use_jinja = True
    server = xllamacpp.Server(params)
    print(server.listening_address + "/v1", flush=True)
    sys.stdin.read()
    # A regular exit waits for open client connections, sometimes forever.
    os._exit(0)


main()
