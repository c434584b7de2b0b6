"""The environment: versions, devices, source state, seeds."""

import json
import random
import runpy
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ldarts_lib.runs import environment
from ldarts_lib.runs.environment import DeviceUnavailable
from ldarts_lib.runs.threads import cores


def _git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def package(tmp_path):
    """A committed package ``lib`` in a repository."""
    folder = tmp_path / "lib"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    _git(tmp_path, "init")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-m", "first")
    return folder


@pytest.fixture
def two_gpus(monkeypatch):
    """A torch that sees two GPUs; the second is the current one."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    properties = SimpleNamespace(name="GPU X", total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_versions_name_python_the_library_and_its_packages():
    start = time.process_time()
    found = environment.versions()
    assert time.process_time() - start < 0.5
    assert found["python"].split(".") == [str(part) for part in sys.version_info[:3]]
    assert found["torch"] == torch.__version__ and type(found["torch"]) is str
    assert found["numpy"] == np.__version__
    assert found["ldarts_lib"]


def test_versions_say_what_is_not_installed(monkeypatch):
    monkeypatch.setattr(environment, "_PACKAGES", ("no-such-package",))
    assert environment.versions()["no-such-package"] == "not installed"


def test_auto_is_the_cpu_without_a_gpu(no_gpu):
    assert environment.resolve_device("auto") == torch.device("cpu")
    assert environment.resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(("name", "index"), [("auto", 1), ("cuda", 1), ("cuda:0", 0), ("cuda:1", 1)])
def test_a_gpu_carries_its_index(two_gpus, name, index):
    device = environment.resolve_device(name)
    assert device == torch.device("cuda", index)
    assert environment.device_report(device) == f"cuda:{index}: GPU X, 80 GiB of memory"


def test_a_gpu_beyond_the_last_is_refused(two_gpus):
    with pytest.raises(DeviceUnavailable, match=r"'cuda:2'.*2 GPU\(s\), cuda:0 .. cuda:1"):
        environment.resolve_device("cuda:2")


def test_a_gpu_that_is_not_there_names_what_to_check(no_gpu, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    with pytest.raises(DeviceUnavailable, match=r"sees no GPU.*CUDA_VISIBLE_DEVICES \(7\)"):
        environment.resolve_device("cuda:1")
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    with pytest.raises(DeviceUnavailable, match="without CUDA; install a CUDA build"):
        environment.resolve_device("cuda")
    with pytest.raises(DeviceUnavailable, match="Apple silicon"):
        environment.resolve_device("mps")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:", "cuda:-1", "cuda:x", "CPU", "cpu:0"])
def test_an_unknown_device_lists_the_allowed_ones(name):
    with pytest.raises(ValueError, match="allowed are auto, cpu, cuda, cuda:<index>, mps"):
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
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=package, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert environment.source_state(package) == {"commit": head, "dirty": False}
    (package.parent / "notes.txt").write_text("outside of the package")
    assert environment.source_state(package) == {"commit": head, "dirty": False}
    (package / "new.py").write_text("")
    assert environment.source_state(package) == {"commit": head, "dirty": True}


def test_a_package_that_the_repository_around_it_does_not_track_has_no_commit(package):
    installed = package.parent / ".venv" / "lib"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    assert environment.source_state(installed) is None


def test_without_a_repository_or_git_there_is_no_commit(package, tmp_path_factory, monkeypatch):
    assert environment.source_state(tmp_path_factory.mktemp("plain")) is None
    monkeypatch.setenv("PATH", "")
    assert environment.source_state(package) is None


def test_seeds_make_all_three_generators_repeat():
    def draws():
        return random.random(), np.random.rand(), torch.rand(1).item()

    environment.seed_everything(5)
    first = draws()
    environment.seed_everything(5)
    assert draws() == first
    environment.seed_everything(6)
    assert all(a != b for a, b in zip(draws(), first, strict=True))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(ValueError, match=rf"seed = {seed}: expected 0 .. 4294967295"):
        environment.seed_everything(seed)


def test_colab_is_recognized_by_its_kernel_and_by_its_shell(monkeypatch):
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    assert not environment.colab()
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace())
    assert environment.colab()
    monkeypatch.delitem(sys.modules, "google.colab")
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    assert environment.colab()


def test_the_import_leaves_the_global_state_alone():
    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    before = states()
    runpy.run_path(environment.__file__)
    assert states() == before and not torch.cuda.is_initialized()
