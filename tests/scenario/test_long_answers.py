"""A task whose model answers for long: it can be seen how far it is, and what dies in its middle costs nothing that was told."""
import tempfile

from perdure_test import Program, main, request, running

TOKENS, HELD = 40, 10
SPEC = f"alpha:0,tokens={TOKENS},style=vllm"
RULES = {"ttft": 0, "backoff": "10ms", "stall": "10m", "affinity": 0, "attempts": 2}


def working(gateway, folder):
    return Program(["worker", "--url", f"http://127.0.0.1:{gateway.port}", "--lease", "2s"], cwd=folder)


def checkpoints(gateway, run, reason):
    found = gateway.get(f"/api/checkpoints?agent={run}").json["checkpoints"]
    return [gateway.get(f"/api/checkpoints/{c['checkpoint_id']}").json["checkpoint"] for c in found if c["reason"] == reason]


def test_a_worker_that_dies_in_the_middle_of_an_answer_costs_no_token():
    with running(SPEC, providers={"alpha": {"preset": "vllm"}}, resilience=RULES, extra={"checkpoint_interval": "1s"}) as (sim, gateway), \
            tempfile.TemporaryDirectory() as folder:
        want = gateway.stream(text="tell").rest().text
        before = sim.state("alpha")
        sim.faults("alpha", {"fault": "hold", "after": HELD})
        gateway.until("the database", lambda: gateway.get("/api/runs").status == 200)
        plan = {"goal": "x", "model": "main", "tasks": [{"id": "t", "prompt": "tell", "checks": "none"}]}
        run = request(gateway.port, "POST", "/api/runs", plan).json["id"]
        first = working(gateway, folder)
        second = None
        try:
            part = gateway.until("a checkpoint in its middle", lambda: checkpoints(gateway, run, "interval"))[0]
            text = part["state"]["text"]
            assert want.startswith(text) and len(text.split()) == HELD, (text, want)
            assert part["state"]["step"] == "ask-1" and part["state"]["key"] == f"{run}/t/1/ask-1", part
            first.kill()
            gateway.until("the end of its call", lambda: gateway.metric("perdure_calls_total", outcome="client_gone") == 1)
            assert gateway.get(f"/api/runs/{run}/tasks/t").json["steps"][0].get("result") is None, "a part was recorded"
            second = working(gateway, folder)
            gateway.until("the run's end", lambda: gateway.get(f"/api/runs/{run}").json["state"] == "done")
            task = gateway.get(f"/api/runs/{run}/tasks/t").json
            assert task["output"] == want and task["epoch"] > 1 and task["attempt"] == 1, task
            assert gateway.metric("perdure_calls_joined_total", to="part") == 1, "it was asked anew"
            generated = sim.state("alpha")["tokens"] - before["tokens"]
            assert generated <= before["tokens"] + 1, f"{generated} tokens were generated for an answer of {before['tokens']}"
            assert second.stop() == 0, second.stderr()
        finally:
            first.kill()
            if second:
                second.kill()


if __name__ == "__main__":
    main(globals())
