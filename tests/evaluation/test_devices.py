from unittest.mock import Mock

import pytest
import torch
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from ldarts_lib.errors import ProtocolError
from ldarts_lib.evaluation import devices
from ldarts_lib.evaluation.devices import launch, require_devices
from ldarts_lib.runs.processes import ProcessFailed

CPU = torch.device("cpu")
RAISED = "\n\n-- Process 1 terminated with the following error:\nTraceback ...\nValueError: no good\n"


@pytest.mark.parametrize(
    ("died", "message"),
    [
        (ProcessRaisedException(RAISED, 1, 0), "^ValueError: no good$"),
        (
            ProcessExitedException("gone", error_index=1, error_pid=0, exit_code=-11, signal_name="SIGSEGV"),
            "process 1 was killed by SIGSEGV",
        ),
    ],
)
def test_what_ends_a_process_is_named(monkeypatch, died, message):
    monkeypatch.setattr(devices, "make_fabric", lambda **_: Mock(launch=Mock(side_effect=died)))
    with pytest.raises(ProcessFailed, match=message):
        launch(print, device=CPU, devices=1, precision="32-true")


def test_missing_devices_are_named(monkeypatch):
    require_devices(CPU, 64)
    with pytest.raises(ProtocolError, match="devices = 0: expected at least 1"):
        require_devices(CPU, 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ProtocolError, match=r"devices = 3, but torch sees 2 GPU\(s\)"):
        require_devices(torch.device("cuda", 0), 3)
    with pytest.raises(ProtocolError, match="devices = 2 does not go with the device cuda:1"):
        require_devices(torch.device("cuda", 1), 2, named=True)
