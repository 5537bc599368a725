"""Asks the fork server for a Ray worker, where Ray would start an interpreter.

Ray runs it as `python -I -S fork_client.py SOCKET SCRIPT ARGUMENT...`. It loads next to nothing, and where the server
does not answer it becomes that interpreter.
"""

import json
import os
import socket
import sys


def main() -> None:
    """Has a worker forked, and ends; or is the worker."""
    address, *argv = sys.argv[1:]
    if not _forked(address, argv):
        os.execv(sys.executable, [sys.executable, *argv])  # noqa: S606 - what Ray asked for


def _forked(address: str, argv: list[str]) -> bool:
    """Whether the server has forked. It is handed what a process inherits from the one that starts it."""
    with open("/proc/self/oom_score_adj") as file:  # noqa: PTH123 - pathlib would be half of the time this takes
        oom_score_adj = file.read()
    inherited = {
        "argv": argv,
        "environ": dict(os.environ),
        "cwd": os.getcwd(),  # noqa: PTH109
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        "oom_score_adj": oom_score_adj,
    }
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.connect(address)
            socket.send_fds(server, [b"."], [0, 1, 2])
            server.sendall(json.dumps(inherited).encode())
            server.shutdown(socket.SHUT_WR)
            return server.recv(1) != b""
    except OSError:
        return False


main()
