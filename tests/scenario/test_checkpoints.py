"""Checkpoints of the program itself: what was acknowledged is there after kill -9, from either side, by API and by command."""
import contextlib
import glob
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import threading

from test_upgrade import Chain, begun, held
from perdure_test import PERDURE, Gateway, config, main, request, running


@contextlib.contextmanager
def alone(folder, extra=None, env=None):
    gateway = Gateway(config({"x": {"preset": "openai-compatible", "base_url": "http://127.0.0.1:1/v1", "models": ["m"]}},
                             extra={"state": f"{folder}/state", **(extra or {})}), env=env)
    try:
        gateway.until("the database is open", lambda: gateway.metric("perdure_database_open") == 1)
        yield gateway
    finally:
        gateway.stop()


def post(gateway, **what):
    a = request(gateway.port, "POST", "/api/checkpoints", json.dumps(what))
    assert a.status == 201, (a.status, a.body)
    return a.json["checkpoint_id"]


def get(gateway, path, status=200):
    a = gateway.get("/api/checkpoints" + path)
    assert a.status == status, (a.status, a.body)
    return a.json


def test_what_was_acknowledged_is_there_after_kill_9():
    with tempfile.TemporaryDirectory() as folder:
        acknowledged, stop = [], threading.Event()
        with alone(folder) as gateway:
            def work():
                with contextlib.suppress(Exception):
                    while not stop.is_set():
                        n = len(acknowledged)
                        acknowledged.append((post(gateway, agent_id="a", step_index=n, state={"n": n}), n))
            t = threading.Thread(target=work)
            t.start()
            gateway.until("some are made", lambda: len(acknowledged) > 50)
            gateway.program.process.kill()
            gateway.program.process.wait()
            stop.set()
            t.join()
        with alone(folder) as gateway:
            for id, n in acknowledged:
                assert get(gateway, "/" + id)["checkpoint"]["state"] == {"n": n}
            newest = get(gateway, "/latest?agent=a")["checkpoint"]["state"]["n"]
            assert newest >= acknowledged[-1][1], (newest, acknowledged[-1])
            listed = get(gateway, "?agent=a&limit=3")["checkpoints"]
            assert len(listed) == 3 and listed[0]["step_index"] == newest, listed
            assert gateway.metric("checkpoint_last_timestamp") > 1.7e9


def test_a_checkpoint_says_what_is_wrong_with_it():
    with tempfile.TemporaryDirectory() as folder, alone(folder) as gateway:
        for body, says in (("[]", "JSON object"), ('{"agent_id": 1}', "texts"), ('{"stat": 1}', "not known"), ('{"state": }', "no JSON"),
                           ('{"agent_id": "a/b"}', "agent_id"), ('{"step_index": -1}', "step_index"), ('{"state": [1,]}', "state"),
                           ('{"messages": {}}', "messages")):
            a = request(gateway.port, "POST", "/api/checkpoints", body)
            assert a.status == 400 and says in a.json["error"]["message"], (body, a.status, a.body)
        get(gateway, "/nothing_1_2", 404)
        get(gateway, "/latest?agent=nobody", 404)
        assert get(gateway, "")["checkpoints"] == []


def test_resume_and_risky_operations():
    with tempfile.TemporaryDirectory() as folder, alone(folder, env={"AGENT_ID": "night-agent"}) as gateway:
        post(gateway, task="build", state={"next": "link"}, reason="before_risky", open_files=[{"path": "a.c", "cursor": 3}])
        text = gateway.get("/api/checkpoints/latest/resume").body.decode()
        for says in ("Agent: night-agent", "Task: build", "a.c, cursor at 3", '{"next": "link"}', "risky operation"):
            assert says in text, (says, text)
        post(gateway, task="build", reason="after_risky")
        assert "risky operation" not in gateway.get("/api/checkpoints/latest/resume").body.decode()


