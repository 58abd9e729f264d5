"""The files that README.md and deploy/README.md have a reader write down are right as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from guard.config import load_config
from guard.shipped import find_policy

ROOT = Path(__file__).parents[2]


def test_the_readmes_configuration_and_policy(tmp_path: Path) -> None:
    config, policy = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "guard.yaml").write_text(config, encoding="utf-8")
    (tmp_path / "short.yaml").write_text(policy, encoding="utf-8")
    assert len(load_config(tmp_path / "guard.yaml").upstreams) == 2
    assert find_policy(str(tmp_path / "short.yaml")).name == "short"


def test_what_observes_in_five_minutes_acts_after_one_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")
    written = dict(re.findall(r"^cat >(\S+) <<'YAML'\n(.*?)^YAML$", text, re.DOTALL | re.MULTILINE))
    assert set(written) == {"guard.yaml", "live.yaml"}
    for name, content in written.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    config = load_config(tmp_path / "guard.yaml")
    assert config.policy == "live.yaml"
    acts = {rule.name for rule in find_policy("default").rules if rule.action.value == "retry"}
    assert not acts & {rule.name for rule in find_policy("live.yaml").rules if rule.action.value == "retry"}
    (tmp_path / "live.yaml").write_text(written["live.yaml"].replace("extends: observe", "extends: default"))
    assert acts == {rule.name for rule in find_policy("live.yaml").rules if rule.action.value == "retry"}
