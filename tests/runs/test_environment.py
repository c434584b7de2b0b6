"""The environment: versions, devices, source state, seeds."""

import json
import multiprocessing
import random
import runpy
import subprocess
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ldarts_lib.errors import ProtocolError, RunError
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

    def see(count, capability=(9, 0), built="sm_75 sm_80 sm_86 sm_90 sm_100 compute_120"):
        properties = SimpleNamespace(name="GPU X", total_memory=80 * 2**30)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: properties.name)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built.split())

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


@pytest.mark.parametrize(
    ("capability", "built"),
    [
        ((8, 9), "sm_75 sm_86"),  # code for 8.6 runs on 8.9
        ((12, 1), "sm_90 compute_120"),  # the driver compiles it
        ((9, 0), "sm_90a"),
        ((9, 4), "gfx942"),  # ROCm
    ],
)
def test_a_gpu_that_this_torch_has_kernels_for_is_taken(gpus, capability, built):
    gpus(2, capability, built)
    assert environment.resolve_device("auto") == torch.device("cuda", 1)


@pytest.mark.parametrize(
    ("capability", "built"), [((6, 1), "sm_75 sm_80"), ((8, 0), "sm_75 sm_86 compute_90")]
)
def test_a_gpu_without_kernels_names_a_build_that_has_them(gpus, capability, built):
    gpus(2, capability, built)
    with pytest.raises(
        DeviceUnavailable, match=r"no kernels for the GPU X \(sm_\d\d; it has sm_75.*CUDA 12\.6"
    ):
        environment.resolve_device("cuda:0")
    with pytest.warns(UserWarning, match="the CPU is used: torch .* has no kernels"):
        assert environment.resolve_device("auto") == torch.device("cpu")


@pytest.mark.parametrize("precision", ["bfloat16", "bf16-mixed"])
def test_bfloat16_that_a_gpu_only_imitates_is_refused(gpus, monkeypatch, precision):
    gpus(1)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    with pytest.raises(ProtocolError, match=f"'{precision}': cuda:0: GPU X, .* has no bfloat16"):
        environment.refuse_emulated(precision, torch.device("cuda", 0))
    environment.refuse_emulated("float32", torch.device("cuda", 0))
    environment.refuse_emulated(precision, torch.device("cpu"))


def test_random_numbers_go_on_only_on_a_device_of_their_kind():
    generator, of_gpu = torch.Generator(), torch.zeros(16, dtype=torch.uint8)
    before = generator.get_state()
    environment.restore_generator(generator, of_gpu, draws=False)
    assert torch.equal(generator.get_state(), before)
    with pytest.raises(RunError, match="begun on a device of another kind"):
        environment.restore_generator(generator, of_gpu, draws=True)
    drawn = torch.rand(3, generator=generator)
    environment.restore_generator(generator, before, draws=True)
    assert torch.equal(torch.rand(3, generator=generator), drawn)


FLAGS = """
import torch
from ldarts_lib.runs.environment import allows_tf32, arithmetic
backends = torch.backends
def now():
    convolution = getattr(backends.cudnn, "conv", None)
    return allows_tf32(), convolution and convolution.fp32_precision, backends.cudnn.benchmark
{set}
before = now()
assert before[0]["allow_tf32"] is {convolutions}, before
for precision, on in (("float32", False), ("tf32", True), ("bf16-mixed", True), ("64-true", False)):
    with arithmetic(precision):
        found = allows_tf32()
        assert found["allow_tf32"] is on, (precision, found)
        assert (found["float32_matmul_precision"] in ("high", "tf32")) is on, (precision, found)
    assert now() == before, (precision, before, now())
"""


@pytest.mark.parametrize(
    ("set", "convolutions"),
    [
        ("", True),
        ("backends.cudnn.allow_tf32 = False; torch.set_float32_matmul_precision('medium')", False),
        ("backends.cudnn.conv.fp32_precision = 'ieee'", False),
        ("backends.cuda.matmul.fp32_precision = 'tf32'", True),
        ("backends.fp32_precision = 'tf32'", True),
        ("backends.cudnn.conv.fp32_precision = 'none'; backends.fp32_precision = 'ieee'", False),
    ],
)
def test_tf32_is_off_and_on_whichever_flags_somebody_has_used(set, convolutions):
    """In a child: flags of the new kind cannot be taken back."""
    if "fp32" in set and not hasattr(torch.backends, "fp32_precision"):
        pytest.skip("this torch has no such flags")
    code = FLAGS.format(set=set, convolutions=convolutions)
    context = multiprocessing.get_context("fork")
    child = context.Process(target=exec, args=(code, {}))
    child.start()
    child.join()
    assert child.exitcode == 0


def test_kernels_are_tried_within_a_training_only(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    for kind in ("cpu", "cuda"):
        with environment.tuned_convolutions(torch.device(kind)):
            assert torch.backends.cudnn.benchmark is (kind == "cuda")
        assert torch.backends.cudnn.benchmark is False


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
