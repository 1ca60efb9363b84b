"""A cluster's profile is all that differs: what it says reaches the jobs, and nothing else does."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "workflow"))

import run  # noqa: E402

PROFILE = ROOT / "workflow" / "profiles" / "slurm" / "config.yaml"
SCRIPT = ROOT / "workflow" / "one_machine_slurm.sh"
TRAINING = {"train", "train_temporal", "finetune", "finetune_temporal"}
# The plugin's name and options without the plugin: a plan submits nothing.
STAND_IN = """
from dataclasses import dataclass, field
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.settings import CommonSettings, ExecutorSettingsBase
common_settings = CommonSettings(
    job_deploy_sources=False, non_local_exec=True, implies_no_shared_fs=False
)
@dataclass
class ExecutorSettings(ExecutorSettingsBase):
    jobname_prefix: str = field(default="", metadata={"help": "a"})
    requeue: bool = field(default=False, metadata={"help": "b"})
class Executor(RemoteExecutor):
    def run_job(self, job): ...
    async def check_active_jobs(self, active_jobs): ...
    def cancel_jobs(self, active_jobs): ...
"""


@pytest.fixture
def plan(tmp_path):
    """Return a function that plans the tiny study on a cluster: resources by rule, and the text."""
    plugin = tmp_path / "plugins" / "snakemake_executor_plugin_slurm"
    plugin.mkdir(parents=True)
    (plugin / "__init__.py").write_text(STAND_IN)
    path = os.pathsep.join([str(plugin.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PERFNB_HOME": str(tmp_path), "PYTHONPATH": path}

    def plan(cluster="slurm", status=0):
        command = [sys.executable, "workflow/run.py", "--study", "tiny", "--cluster", cluster]
        command += ["chapters", "-n", "-p"]
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)  # fmt: skip
        assert done.returncode == status, done.stdout[-3000:]
        found = re.findall(r"^rule (\w+):.*?resources: (.*?)$", done.stdout, re.DOTALL | re.M)
        rules = {rule: dict(pair.split("=") for pair in text.split(", ")) for rule, text in found}
        rules.pop("chapters", None)  # only collects; submits nothing
        return rules, done.stdout

    return plan


def edited(folder: Path, change) -> Path:
    """Return a copy of the profile's folder with its settings changed, as a user would."""
    settings = yaml.safe_load(PROFILE.read_text())
    change(settings)
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder


def test_every_job_asks_for_what_the_profile_says(plan):
    settings = yaml.safe_load(PROFILE.read_text())
    rules, text = plan()
    alone = {"bolus", "deconvolution", "phantom", "pix2pix"}
    last = {"compare", "worst_cases", "no_aif"}
    assert set(rules) == TRAINING | alone | last | {"prepare", "evaluate"}
    for rule, resources in rules.items():
        said = settings["default-resources"] | settings["set-resources"].get(rule, {})
        assert {name: int(resources[name]) for name in said} == said, rule
    assert set(settings["set-resources"]) == TRAINING
    assert "--slots" not in text, "a file lock of one machine must not hold up a cluster's jobs"


def test_one_edit_gives_every_training_job_a_gpu_and_every_job_what_all_get(plan, tmp_path):
    def change(settings):
        settings["default-resources"]["nodes"] = 1
        settings["set-resources"]["train"]["gpu"] = 1
        assert settings["set-resources"]["finetune_temporal"]["gpu"] == 1

    rules, _ = plan(str(edited(tmp_path / "mine", change)))
    assert {rule for rule, resources in rules.items() if resources.get("gpu") == "1"} == TRAINING
    assert {resources["nodes"] for resources in rules.values()} == {"1"}


def test_misspelt_option_is_refused_before_anything_is_submitted(plan, tmp_path):
    folder = edited(tmp_path / "mine", lambda settings: settings.update({"slurm-requeu": True}))
    _, text = plan(str(folder), status=2)
    assert "slurm-requeu" in text


def test_profile_names_its_jobs_as_the_next_run_looks_for_them():
    settings = yaml.safe_load(PROFILE.read_text())
    assert settings["slurm-jobname-prefix"] == run.JOBS
    assert settings["executor"] == "slurm" and settings["jobs"] > 1


def test_jobs_on_this_machine_are_counted_here_and_those_of_a_cluster_by_its_profile(tmp_path):
    local = run.command("tiny", 3, tmp_path, 2)
    assert local[-2:] == ["--cores", "3"]
    assert {"slots=3", "gpu=1"} <= set(local)
    cluster = run.command("tiny", 3, tmp_path, 2, tmp_path / "mine")
    assert cluster[-2:] == ["--profile", str(tmp_path / "mine")]
    assert not {"--cores", "--resources", "slots=3", "gpu=1"} & set(cluster)
    assert "rules" not in cluster, "it would hide which job failed, and why"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "known: slurm, or give the path"),
        ("jobs: 3", "names no executor"),
        ("executor: no-such-thing", "needs snakemake-executor-plugin-no-such-thing: pip install"),
    ],
)
def test_cluster_that_cannot_be_used_is_refused_with_what_to_do(tmp_path, text, message):
    if text is not None:
        (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        run.find_profile(str(tmp_path))


def test_jobs_of_a_killed_run_in_this_folder_are_cancelled_and_no_others(tmp_path, monkeypatch):
    home = tmp_path / "my home"
    jobs, cancelled = tmp_path / "jobs", tmp_path / "cancelled"
    mine = f"11 perfnb_a1 {home}\n12 perfnb_a1 {home}\n"
    jobs.write_text(f"{mine}13 perfnb_b2 {tmp_path}\n14 bash {home}\n")
    for name, body in (
        ("squeue", f"cat '{jobs}'"),
        ("scancel", f"echo \"$@\" >> '{cancelled}'; sed -i '1,2d' '{jobs}'"),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    run.cancel_orphans(home)
    assert run.list_jobs(home) == []
    run.cancel_orphans(home)
    assert cancelled.read_text() == "11 12\n"
    assert run.list_jobs(tmp_path) == ["13"]


def test_script_for_one_machine_is_sound_and_says_how_to_use_it():
    shell = shutil.which("dash") or "sh"
    subprocess.run([shell, "-n", SCRIPT], check=True)
    done = subprocess.run([shell, SCRIPT], capture_output=True, text=True)
    assert done.returncode == 2
    for word in ("start", "kill", "stop"):
        assert f"one_machine_slurm.sh {word}" in done.stdout
