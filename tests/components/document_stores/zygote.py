# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Processes for the tests, to be killed or to compete: a server that has imported everything and forks on demand.

Importing Haystack takes seconds, forking this server milliseconds. It never opens a store itself, so that its children
start without the engine's threads. It reads one JSON object a line: `code`, `arguments` (its `sys.argv[1:]`), `output` (a
file for what the children print), `count` (how many children) and `kill_after` (seconds, or null to let them end). It
answers with the list of exit codes, negative for a signal.
"""

import json
import os
import signal
import sys
import time
import traceback

from haystack import Document  # noqa: F401  imported for the children

from haystack_integrations.document_stores.resrank import QdrantEdgeDocumentStore  # noqa: F401


def child(task: dict) -> None:
    output = os.open(task["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = ["child", *task["arguments"]]
    code = 0
    try:
        exec(compile(task["code"], "child", "exec"), {"__name__": "__main__"})
    except Exception:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # an interpreter with all of Haystack takes seconds to clean up: code that wants it calls sys.exit


def serve() -> None:
    for line in sys.stdin:
        task = json.loads(line)
        children = []
        for _ in range(task["count"]):
            pid = os.fork()
            if pid == 0:
                child(task)
            children.append(pid)
        if task["kill_after"] is not None:
            time.sleep(task["kill_after"])
            for pid in children:
                os.kill(pid, signal.SIGKILL)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
        print(json.dumps(codes), flush=True)


if __name__ == "__main__":
    serve()
