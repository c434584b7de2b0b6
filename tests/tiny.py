"""Job notebooks that take a second: they have the parameters of the real ones and write what those write."""

from pathlib import Path

import nbformat

SEARCH = """
space: str = "nasbench201"  # search space
dataset: str = "noisy-digits"  # images
method: str = "lambda"  # search method
size: str = "smoke"  # preset
seed: int = 0  # seed
out: str = "runs/one"  # run directory
device: str = "auto"  # device
"""
EVALUATION = """
architecture: str = "DARTS_V2"  # a published name or the run directory of a search
dataset: str = "noisy-digits"  # images
recipe: str = "cifar"  # recipe
size: str = "smoke"  # preset
seed: int = 0  # seed
out: str = "runs/one"  # run directory
device: str = "auto"  # device
devices: int = 1  # GPUs
"""
COMMON = '''
import json, os, time
from pathlib import Path

EPOCHS = 3
run = Path(out)

def write(name, content):
    run.mkdir(parents=True, exist_ok=True)
    temporary = run / f".{name}.tmp"
    temporary.write_text(content if isinstance(content, str) else json.dumps(content))
    temporary.replace(run / name)

def told(name):
    """Whether the environment names a part of this run directory."""
    return any(part in out for part in os.environ.get(name, "").split() if part)

def train(config):
    """Epochs that are counted in the history; a run that is told to waits for ever in its last one."""
    write("config.json", config)
    history = run / "history.csv"
    done = history.read_text().count("\\n") - 1 if history.exists() else 0
    for epoch in range(done, EPOCHS):
        if told("TINY_WAIT") and epoch == EPOCHS - 1:
            write("waits", str(os.getpid()))
            time.sleep(120)
        rows = "".join(f"{e},{os.getpid() if e == epoch else 0}\\n" for e in range(epoch + 1))
        write("history.csv", "epoch,pid\\n" + rows)
    if told("TINY_FAIL"):
        raise RuntimeError("asked to fail")
    variables = {name: os.environ.get(name) for name in ("LDARTS_THREADS", "CUDA_VISIBLE_DEVICES")}
    write("environment.json", {"device": device, "began_at": done, "ended": time.time(), **variables})
'''
SEARCH_RUN = """
identity = dict(space=space, dataset=dataset, method=method, size=size, seed=seed)
train({**identity, "epochs": EPOCHS})
measure = {"valid_perplexity": 100.0} if space == "ptb" else {"valid_accuracy": 0.5}
outcome = {"epochs": EPOCHS, "valid_loss": 1.0, "valid_alignment": 0.1, "entropy": 1.0, "skips": 2}
outcome |= {"genotype": "|none~0|", "seconds": 0.1, **measure}
write("metrics.json", {"version": 1, "stage": "search", **identity, **outcome})
"""
EVALUATION_RUN = """
metrics = Path(architecture) / "metrics.json"
searched = json.loads(metrics.read_text()) if metrics.exists() else None
searched = searched and {key: searched[key] for key in ("space", "dataset", "method", "size", "seed")}
name = architecture
if searched:
    name = "{space}/{dataset}/{method}/seed{seed}".format(**searched)
train(dict(recipe=recipe, dataset=dataset, size=size, seed=seed, epochs=EPOCHS))
accuracy = 0.5 + 0.1 * (searched or {}).get("seed", 0)
if recipe == "lookup":
    measured = {"valid_accuracy": 0.4, "test_accuracy": accuracy, "benchmark": "digits-201"}
else:
    measured = {"epochs": EPOCHS, "parameters": 10, "seconds": 0.1}
    if recipe == "ptb":
        measured |= {"test_perplexity": 90.0, "valid_perplexity": 95.0}
    else:
        measured |= {"test_accuracy": accuracy, "best_test_accuracy": accuracy, "multiply_adds": 20}
write("metrics.json", {"version": 1, "stage": "evaluate", "recipe": recipe, "dataset": dataset, "size": size,
      "seed": seed, "architecture": name, "searched": searched, "genotype": "|none~0|", **measured})
"""


def write_notebooks(folder: Path) -> Path:
    """Write both notebooks; returns their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    cells = {
        "one_search": (SEARCH, COMMON, SEARCH_RUN),
        "one_evaluation": (EVALUATION, COMMON, EVALUATION_RUN),
    }
    for name, sources in cells.items():
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
        notebook.metadata |= {
            "kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}
        }
        notebook.cells[0].metadata["tags"] = ["parameters"]
        nbformat.write(notebook, folder / f"{name}.ipynb")
    return folder


GRID = """
size: smoke
parts:
  small:
    spaces: [nasbench201]
    datasets: [noisy-digits]
    methods: [darts, lambda]
    seeds: [0]
    evaluations:
      - {recipe: lookup}
"""
