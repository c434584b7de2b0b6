"""The search: epochs of bilevel steps, a history of what the cells want, a genotype at the end."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ldarts_lib.bilevel.packed import can_pack, run_packed
from ldarts_lib.bilevel.protocols import RecurrentProtocol, SearchProtocol
from ldarts_lib.bilevel.recurrent_state import RecurrentState
from ldarts_lib.bilevel.state import SearchState
from ldarts_lib.bilevel.trajectory import FILE, Trajectory
from ldarts_lib.datasets.corpus import Corpus, load_text
from ldarts_lib.datasets.images import ImageDataset
from ldarts_lib.datasets.own import images_of
from ldarts_lib.errors import ProtocolError, RunError
from ldarts_lib.progress import Bar
from ldarts_lib.runs.contents import GENOTYPE, METRICS
from ldarts_lib.runs.directory import CHECKPOINT, Row, Run
from ldarts_lib.runs.environment import refuse_emulated
from ldarts_lib.runs.processes import process_pool
from ldarts_lib.runs.record import record
from ldarts_lib.spaces.genotype import Genotype, GenotypeError
from ldarts_lib.spaces.notations import parse

POLL_SECONDS = 2.0


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        genotype: the derived architecture after the last epoch.
        history: one row per epoch; :mod:`ldarts_lib.bilevel.state` describes the columns.
        alphas: per cell kind the final architecture parameters [edges, operations].
        path: the run directory.
        trajectory: the architecture weights and the cells' agreement, epoch by epoch.
    """

    genotype: Genotype
    history: list[Row]
    alphas: dict[str, Tensor]
    path: Path
    trajectory: Trajectory

    @classmethod
    def read(cls, path: str | Path) -> SearchResult:
        """That of a finished search."""
        run = Run(path)
        try:
            genotype = parse(run.read_json(GENOTYPE)["genotype"])
        except GenotypeError as error:
            raise RunError(f"{run.path / GENOTYPE} is damaged: {error}") from None
        saved = run.read_checkpoint() or {}
        if not {"alphas", "trajectory"} <= set(saved):
            raise RunError(f"{run.path} holds no {CHECKPOINT} of a search")
        trajectory = Trajectory.load(run.path)
        if not trajectory.same_as(Trajectory.of(saved["trajectory"])):
            raise RunError(f"{run.path}: {FILE} is not that of its {CHECKPOINT}")
        if run.read_json(METRICS)["genotype"] != str(genotype):
            raise RunError(f"{run.path}: {GENOTYPE} and {METRICS} are not of one run")
        rows = saved.get("history") or run.read_history()  # older checkpoints have none
        run.restore_history(rows)
        return cls(genotype, rows, saved["alphas"], run.path, trajectory)


def search(
    protocol: SearchProtocol | RecurrentProtocol,
    out: str | Path,
    *,
    device: torch.device | str = "cpu",
    dataset: ImageDataset | Corpus | None = None,
    progress: bool = True,
) -> SearchResult:
    """Search a cell and record everything in a run directory.

    A finished search of the same settings is read, an interrupted one goes on, on a CPU bit for bit as if it
    had not been interrupted.

    Args:
        out: the run directory.
        dataset: the images or the text, if they are loaded already; by default the protocol's. Other images
            than those are recorded by their own name and fingerprint.
        progress: whether to show a progress bar.

    Raises:
        ProtocolError: there is too little data for the batch, or the protocol is made for other pictures.
        RunError: the directory holds something else, is in use, or cannot be written.
        Diverged: the loss is NaN or infinite.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> from ldarts_lib.bilevel.protocols import protocol
        >>> settings = protocol(size="smoke", epochs=1, channels=2, batch_size=500)
        >>> with TemporaryDirectory() as folder:
        ...     found = search(settings, folder, progress=False)
        >>> len(found.history), len(found.genotype.normal.edges)
        (1, 6)
    """
    if isinstance(dataset, ImageDataset):
        protocol = protocol.on(dataset.facts)
    if protocol.cuda_graph and torch.device(device).type != "cuda":
        raise ProtocolError(f"cuda_graph needs a CUDA device, the search runs on {device}")
    refuse_emulated(protocol.precision, torch.device(device))

    def begin() -> SearchState:
        if isinstance(protocol, RecurrentProtocol):
            text = dataset or load_text(protocol.dataset, min_count=protocol.min_count)
            return RecurrentState(protocol, text, device)
        return SearchState(protocol, dataset or images_of(protocol, device), device)

    return SearchResult.read(record(out, protocol, begin, device=device, progress=progress).path)


def search_all(
    protocols: Mapping[str, SearchProtocol],
    out: str | Path,
    *,
    workers: int | None = None,
    device: torch.device | str = "cpu",
    together: int = 1,
) -> dict[str, SearchResult]:
    """Run searches side by side, one CPU thread each; results have the keys of ``protocols``, in their order.

    Args:
        protocols: the searches; the key is the name of the run directory below ``out``.
        workers: processes at a time; by default one per core, and one on a GPU.
        together: how many searches that differ only in their seed run as one packed supernet, see
            :mod:`ldarts_lib.bilevel.packed`; more are faster where networks are small, and round differently.

    Raises:
        ValueError: less than one worker, or less than one search together.
        RunError: a directory holds something else; before anything is searched.
        Diverged: the loss of one is NaN or infinite; the others are finished first.
    """
    if together < 1:
        raise ValueError(f"together must be at least 1, got {together}")
    paths = {name: Path(out) / name for name in protocols}
    left = {name: p for name, p in protocols.items() if not Run(paths[name]).finished_with(p)}
    if len(left) < len(paths):
        Bar.write(f"{out}: {len(paths) - len(left)} of {len(paths)} searches finished earlier, read again")
    total = sum(p.epochs for p in protocols.values())
    bar = Bar(total=total, desc="searching", unit="epoch", disable=not left)
    with bar, process_pool(workers, device) as pool:
        packs = [
            {paths[name]: left[name] for name in pack if name in left} for pack in _packs(protocols, together)
        ]
        futures = waiting = [pool.submit(_search, pack, device) for pack in packs if pack]
        while waiting:
            waiting = wait(waiting, POLL_SECONDS, FIRST_COMPLETED).not_done
            bar.n = sum(Run(path).epochs for path in paths.values())
            bar.refresh()
        for future in futures:
            future.result()
    return {name: SearchResult.read(path) for name, path in paths.items()}


def _packs(protocols: Mapping[str, SearchProtocol], together: int) -> list[list[str]]:
    """The names of searches that one process runs as one."""
    alike: dict[str, list[str]] = {}
    for name, p in protocols.items():
        settings = p.model_dump_json(exclude={"seed"}) if together > 1 and can_pack(p) else name
        alike.setdefault(settings, []).append(name)
    return [names[i : i + together] for names in alike.values() for i in range(0, len(names), together)]


def _search(pack: dict[Path, SearchProtocol], device: torch.device | str) -> None:
    if len(pack) > 1:
        run_packed(list(pack.values()), list(pack), device=device)
    else:
        ((path, protocol),) = pack.items()
        search(protocol, path, device=device, progress=False)