def test_without_a_database_calls_are_served_and_it_is_said():
    with running("alpha:0", extra={"database": "/proc/nowhere/x.db"}) as (sim, gateway):
        assert gateway.chat().status == 200
        a = gateway.get("/api/checkpoints")
        assert a.status == 503 and a.json["error"]["code"] == "database_not_open", a.body
        assert gateway.metric("perdure_database_open") == 0
        gateway.until("it is said", lambda: "database.not_open" in gateway.program.stderr())


def command(*args, gateway=None, env=None):
    where = ["--url", f"http://127.0.0.1:{gateway.port}"] if gateway else []
    done = subprocess.run([PERDURE, "checkpoints", *args, *where], env=env or {}, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def test_the_command_asks_a_running_perdure():
    with tempfile.TemporaryDirectory() as folder, alone(folder) as gateway:
        status, out, err = command("create", "--agent", "a", "--milestone", "first", "--state", '{"x": 1}', gateway=gateway)
        assert status == 0, err
        one = out.strip()
        status, out, err = command("create", "--agent", "a", "--state", '{"x": 2}', "--task", "t", gateway=gateway)
        two = out.strip()
        status, out, err = command("list", gateway=gateway)
        assert status == 0 and one in out and two in out and "first" in out, (out, err)
        status, out, err = command("show", one, gateway=gateway)
        assert status == 0 and json.loads(out)["state"] == {"x": 1}, (out, err)
        status, out, err = command("restore", "--agent", "a", gateway=gateway)
        assert status == 0 and json.loads(out) == {"x": 2}, (out, err)
        status, out, err = command("diff", one, two, gateway=gateway)
        assert status == 0 and "~ state.x: 1 -> 2" in out, (out, err)
        status, out, err = command("resume", "--agent", "a", gateway=gateway)
        assert status == 0 and "Task: t" in out, (out, err)
        status, out, err = command("prune", "--dry", gateway=gateway)
        assert status == 0 and out.startswith("0 checkpoints"), (out, err)
        assert command("show", "a_1_2", gateway=gateway)[0] == 1
        assert command("nonsense", gateway=gateway)[0] == 2


def test_after_a_disaster_the_command_needs_no_running_perdure():
    with tempfile.TemporaryDirectory() as folder:
        with alone(folder) as gateway:
            for n in range(3):
                post(gateway, agent_id="a", state={"n": n})
            gateway.until("it is caught up", lambda: gateway.metric("perdure_checkpoint_uploads_total", result="done") == 3)
            gateway.program.process.kill()
            gateway.program.process.wait()
        state = f"{folder}/state"
        from_both = command("restore", "--agent", "a", "--database", f"{state}/perdure.db", "--snapshots", f"{state}/snapshots")
        assert from_both[0] == 0 and json.loads(from_both[1]) == {"n": 2}, from_both
        for f in glob.glob(f"{state}/perdure.db*"):
            os.unlink(f)
        lost_database = command("restore", "--agent", "a", "--snapshots", f"{state}/snapshots")
        assert lost_database[0] == 0 and json.loads(lost_database[1]) == {"n": 2}, lost_database
        assert "object store" in lost_database[2], lost_database
        # the service itself, with a new database, too
        with alone(folder) as gateway:
            assert get(gateway, "/latest?agent=a")["checkpoint"]["state"] == {"n": 2}
            post(gateway, agent_id="a", state={"n": 3})
            gateway.until("it is caught up", lambda: gateway.metric("perdure_checkpoint_uploads_total", result="done") == 1)
            gateway.program.process.kill()
            gateway.program.process.wait()
        shutil.rmtree(f"{state}/snapshots")
        lost_bucket = command("restore", "--agent", "a", "--database", f"{state}/perdure.db")
        assert lost_bucket[0] == 0 and json.loads(lost_bucket[1]) == {"n": 3}, lost_bucket


SESSION = {"x-perdure-session": "night run"}


def turns_of(gateway):
    return [c for c in get(gateway, "")["checkpoints"] if c["reason"] == "turn"]


def made(gateway, n):
    gateway.until(f"{n} turns are made", lambda: gateway.metric("perdure_session_turns_total", result="made") == n)


def test_each_turn_of_a_session_is_a_checkpoint():
    with running("alpha:0,tokens=20") as (sim, gateway):
        messages, answers = [], []
        for n in range(6):
            messages.append({"role": "user", "content": f"question {n}"})
            if n % 2:
                s = gateway.stream(messages=messages, headers=SESSION).rest()
                assert s.done
                text = s.text
            else:
                text = gateway.chat(messages=messages, headers=SESSION).json["choices"][0]["message"]["content"]
            answers.append(text)
            messages.append({"role": "assistant", "content": text})
            made(gateway, n + 1)
        turns = turns_of(gateway)
        assert len(turns) == 6 and len({t["agent_id"] for t in turns}) == 1, turns
        assert turns[0]["agent_id"].startswith("session:s-") and turns[0]["task"] == "night run", turns[0]
        for n, t in enumerate(reversed(turns)):
            c = get(gateway, "/" + t["checkpoint_id"])["checkpoint"]
            assert c["messages"] == messages[:2 * n + 1], (n, c)
            assert c["request"]["messages"] == [] and c["request"]["model"] == "main", c["request"]
            assert c["answer"]["choices"][0]["message"]["content"] == answers[n], (n, c["answer"])
            assert c["provider"] == "alpha" and c["token_usage"]["output"] > 0, c
        text = gateway.get("/api/checkpoints/latest/resume?agent=" + turns[0]["agent_id"]).body.decode()
        assert "The conversation has 11 messages" in text and "question 5" in text, text


def test_a_turn_in_another_format_is_kept_as_its_client_sent_it():
    with running("alpha:0,tokens=20") as (sim, gateway):
        body = {"model": "main", "max_tokens": 50, "system": "be brief", "stream": True,
                "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]}
        a = request(gateway.port, "POST", "/v1/messages", body, SESSION)
        assert a.status == 200 and b"message_stop" in a.body, a.body
        made(gateway, 1)
        c = get(gateway, "/" + turns_of(gateway)[0]["checkpoint_id"])["checkpoint"]
        assert c["messages"] == body["messages"] and c["request"]["system"] == "be brief", c
        assert c["conversation"]["format"] == "anthropic-messages" and c["answer"]["content"][0]["type"] == "text", c


def test_single_questions_and_broken_answers_are_no_turns_and_they_can_be_switched_off():
    with running("alpha:0", resilience={"attempts": 1, "hold": 0, "continuations": 0}) as (sim, gateway):
        assert gateway.chat().status == 200
        sim.faults("alpha", {"fault": "status", "status": 400})
        assert gateway.chat(headers=SESSION).status == 400
        sim.faults("alpha", {"fault": "cut", "after": 2})
        assert not gateway.stream(headers=SESSION).rest().done
        assert gateway.chat(headers=SESSION).status == 200
        made(gateway, 1)
        assert len(turns_of(gateway)) == 1
    with running("alpha:0", extra={"session_checkpoints": False}) as (sim, gateway):
        assert gateway.chat(headers=SESSION).status == 200
        post(gateway, agent_id="a")
        assert [c["agent_id"] for c in get(gateway, "")["checkpoints"]] == ["a"]


def test_an_upgrade_loses_no_acknowledged_checkpoint_and_the_successor_has_the_database():
    for workers in (1, 3):
        with Chain(extra={"workers": workers}) as chain:
            acknowledged, refused, stop = [], set(), threading.Event()
            chain.until("the database is open", lambda: chain.gateway.metric("perdure_database_open") == 1)

            def work():
                while not stop.is_set():
                    n = len(acknowledged)
                    a = request(chain.port, "POST", "/api/checkpoints", {"agent_id": "a", "state": {"n": n}})
                    if a.status == 201:
                        acknowledged.append((a.json["checkpoint_id"], n))
                    else:
                        refused.add((a.status, a.json["error"]["code"]))
            t = threading.Thread(target=work)
            t.start()
            for _ in range(2):
                seen = len(acknowledged)
                chain.until("some are made", lambda: len(acknowledged) > seen + 20)
                chain.upgrade()
            seen = len(acknowledged)
            chain.until("the last one makes some", lambda: len(acknowledged) > seen + 20)
            stop.set()
            t.join()
            assert chain.logged("database.handed_over") == 2, chain.gateway.log()[-3000:]
            assert refused <= {(503, "database_not_open")}, refused
            for id, n in acknowledged:
                assert get(chain.gateway, "/" + id)["checkpoint"]["state"] == {"n": n}


def test_a_turn_that_ends_after_an_upgrade_is_the_successors_to_store():
    with Chain() as chain:
        chain.until("the database is open", lambda: chain.gateway.metric("perdure_database_open") == 1)
        for n in (1, 2):        # the second successor knows of the old process as the first does
            messages = [{"role": "user", "content": f"question {n}"}]
            held(chain.sim)
            s = begun(chain.gateway.stream(messages=messages, headers=SESSION))
            chain.sim.wait("alpha", held=1)
            old = chain.pid
            chain.upgrade()
            chain.until("it has let go", lambda: chain.logged("database.handed_over") == n)
            chain.sim.release("alpha")
            assert s.rest().done
            chain.gone(old)
            chain.until("the turn is stored", lambda: chain.gateway.metric("perdure_database_open") == 1 and len(turns_of(chain.gateway)) == n)
            c = get(chain.gateway, "/" + turns_of(chain.gateway)[0]["checkpoint_id"])["checkpoint"]
            assert c["messages"] == messages and c["answer"]["choices"][0]["message"]["content"] == s.text, c
            assert c["task"] == "night run" and c["provider"] == "alpha" and c["request"]["messages"] == [], c
            chain.until("nothing is left", lambda: not list(chain.gateway.path.parent.rglob("*.turn")))


LIB = pathlib.Path(__file__).resolve().parent.parent / "lib"


@contextlib.contextmanager
def server(name):
    """A server of tests/lib: its process, and its first line. None where it cannot be had."""
    process = subprocess.Popen([LIB / name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline().strip()
        yield (process, line) if line else None
    finally:
        process.stdin.close()
        process.wait()


def tell(process, word, answer):
    process.stdin.write(word + "\n")
    process.stdin.flush()
    assert process.stdout.readline().strip() == answer


def test_two_replicas_share_a_database_and_a_bucket_and_outlive_both():
    with server("postgres_server") as pg, server("s3_server") as s3, tempfile.TemporaryDirectory() as folder:
        if not pg or not s3:
            print("    no PostgreSQL or no S3 server here: not tried")
            return
        url, access, secret, bucket = s3[1].split()
        env = {"DATABASE_URL": pg[1], "CHECKPOINT_BUCKET": bucket, "MINIO_ENDPOINT": url, "MINIO_ACCESS_KEY": access, "MINIO_SECRET_KEY": secret}
        with alone(f"{folder}/1", env=env) as one, alone(f"{folder}/2", env=env) as two:
            for n in range(5):
                post(one if n % 2 else two, agent_id="a", state={"n": n})
                assert get(two if n % 2 else one, "/latest?agent=a")["checkpoint"]["state"] == {"n": n}
            done = lambda: sum(g.metric("perdure_checkpoint_uploads_total", result="done") for g in (one, two))
            one.until("the bucket has them", lambda: done() == 5)
            tell(pg[0], "kill", "killed")
            tell(pg[0], "start", "started")
            two.until("it is made again", lambda: request(two.port, "POST", "/api/checkpoints", {"agent_id": "a", "state": {"n": 5}}).status == 201)
            assert get(one, "/latest?agent=a")["checkpoint"]["state"] == {"n": 5}
            one.until("the bucket has it, too", lambda: done() >= 6)
        alone_restored = command("restore", "--agent", "a", "--snapshots", f"s3://{bucket}", env=env)
        assert alone_restored[0] == 0 and json.loads(alone_restored[1]) == {"n": 5}, alone_restored


if __name__ == "__main__":
    main(globals())
