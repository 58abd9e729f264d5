"""The README's way from nothing to a guarded vLLM: every command of it is run, as a reader would type it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from guard.backend.testbed.models import ensure_target
from guard.backend.testbed.repair import REPAIR_VARIABLE
from guard.backend.testbed.server import ENVIRONMENT
from guard.lab.files import cache_dir
from guard.lab.ports import free_port

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
HEADING = "### A guarded vLLM in five minutes\n"
#: What each block begins with.
GUARD, OWN, NO_GPU, FRONT, ASK, FAULT, END = (
    "# 1. ", "# 2. Your vLLM", "# 2. No GPU", "# 3. ", "# 4. ", "# 5. ", "# 6. ",
)  # fmt: skip
#: A start of vLLM and some hundred tokens, on a busy machine. Unit: seconds.
PATIENCE = 900
pytestmark = pytest.mark.timeout(PATIENCE + 300)
CLOSING = re.compile(r'^: guard \{.*"outcome":"(\w+)"', re.MULTILINE)


def blocks() -> list[str]:
    """The commands, block by block."""
    _, found, rest = README.partition(HEADING)
    assert found
    section = re.split(r"^### ", rest, maxsplit=1, flags=re.MULTILINE)[0]
    return re.findall(r"^```bash\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


def block(start: str) -> str:
    """The one that begins so."""
    (found,) = (text for text in blocks() if text.startswith(start))
    return found


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkout of its own with the guard installed, as by the first block."""
    folder = tmp_path_factory.mktemp("readme") / "specdec-guard"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder.parent / "home").mkdir()
    run(folder, [GUARD], {})
    yield folder
    shutil.rmtree(folder)


def run(checkout: Path, starts: list[str], more: Mapping[str, str], **changes: str) -> str:
    """
    Run blocks in one shell that ends at the first command that fails.

    Args:
        checkout: Where.
        starts: What the blocks begin with.
        more: Variables besides those of a new user.
        changes: Text of the blocks that is another one here.

    Returns:
        What it printed.
    """
    client, admin, backend = free_port(), free_port(), free_port()
    ports = {
        ":8080": f":{backend}",
        "--port 8080": f"--port {backend}",
        ":8000/": f":{client}/",
        ":8001/": f":{admin}/",
    }
    script = "".join(block(start) for start in starts)
    for old, new in {**ports, **changes}.items():
        script = script.replace(old, new)
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(checkout.parent / "home"),
        # What is downloaded is downloaded once for all tests.
        "XDG_CACHE_HOME": str(cache_dir().parent),
        **{name: value for name, value in os.environ.items() if name.startswith("PIP_")},
        # The ports of the README may be taken here.
        "GUARD_LISTEN_PORT": str(client),
        "GUARD_ADMIN_PORT": str(admin),
        **more,
    }
    log = checkout.parent / "shell.log"
    with log.open("wb") as out:
        shell = subprocess.Popen(
            ["bash", "-e", "-c", script], cwd=checkout, env=environ, stdout=out, stderr=out, start_new_session=True
        )
        try:
            code = shell.wait(PATIENCE)
        finally:
            # What a failed step has left behind.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGTERM)
    said = log.read_text(encoding="utf-8", errors="replace")
    # The guard's first: vLLM's is long, and what reports a failure may cut its middle out.
    logs = sorted(checkout.glob("*.log"))
    assert code == 0, "\n".join([said, *(f"{path.name}: {path.read_text(errors='replace')[-4000:]}" for path in logs)])
    return said


def test_each_block_is_one_of_a_path() -> None:
    starts = (GUARD, OWN, NO_GPU, FRONT, ASK, FAULT, END)
    assert len(blocks()) == len(starts)
    assert all(block(start) for start in starts)


def test_without_a_gpu_up_to_a_rescued_answer(checkout: Path) -> None:
    said = run(checkout, [NO_GPU, FRONT, ASK, FAULT, END], {"PYTHON": sys._base_executable})
    # The request of block 4; the spoilt one, noted; the spoilt one, rescued.
    assert CLOSING.findall(said) == ["healthy", "noted", "rescued"]
    assert said.count("data: [DONE]") == 3
    assert '"model":"smollm2-135m"' in said
    assert re.search(r"signal +yes +exact in each chunk", said), said


def test_a_vllm_of_ones_own(checkout: Path, tmp_path: Path) -> None:
    """The packages of vLLM's environment with nothing of ours in them; the README puts the plugin there."""
    environment = tmp_path / "vllm"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin/python"
    ours = Path(sysconfig.get_path("purelib")) / "packages.pth"
    site = subprocess.check_output([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True)
    shutil.copy(ours, Path(site.strip()) / ours.name)
    for name, call in (("pip", "pip._internal.cli.main"), ("vllm", "vllm.entrypoints.cli.main")):
        script = environment / "bin" / name
        text = f"#!{python}\nfrom {call} import main\nif __name__ == '__main__':\n    raise SystemExit(main())\n"
        script.write_text(text, encoding="utf-8")
        script.chmod(0o755)
    variables = {
        **ENVIRONMENT,
        REPAIR_VARIABLE: "1",
        # Compiling for this processor takes minutes and is vLLM's own affair.
        "TORCH_COMPILE_DISABLE": "1",
        "PATH": f"{environment}/bin:{os.environ['PATH']}",
    }
    said = run(checkout, [OWN, FRONT, ASK, END], variables, **{"Qwen/Qwen3-8B": str(ensure_target())})
    assert CLOSING.findall(said) == ["healthy"]
    assert "Successfully installed specdec-guard" in said
    assert re.search(r"signal +yes +exact in each chunk", said), said
