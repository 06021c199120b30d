"""The story of `make demo-run` keeps its promises."""
import os
import subprocess

from perdure_test import PERDURE, ROOT, main


def test_the_plan_of_the_demo_is_done_whatever_is_killed():
    done = subprocess.run([ROOT / "tools" / "demo_run"], env={**os.environ, "PERDURE": PERDURE}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "BROKEN" not in done.stdout and done.stdout.count("kept ") >= 6, done.stdout + done.stderr


if __name__ == "__main__":
    main(globals())
