"""Workers that take their tasks from PostgreSQL itself, and a server that hangs: nobody does what another may be doing."""
import pathlib
import tempfile
import time

from test_checkpoints import server, tell
from test_run import until
from perdure_test import Program, main, request

LEASE = 3.0
# Each beat of its heart is a line: who, and when. It has no end of its own.
PULSE = "[ -e enough ] && exit 0; while :; do echo $PPID $(date +%s.%N) >> pulse; sleep 0.02; done"


def pulses(where):
    found = {}
    for line in (where / "pulse").read_text().splitlines() if (where / "pulse").exists() else []:
        words = line.split()
        if len(words) == 2:
            found.setdefault(words[0], []).append(float(words[1]))
    return found


def test_a_worker_stops_before_its_lease_is_over_when_the_database_hangs_and_works_on_when_it_wakes():
    with server("postgres_server") as pg, tempfile.TemporaryDirectory() as name:
        if not pg:
            print("    no PostgreSQL here: not tried")
            return
        where = pathlib.Path(name)
        (where / "perdure.yaml").write_text('{"listen": "127.0.0.1:0", "state": "state"}')
        env = {"DATABASE_URL": pg[1]}
        serve = Program(["serve", "--without-providers"], env=env, cwd=where)
        workers = []
        try:
            port = int(serve.line(r"listens on http://.*:(\d+)/v1").group(1))
            until("the database", lambda: request(port, "GET", "/api/runs").status == 200)
            plan = {"goal": "x", "tasks": [{"id": "t", "command": PULSE, "checks": "none"}]}
            run = request(port, "POST", "/api/runs", plan).json["id"]
            for n in (1, 2):
                workers.append(Program(["worker", "--database", pg[1], "--url", f"127.0.0.1:{port}", "--lease", f"{LEASE:g}s", "--name", f"w{n}"], cwd=where))
            until("it works", lambda: sum(map(len, pulses(where).values())) > 20)
            for _ in range(2):
                first = max(pulses(where), key=lambda who: pulses(where)[who][-1])
                tell(pg[0], "hang", "hangs")
                hung = time.time()
                until("the server is away for longer than a lease", lambda: time.time() > hung + LEASE + 1)
                last = pulses(where)[first][-1]
                assert hung < last < hung + LEASE, f"it went on for {last - hung:.1f} s"
                tell(pg[0], "wake", "awake")
                second = until("it is begun again", lambda: next((who for who, times in pulses(where).items() if times[0] > last), None))
                assert pulses(where)[second][0] > last and pulses(where)[first][-1] == last, "two at once"
            (where / "enough").touch()
            tasks = request(port, "GET", f"/api/runs/{run}/tasks/t").json
            events = [e for e in request(port, "GET", f"/api/runs/{run}/events").body.decode().splitlines() if '"lost"' in e]
            assert len(events) >= 2 and tasks["state"] == "running", (events, tasks)
        finally:
            for w in workers:
                w.kill()
            serve.kill()


def test_a_worker_straight_on_the_database_reads_the_interval_of_its_own_configuration():
    with server("postgres_server") as pg, tempfile.TemporaryDirectory() as name:
        if not pg:
            print("    no PostgreSQL here: not tried")
            return
        where = pathlib.Path(name)
        (where / "perdure.yaml").write_text('{"listen": "127.0.0.1:0", "state": "state"}')
        (where / "own").mkdir()
        (where / "own" / "perdure.yaml").write_text('{"state": "off", "checkpoint_interval": "1s"}')
        serve = Program(["serve", "--without-providers"], env={"DATABASE_URL": pg[1]}, cwd=where)
        worker = None
        try:
            port = int(serve.line(r"listens on http://.*:(\d+)/v1").group(1))
            until("the database", lambda: request(port, "GET", "/api/runs").status == 200)
            plan = {"goal": "x", "tasks": [{"id": "t", "command": "until [ -e enough ]; do sleep 0.05; done", "checks": "none"}]}
            run = request(port, "POST", "/api/runs", plan).json["id"]
            worker = Program(["worker", "--database", pg[1], "--url", f"127.0.0.1:{port}"], cwd=where / "own")
            until("a checkpoint in its middle",
                  lambda: [c for c in request(port, "GET", f"/api/checkpoints?agent={run}").json["checkpoints"] if c["reason"] == "interval"])
            (where / "own" / "enough").touch()
            until("its end", lambda: request(port, "GET", f"/api/runs/{run}").json["state"] == "done")
            assert worker.stop() == 0, worker.stderr()
        finally:
            if worker:
                worker.kill()
            serve.kill()


if __name__ == "__main__":
    main(globals())
