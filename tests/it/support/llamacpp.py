"""Serves a GGUF model with llama.cpp's own HTTP server, from the wheel `xllamacpp`.

Usage: python llamacpp.py MODEL.gguf [PORT]

Prints the base URL once the server answers, and ends when standard input closes.
Port 0, the default, takes a free one.
"""

import sys

import xllamacpp


def settings(model, port):
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.hostname = "127.0.0.1"
    params.port = port
    params.n_ctx = 2048
    params.n_parallel = 1
    params.cpuparams.n_threads = 2
    params.warmup = False
    return params


def main():
    model = sys.argv[1]
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    server = xllamacpp.Server(settings(model, port))
    print(server.listening_address + "/v1", flush=True)
    sys.stdin.read()
    del server


if __name__ == "__main__":
    main()
