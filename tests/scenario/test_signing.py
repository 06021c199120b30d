"""Signing in: AWS signatures that a strict Bedrock checks, Google tokens from a service account, and what users are told when it goes wrong."""
import http.server
import json
import pathlib
import subprocess
import tempfile
import threading

from perdure_test import Gateway, Providers, config, main, request

CLAUDE = "anthropic.claude-3-5-sonnet-20241022-v2:0"
KEY, SECRET = "AKIDEXAMPLE", "SECRET/EXAMPLE+KEY"
ASK = {"model": "c", "messages": [{"role": "user", "content": "hi"}]}


def bedrock(sim, home, files, env=None, **settings):
    for name, text in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    provider = {"preset": "bedrock", "region": "us-east-1", "base_url": f"http://127.0.0.1:{sim.ports['b']}", "models": [CLAUDE], **settings}
    return Gateway(config({"bedrock": provider}, {"c": {"targets": [{"model": f"bedrock/{CLAUDE}"}]}}, {"attempts": 1}),
                   env={"HOME": str(home), "AWS_EC2_METADATA_DISABLED": "true", **(env or {})})


def with_bedrock(story):
    with tempfile.TemporaryDirectory() as name:
        sim = Providers(script={"providers": {"b": {"port": 0, "aws": f"{KEY}:{SECRET}"}}})
        try:
            story(sim, pathlib.Path(name))
        finally:
            sim.program.kill()


def profile(key=KEY, secret=SECRET):
    return f"[work]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n"


def test_signed_requests_pass_a_strict_check():
    def story(sim, home):
        gateway = bedrock(sim, home, {".aws/credentials": profile()}, profile="work")
        try:
            chat = request(gateway.port, "POST", "/v1/chat/completions", ASK)
            assert chat.status == 200, chat.body
            stream = request(gateway.port, "POST", "/v1/messages", {**ASK, "max_tokens": 50, "stream": True})
            assert stream.status == 200 and b"message_stop" in stream.body, stream.body
            native = request(gateway.port, "POST", "/model/c/converse", {"messages": [{"role": "user", "content": [{"text": "hi"}]}]})
            assert native.status == 200, native.body
            spoken = sim.state("b")["by_dialect"]
            assert spoken["converse"] == 2 and spoken["invoke"] == 1, spoken
            assert SECRET not in gateway.log()
        finally:
            gateway.program.kill()
    with_bedrock(story)


def refusal(sim, home, files, env=None, **settings):
    gateway = bedrock(sim, home, files, env, **settings)
    try:
        answer = request(gateway.port, "POST", "/v1/chat/completions", ASK)
        assert answer.status == 502, (answer.status, answer.body)
        error = answer.json["error"]
        assert error["code"] == "provider_auth" and error["attempts"][0]["class"] == "auth", error
        for secret in (SECRET, "WRONG-SECRET"):
            assert secret not in gateway.log() and secret.encode() not in answer.body
        return error["message"]
    finally:
        gateway.program.kill()


def test_a_missing_profile_is_named_with_the_files_it_was_looked_for_in():
    def story(sim, home):
        said = refusal(sim, home, {".aws/credentials": profile()}, profile="play")
        assert "profile \"play\" is not in" in said and ".aws/credentials" in said, said
        assert sim.state("b")["requests"] == 0
    with_bedrock(story)


def test_a_wrong_secret_is_told_in_awss_own_words():
    def story(sim, home):
        said = refusal(sim, home, {}, access_key_id=KEY, secret_access_key="WRONG-SECRET")
        assert "signature" in said, said
        assert sim.state("b")["refused"] == 1
    with_bedrock(story)


def test_no_credentials_at_all_say_where_they_were_looked_for():
    def story(sim, home):
        said = refusal(sim, home, {})
        assert "AWS_ACCESS_KEY_ID" in said, said
    with_bedrock(story)


class Tokens:
    """A token endpoint: gives `token`, or refuses as `answer` says; with a clock of its own."""

    def __init__(self, answer, date=None):
        seen = self.seen = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                seen.append(self.rfile.read(int(self.headers["content-length"])))
                status, body = answer
                self.send_response_only(status)
                self.send_header("Date", date or self.date_time_string())
                self.send_header("Content-Type", "application/json")
                text = json.dumps(body).encode()
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def uri(self):
        return f"http://127.0.0.1:{self.server.server_address[1]}/token"


def vertex(tokens, story):
    with tempfile.TemporaryDirectory() as name:
        home = pathlib.Path(name)
        subprocess.run(["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", home / "key.pem"], check=True,
                       stderr=subprocess.DEVNULL)
        (home / "account.json").write_text(json.dumps({
            "type": "service_account", "project_id": "some-project", "private_key_id": "1", "private_key": (home / "key.pem").read_text(),
            "client_email": "robot@some-project.iam.gserviceaccount.com", "token_uri": tokens.uri()}))
        sim = Providers(script={"providers": {"v": {"port": 0, "key": "ya29.token"}}})
        provider = {"preset": "vertex", "project": "some-project", "location": "europe-west1", "base_url": f"http://127.0.0.1:{sim.ports['v']}",
                    "models": ["gemini-2.5-pro", "claude-sonnet-4-5"]}
        gateway = Gateway(config({"vertex": provider}, {"c": {"targets": [{"model": "vertex/gemini-2.5-pro"}]}, "d": {"targets": [{"model": "vertex/claude-sonnet-4-5"}]}},
                                 {"attempts": 1}), env={"HOME": str(home), "GOOGLE_APPLICATION_CREDENTIALS": str(home / "account.json")})
        try:
            story(sim, gateway)
        finally:
            gateway.program.kill()
            sim.program.kill()
            tokens.server.shutdown()


def test_a_service_accounts_token_is_fetched_once_and_used_for_gemini_and_claude():
    tokens = Tokens((200, {"access_token": "ya29.token", "expires_in": 3600, "token_type": "Bearer"}))

    def story(sim, gateway):
        for model in ("c", "d", "c"):
            answer = request(gateway.port, "POST", "/v1/chat/completions", {**ASK, "model": model})
            assert answer.status == 200, answer.body
        spoken = sim.state("v")["by_dialect"]
        assert spoken["gemini"] == 2 and spoken["messages"] == 1, spoken
        assert len(tokens.seen) == 1 and b"assertion=" in tokens.seen[0], tokens.seen
        paths = [r["path"] for r in request(sim.ports["v"], "GET", "/sim/requests?last=3").json]
        assert all(p.startswith("/v1/projects/some-project/locations/europe-west1/publishers/") for p in paths), paths
        assert "ya29.token" not in gateway.log()
    vertex(tokens, story)


def test_a_wrong_clock_is_told():
    tokens = Tokens((400, {"error": "invalid_grant", "error_description": "Invalid JWT: Token must be a short-lived token"}),
                    date="Tue, 24 Nov 2099 06:34:40 GMT")

    def story(sim, gateway):
        answer = request(gateway.port, "POST", "/v1/chat/completions", ASK)
        assert answer.status == 502, answer.body
        said = answer.json["error"]["message"]
        assert "clock" in said and "2099" in said and "invalid_grant" in said, said
        assert sim.state("v")["requests"] == 0
    vertex(tokens, story)


if __name__ == "__main__":
    main(globals())
