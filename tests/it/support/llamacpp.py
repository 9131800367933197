"""Serves a GGUF model with llama.cpp's own HTTP server, from the wheel `xllamacpp`.

    python llamacpp.py MODEL.gguf

Prints the base URL of its OpenAI-compatible API once it is ready, and ends when its
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
    server = xllamacpp.Server(params)
    print(server.listening_address + "/v1", flush=True)
    sys.stdin.read()
    # Its own way of ending waits for what a client keeps open, at times for ever.
    os._exit(0)


main()
