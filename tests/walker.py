"""A run that needs no network: a sum of random numbers."""

import time

import torch
from pydantic import BaseModel

from ldarts_lib.runs.record import State, record, require_finite


class Walk(BaseModel):
    seed: int = 0
    epochs: int = 4


class Walker(State):
    """A sum of random numbers."""

    title, steps = "walking", 2

    def __init__(self, settings=None, pause=0.0):
        settings = settings or Walk()
        self.epochs, self.pause, self.position = settings.epochs, pause, torch.zeros(())
        self.generator = torch.Generator().manual_seed(settings.seed)

    def run_epoch(self, epoch, on_step):
        for _ in range(self.steps):
            time.sleep(self.pause)
            self.position += torch.randn((), generator=self.generator)
            on_step()
        require_finite(self.position, epoch, "train", "stride")
        return {"epoch": epoch, "position": self.position.item(), "seconds": 0.25}

    def checkpoint(self):
        return {"position": self.position, "generator": self.generator.get_state()}

    def restore(self, saved):
        self.position = saved["position"]
        self.generator.set_state(saved["generator"])

    def outcome(self, rows):
        return {"genotype": "walk"}, {"position": rows[-1]["position"]}

    def shown(self, row):
        return {"at": f"{row['position']:.2f}"}

    def save(self, run):
        (run.path / "extra").write_text(str(self.position.item()))


def walk(out, settings=None, **options):
    settings = settings or Walk()
    return record(out, settings, lambda: Walker(settings, **options), progress=False)
