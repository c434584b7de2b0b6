import numpy as np
import pandas as pd
import pytest

from ldarts_book import nasbench201_reproduction as chapter
from ldarts_book import studies
from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.tables.tables import open_table

PUBLISHED = protocol("nasbench201", "cifar10", "lambda", "paper")


@pytest.mark.parametrize("name", ["proxy-choosing", "proxy"])
def test_alpha_may_move_as_far_in_the_proxy_as_published(name):
    study = studies.STUDIES[name]
    every = [(keys, protocol(**own)) for keys, own in study.searches() if keys["seed"] == study.seeds[0]]
    for keys, one in every:
        steps, usual = one.epochs * -(-2000 // one.batch_size), study.settings[keys["setting"]]["epochs"]
        published = PUBLISHED.epochs * -(-25000 // PUBLISHED.batch_size) * PUBLISHED.alpha_lr
        assert steps * one.alpha_lr == pytest.approx(published * one.epochs / usual, rel=0.03)
        assert (one.dataset, one.depth, one.reduction) == ("cifar10-small", 1, "residual")
        assert (one.weight_lr, one.step_order) == (PUBLISHED.weight_lr, PUBLISHED.step_order)
    (central,) = [one for _, one in every if one.estimator == "central"] if name == "proxy" else [PUBLISHED]
    assert (central.epsilon, central.lambda_max) == (PUBLISHED.epsilon, PUBLISHED.lambda_max)


def test_the_proxy_has_the_setting_in_which_most_searches_collapsed():
    assert set(studies.STUDIES["proxy"].settings) == {studies.PROXY}
    assert studies.PROXY in studies.STUDIES["proxy-choosing"].settings
    if studies.missing("proxy-choosing").empty:
        assert chapter.answers(studies.judged("proxy-choosing"))["collapsed"].idxmax()[0] == studies.PROXY


def searches(**cells):
    """Searches of each variant: of every epoch the cell and the validation loss."""
    rows = [
        {"variant": name, "seed": seed, "epoch": epoch, "ops": ops, "valid_loss": loss}
        for name, several in cells.items()
        for seed, search in enumerate(several)
        for epoch, (ops, loss) in enumerate(search)
    ]
    rows = pd.DataFrame(rows).assign(valid_alignment=0.5, seconds=2.0)
    return studies.LookedUp("nasbench201").judge(rows)


def test_questions_are_answered_by_counting_searches():
    best, skips, pools = "333133", "111111", "444444"
    several = [[(best, 1.0), (skips, 2.0)], [(skips, 2.0), (pools, 1.5)], [(best, 3.0), (best, 1.0)]]
    found = chapter.answers(searches(a=several, b=[[(best, 1.0), (best, 2.0)]]))
    counts = found[["searches", "all skip", "collapsed", "as published"]]
    assert counts.loc["a"].tolist() == [3, 1, 2, 1] and counts.loc["b"].tolist() == [1, 0, 0, 1]
    worth = open_table("nasbench201").frame["cifar10_test"]
    assert found.loc["a", "mean"] == pytest.approx(worth[[skips, pools, best]].mean())
    assert found.loc["a", "by loss"] == pytest.approx(worth[[best, pools, best]].mean())
    assert found.loc["a", ["Λ", "seconds"]].tolist() == [0.5, 4.0]
    assert worth[best] > worth[skips] > worth[pools] and found.loc["a", "τ"] == pytest.approx(-1 / 3)


def test_random_search_chooses_by_validation_and_is_judged_by_the_test():
    table, found = open_table("nasbench201").frame, chapter.best_of_drawn([1, 3])
    assert found[1] == pytest.approx(table["cifar10_test"].mean())
    drawn = np.random.default_rng(0).integers(len(table), size=(20_000, 3))
    valid, test = (table[f"cifar10_{part}"].to_numpy()[drawn] for part in ("valid", "test"))
    chosen = np.take_along_axis(test, valid.argmax(1)[:, None], 1)
    assert found[3] == pytest.approx(chosen.mean(), abs=4 * chosen.std() / len(chosen) ** 0.5)


def test_figure1_stands_alone_or_beside_ours():
    assert len(chapter.beside_figure1(pd.DataFrame(), "our Λ", "our accuracy").axes) == 2
    rows = searches(DARTS=[[("333133", 1.0), ("111111", 2.0)]], noise=[[("333133", 1.0), ("333133", 2.0)]])
    ax = chapter.beside_figure1(rows, "our Λ", "our accuracy").axes[3]
    assert [line.get_ydata().tolist() for line in ax.lines] == [[94.36, 54.3]]
    assert ax.get_title(loc="left") == "our accuracy"


def test_what_is_not_here_is_said_at_once(ldarts, monkeypatch, tmp_path):
    monkeypatch.setattr(studies.records, "files", lambda _: tmp_path)
    assert chapter.answers(chapter.proxy_searches("proxy")).empty
    monkeypatch.setenv("LDARTS_DATA", str(tmp_path / "none"))
    monkeypatch.delenv("LDARTS_TEST_DATA", raising=False)
    code, _, error = ldarts("study", "proxy", "chosen", "--out", tmp_path / "out")
    assert code and "ldarts data cifar10-small" in error and not (tmp_path / "out").exists()


def test_a_record_names_the_file_of_its_pictures(tmp_path):
    study = studies.STUDIES["proxy"]
    assert study.pictures(tmp_path) == {}
    run = tmp_path / studies.folder({"setting": studies.PROXY, "variant": "DARTS", "seed": 10})
    run.mkdir()
    (run / "images.json").write_text('{"source": "some.npz"}')
    assert study.pictures(tmp_path) == {"pictures": ["some.npz"]}
