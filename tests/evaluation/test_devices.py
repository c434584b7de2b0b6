from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from torch.multiprocessing.spawn import ProcessExitedException

from ldarts_lib.errors import ProtocolError
from ldarts_lib.evaluation import devices
from ldarts_lib.evaluation.devices import launch, require_devices
from ldarts_lib.runs.processes import ProcessFailed

CPU = torch.device("cpu")


def note(fabric, folder):
    total = fabric.all_reduce(torch.tensor([1.0 + fabric.global_rank]), reduce_op="sum")
    Path(folder, str(fabric.global_rank)).write_text(f"{fabric.world_size} {total.item()}")


def fail(fabric, text):
    raise ValueError(text)


@pytest.mark.parametrize(("devices", "total"), [(1, 1.0), (2, 3.0)])
def test_every_process_runs_and_hears_the_others(tmp_path, devices, total):
    launch(note, str(tmp_path), device=CPU, devices=devices, precision="32-true", dead_ends=False)
    notes = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert notes == {str(rank): f"{devices} {total}" for rank in range(devices)}


def test_errors_arrive():
    options = {"device": CPU, "precision": "32-true", "dead_ends": False}
    with pytest.raises(ValueError, match="no good"):
        launch(fail, "no good", devices=1, **options)
    with pytest.raises(ProcessFailed, match="ValueError: no good"):
        launch(fail, "no good", devices=2, **options)


def test_the_signal_that_kills_a_process_is_named(monkeypatch):
    died = ProcessExitedException("gone", error_index=1, error_pid=0, exit_code=-11, signal_name="SIGSEGV")
    monkeypatch.setattr(devices, "make_fabric", lambda *_, **__: Mock(launch=Mock(side_effect=died)))
    with pytest.raises(ProcessFailed, match="process 1 was killed by SIGSEGV"):
        launch(note, device=CPU, devices=1, precision="32-true", dead_ends=False)


def test_missing_devices_are_named(monkeypatch):
    require_devices(CPU, 64)
    with pytest.raises(ProtocolError, match="devices = 0: expected at least 1"):
        require_devices(CPU, 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ProtocolError, match=r"devices = 3, but torch sees 2 GPU\(s\)"):
        require_devices(torch.device("cuda", 0), 3)
    with pytest.raises(ProtocolError, match="devices = 2 does not go with the device cuda:1"):
        require_devices(torch.device("cuda", 1), 2, named=True)
