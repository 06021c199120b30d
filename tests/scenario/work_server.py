"""A server of docs/runs-api.md's work half, in memory: what a worker meets in its worst dreams, on order.

It holds its clients to the page: an epoch that is not the task's is refused, a step's result is recorded once. `lose` names requests of which the
answer is thrown away after they were obeyed; `refuse` those that are answered with 503.
"""
import http.server
import json
import threading
import time


class WorkServer:
    def __init__(self):
        self.lock = threading.Condition()
        self.tasks = []          # ready ones
        self.held = {}           # task id: record
        self.claims = {}         # word: the claim's answer
        self.finished = []       # (task, body)
        self.checkpoints = []
        self.requests = []
        self.lose = {}           # "finish": how many answers are lost
        self.refuse = {}
        self.cancelled = set()
        self.beats = 0
        self.chats = []
        self.answers = []        # what the model says, in order: a text, a status and a body, or a list of texts and events (see chat)
        self.chat_hold = threading.Event()
        self.chat_hold.set()
        self.fenced = 0
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_GET(self):
                self.answer(404, {"error": {"message": "not here"}})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])) or b"{}")
                what = body.get("phase", self.path.rsplit("/", 1)[1]) if self.path.startswith("/api/work/") else self.path
                with server.lock:
                    server.requests.append((what, body, dict(self.headers)))
                    server.lock.notify_all()
                    if server.refuse.get(what, 0) > 0:
                        server.refuse[what] -= 1
                        return self.answer(503, {"error": {"message": "later", "code": "database_down"}})
                if self.path == "/v1/chat/completions":
                    return server.chat(self, body)
                status, answer = getattr(server, {"/api/checkpoints": "checkpoint"}.get(self.path, what))(body)
                with server.lock:
                    if server.lose.get(what, 0) > 0:
                        server.lose[what] -= 1
                        self.close_connection = True
                        return self.connection.close()
                self.answer(status, answer)

            def answer(self, status, body):
                data = b"" if body is None else json.dumps(body).encode()
                try:
                    self.send_response(status)
                    self.send_header("content-length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:
                    pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.port = self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def stop(self):
        self.http.shutdown()
        self.http.server_close()

    def add(self, spec, plan=None, inputs=None, last_error=None, kind=None, **more):
        with self.lock:
            self.tasks.append({"run": "r-test", "task": spec["id"], "epoch": 0, "attempt": 1, "kind": kind or ("llm" if "prompt" in spec else "command"),
                               "spec": spec, "plan": plan or {"goal": "a goal", "model": "main"}, "inputs": inputs or {}, "last_error": last_error,
                               "steps": {}, **more})
            self.lock.notify_all()

    def until(self, test, seconds=30):
        with self.lock:
            end = time.monotonic() + seconds
            while not (seen := test()):
                assert time.monotonic() < end, f"never came; requests: {[r[0] for r in self.requests]}; finished: {self.finished}"
                self.lock.wait(0.2)
            return seen

    def lost(self, task):
        """The claim is ended, as by a sweep: the next worker gets the task with a higher epoch."""
        with self.lock:
            record = self.held.pop(task)
            self.tasks.append(record)
            self.lock.notify_all()

    # ---- the API

    def claim(self, body):
        end = time.monotonic() + body.get("wait_ms", 0) / 1000
        with self.lock:
            if body["claim"] in self.claims:
                return 200, self.claims[body["claim"]]
            while True:
                fit = [t for t in self.tasks if t["kind"] in body.get("kinds", [t["kind"]])]
                if fit:
                    break
                left = end - time.monotonic()
                if left <= 0:
                    return 204, None
                self.lock.wait(left)
            record = fit[0]
            self.tasks.remove(record)
            record["epoch"] += 1
            self.held[record["task"]] = record
            answer = {k: v for k, v in record.items() if k != "steps"}
            self.claims[body["claim"]] = json.loads(json.dumps(answer))
            return 200, answer

    def mine(self, body):
        record = self.held.get(body["task"])
        if not record or record["epoch"] != body["epoch"]:
            self.fenced += 1
            return None
        return record

    def beat(self, body):
        with self.lock:
            self.beats += 1
            if not self.mine(body):
                return 409, {"error": {"code": "fenced", "message": "another has it"}}
            return 200, {"cancel": body["task"] in self.cancelled, "pause": False}

    def begin(self, body):
        with self.lock:
            record = self.mine(body)
            if not record:
                return 409, {"error": {"code": "fenced", "message": "another has it"}}
            step = record["steps"].setdefault(body["step"], {"epoch": body["epoch"], "kind": body["kind"], "key": body.get("key")})
            if "result" in step:
                return 200, {"found": "done", "result": step["result"]}
            if step["epoch"] != body["epoch"]:
                step["epoch"] = body["epoch"]
                if body["kind"] != "pure":
                    return 200, {"found": "ambiguous", **({"key": step["key"]} if step["key"] else {})}
            return 200, {"found": "new"}

    def end(self, body):
        with self.lock:
            record = self.mine(body)
            if not record:
                return 409, {"error": {"code": "fenced", "message": "another has it"}}
            record["steps"][body["step"]].setdefault("result", body["result"])
            return 200, {}

    def finish(self, body):
        with self.lock:
            done = [b for t, b in self.finished if t == body["task"] and b["epoch"] == body["epoch"]]
            if done:
                return 200, {"state": done[0]["outcome"]}
            record = self.mine(body)
            if not record:
                return 409, {"error": {"code": "fenced", "message": "another has it"}}
            del self.held[body["task"]]
            self.finished.append((body["task"], body))
            if body["outcome"] == "released":
                self.tasks.append(record)
            self.lock.notify_all()
            return 200, {"state": "ready" if body["outcome"] == "released" else "done"}

    def chat(self, handler, body):
        """A stream. In a list a text is told, an Event waited for, an object an event, None cuts the connection, and 0 ends it in good order."""
        assert body["stream"] is True and body["stream_options"] == {"include_usage": True}, body
        with self.lock:
            self.chats.append(body)
            said = self.answers.pop(0) if self.answers else "an answer"
            self.lock.notify_all()
        self.chat_hold.wait(60)
        if isinstance(said, tuple):
            return handler.answer(*said)
        pieces = said if isinstance(said, list) else [said[i:i + 5] for i in range(0, len(said), 5)]
        handler.close_connection = True
        try:
            handler.send_response(200)
            handler.send_header("content-type", "text/event-stream")
            handler.send_header("transfer-encoding", "chunked")
            handler.end_headers()
            for piece in pieces:
                if piece is None:
                    return handler.connection.close()
                if piece == 0:
                    return handler.wfile.write(b"0\r\n\r\n")
                if isinstance(piece, threading.Event):
                    piece.wait(60)
                else:
                    self.tell(handler, piece if isinstance(piece, dict) else {"choices": [{"index": 0, "delta": {"content": piece}}]})
            self.tell(handler, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
            self.tell(handler, {"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 3}})
            handler.wfile.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        except OSError:
            pass

    def tell(self, handler, event):
        data = f"data: {json.dumps(event)}\n\n".encode()
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def checkpoint(self, body):
        self.checkpoints.append(body)
        return 201, {"checkpoint_id": "c-1"}
