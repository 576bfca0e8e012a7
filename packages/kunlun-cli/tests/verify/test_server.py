# SPDX-License-Identifier: Apache-2.0
"""A server of ``verify --http`` that cannot start, and one that answers; it is gone in the end."""

from __future__ import annotations

import subprocess
import sys

import pytest

from vllm_kunlun.cli.verify import server
from vllm_kunlun.platforms.errors import KunlunError

ANSWERS = """
import http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = 400 if asked["prompt"] == [9] else 200
        self.send_response(status); self.end_headers()
        tokens = asked["prompt"] + [asked["max_tokens"]]
        self.wfile.write(json.dumps({"choices": [{"token_ids": tokens}]}).encode())
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def started(monkeypatch, tmp_path):
    """Processes that were started in place of vLLM's server, which runs ``program``."""
    processes, program = [], {"text": ANSWERS}
    start = subprocess.Popen

    def instead(command, **options):
        port = command[command.index("--port") + 1]
        processes.append(start([sys.executable, "-c", program["text"], port], **options))
        processes[-1].asked = command
        return processes[-1]

    monkeypatch.setattr(server.subprocess, "Popen", instead)
    monkeypatch.setattr(server.platformdirs, "user_log_path", lambda *_, **__: tmp_path)
    return processes, program


def ask(folder, prompts):
    return server.ask_server(folder, prompts, 4, "float32", trust_remote_code=True)


def test_each_prompt_is_asked_and_the_server_ended(started, tmp_path):
    (processes, _) = started
    assert ask(tmp_path, [[1], [2, 3]]) == [[1, 4], [2, 3, 4]]
    (process,) = processes
    assert process.poll() is not None, "it still runs"
    assert process.asked[3:5] == ["serve", str(tmp_path)]
    assert "--trust-remote-code" in process.asked
    assert process.asked[process.asked.index("--max-model-len") + 1] == "6"


def test_a_request_that_is_refused_is_an_error_and_the_server_ended(started, tmp_path):
    processes, _ = started
    with pytest.raises(KunlunError, match=r"status 400.*verify-serve.log"):
        ask(tmp_path, [[9]])
    assert processes[0].poll() is not None


def test_a_server_that_does_not_start_names_its_log(started, tmp_path):
    _, program = started
    program["text"] = "import sys; sys.exit('why')"
    with pytest.raises(KunlunError, match=r"exit code 1.*verify-serve.log"):
        ask(tmp_path, [[1]])
    assert "why" in (tmp_path / "verify-serve.log").read_text()
