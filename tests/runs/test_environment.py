"""The environment: versions, devices, source state, seeds."""

import json
import random
import runpy
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ldarts_lib.runs import environment
from ldarts_lib.runs.environment import DeviceUnavailable
from ldarts_lib.runs.threads import cores


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    return subprocess.check_output(["git", *identity, *arguments], cwd=folder, text=True).strip()


@pytest.fixture
def package(tmp_path):
    """A committed package ``lib`` in a repository."""
    folder = tmp_path / "lib"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        git(tmp_path, *command)
    return folder


@pytest.fixture
def gpus(monkeypatch):
    """A torch that sees so many GPUs; the second is the current one."""

    def see(count):
        properties = SimpleNamespace(name="GPU X", total_memory=80 * 2**30)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)

    return see


def test_versions_name_python_the_library_and_its_packages(monkeypatch):
    monkeypatch.setattr(environment, "_PACKAGES", ("torch", "numpy", "no-such-package"))
    found = environment.versions()
    assert found["python"].split(".") == [str(part) for part in sys.version_info[:3]]
    assert found["torch"] == torch.__version__ and type(found["torch"]) is str
    assert found["numpy"] == np.__version__ and found["ldarts_lib"]
    assert found["no-such-package"] == "not installed" and "untested" not in found["platform"]
    monkeypatch.setattr(sys, "platform", "win32")
    assert environment.versions()["platform"].endswith(" (untested)")


def test_auto_is_the_cpu_without_a_gpu(gpus):
    gpus(0)
    assert environment.resolve_device("auto") == environment.resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(("name", "index"), [("auto", 1), ("cuda", 1), ("cuda:0", 0), ("cuda:1", 1)])
def test_a_gpu_carries_its_index(gpus, name, index):
    gpus(2)
    device = environment.resolve_device(name)
    assert device == torch.device("cuda", index)
    assert environment.device_report(device) == f"cuda:{index}: GPU X, 80 GiB of memory"


@pytest.mark.parametrize(
    ("name", "count", "built", "message"),
    [
        ("cuda:2", 2, "13.0", r"'cuda:2'.*built for CUDA: 13\.0\) sees 2 CUDA GPU\(s\)"),
        ("cuda:1", 0, "13.0", r"sees 0 CUDA GPU\(s\), with CUDA_VISIBLE_DEVICES 7; .*nvidia-smi"),
        ("cuda", 0, None, "built for CUDA: no.* install a build"),
        ("mps", 0, None, "'mps': Apple's GPU is untested, .* use the device cpu"),
        ("mps:0", 2, None, "'mps:0': Apple's GPU is untested"),
    ],
)
def test_a_gpu_that_is_not_there_names_what_to_check(gpus, monkeypatch, name, count, built, message):
    gpus(count)
    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    with pytest.raises(DeviceUnavailable, match=message):
        environment.resolve_device(name)


@pytest.mark.parametrize("name", ["gpu", "", "cuda:", "cuda:-1", "cuda:x", "CPU", "cpu:0"])
def test_an_unknown_device_lists_the_allowed_ones(name):
    with pytest.raises(ValueError, match=r"allowed are auto, cpu, cuda, cuda:<index>$"):
        environment.resolve_device(name)


def test_environment_is_ready_for_json_and_read_when_asked(monkeypatch):
    record = environment.environment(torch.device("cpu"))
    assert json.loads(json.dumps(record)) == record
    assert environment.cpu_model() in record["device"]
    assert f"{torch.get_num_threads()} of {cores()} threads" in record["device"]
    assert record["command"] == sys.argv
    assert record["determinism"]["deterministic_algorithms"] is False
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    flags = environment.environment()["determinism"]
    assert (flags["cudnn_benchmark"], flags["PYTHONHASHSEED"]) == (True, "7")


def test_the_source_state_is_clean_then_dirty(package):
    head = git(package, "rev-parse", "HEAD")
    (package.parent / "notes.txt").write_text("outside of the package")
    assert environment.source_state(package) == {"commit": head, "dirty": False}
    (package / "new.py").write_text("")
    assert environment.source_state(package) == {"commit": head, "dirty": True}


def test_without_git_a_repository_or_its_knowledge_there_is_no_commit(package, tmp_path_factory, monkeypatch):
    installed = package.parent / ".venv" / "lib"  # which the repository around it does not track
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    for folder in (installed, tmp_path_factory.mktemp("plain")):
        assert environment.source_state(folder) is None
    monkeypatch.setenv("PATH", "")
    assert environment.source_state(package) is None


def test_seeds_make_all_three_generators_repeat():
    def draws(seed):
        environment.seed_everything(seed)
        return random.random(), np.random.rand(), torch.rand(1).item()

    first = draws(5)
    assert draws(5) == first
    assert all(a != b for a, b in zip(draws(6), first, strict=True))


def test_the_import_leaves_the_global_state_alone():
    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    before = states()
    runpy.run_path(environment.__file__)
    assert states() == before and not torch.cuda.is_initialized()
