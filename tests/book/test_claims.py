"""What the README and the chapters on the remedy say of the recorded studies must be what the records say."""

import pytest

from ldarts_book import ablations, studies
from ldarts_lib.files import read_json

DEFAULTS = "Λ-DARTS, ε0 = 0.0001, λ = 1/8"


@pytest.fixture(scope="module")
def differences():
    return studies.judged("differences")


@pytest.fixture(scope="module")
def found(differences):
    return studies.summary(differences)


def holm(judged, *pairs):
    return studies.contrasts(studies.outcomes(judged), pairs)["p_holm"].tolist()


def test_the_exact_gradient_works_by_its_direction(differences, found):
    assert found.loc["Λ-DARTS", "gain"] == pytest.approx(0.12, abs=0.005)
    assert abs(found.loc["noise as long as Λ-DARTS", "gain"]) < 0.03
    assert found.loc["Λ-DARTS", "valid_alignment"] == pytest.approx(0.4, abs=0.05)


def test_the_released_defaults_help_without_alignment(found):
    ours, darts = found.loc[DEFAULTS], found.loc["DARTS"]
    assert ours["gain"] == pytest.approx(0.14, abs=0.005)
    for half in ("train_alignment", "valid_alignment"):
        assert ours[half] == pytest.approx(darts[half], abs=0.02)
    assert ours["train_loss"] > darts["train_loss"]
    assert ours["valid_loss"] == found["valid_loss"].min() < darts["valid_loss"]
    assert abs(found.loc["noise as long as ε0 = 0.0001, λ = 1/8", "gain"]) < 0.03
    assert found.loc["Λ-DARTS, λ = 1/8", "gain"] < 0.05


def test_two_of_the_seven_comparisons_stand_the_correction(differences):
    first, _, _, exact, noise, *_ = holm(
        differences,
        ("Λ-DARTS", "noise as long as Λ-DARTS"),
        ("Λ-DARTS, ε0 = 0.001", "noise as long as ε0 = 0.001"),
        ("noise as long as ε0 = 0.001", "DARTS"),
        (DEFAULTS, "Λ-DARTS, λ = 1/8"),
        (DEFAULTS, "noise as long as ε0 = 0.0001, λ = 1/8"),
        ("Λ-DARTS, GELU", "DARTS, GELU"),
        ("Λ-DARTS, ε0 = 0.001, GELU", "Λ-DARTS, GELU"),
    )
    assert first < 0.05 and noise < 0.05 < exact


def test_without_kinks_alignment_rises_and_nothing_is_gained(found):
    smooth = found[found.index.str.contains("GELU")]
    assert smooth["collapsed"].between(6, 7).all()
    exact, difference = (smooth.loc[f"Λ-DARTS{text}, GELU"] for text in ("", ", ε0 = 0.001"))
    for column in ("train_loss", "valid_alignment"):
        assert exact[column] == pytest.approx(difference[column], abs=0.03)
    assert exact["valid_alignment"] > 0.4


def test_more_alignment_is_not_better():
    settings = studies.judged("ablations")
    found = studies.summary(settings, "Λ-DARTS")
    most = "Λ-DARTS, Λ of the α batch"
    assert found["valid_alignment"].idxmax() == most
    assert found.loc[most, "valid_alignment"] > 0.9
    assert found.loc[most, "gain"] == pytest.approx(-0.09, abs=0.005)
    names = ("Λ-DARTS, constant λ", most, "Λ-DARTS, α first")
    p = holm(settings, *((name, "Λ-DARTS") for name in names), ("DARTS, α first", "DARTS"))
    assert [value < 0.05 for value in p] == [False, True, False, False]


def test_a_choice_flatters_itself():
    names = list(studies.CHOSEN)
    chosen, fresh = (
        studies.summary(studies.judged(group)).loc[names, "mean"] for group in ("strengths", "chosen")
    )
    assert (chosen - fresh).mean() == pytest.approx(0.06, abs=0.006)
    assert (chosen - fresh).max() > 0.1


def test_short_searches_find_about_what_random_search_of_their_cost_does(digits201):
    lengths = studies.judged("lengths")
    fresh = studies.summary(lengths[lengths["seed"].isin(studies.CONFIRMING)])
    for name in ("DARTS, 10 epochs", "DARTS, 20 epochs", "Λ-DARTS"):
        row = fresh.loc[name]
        found = studies.references(digits201, row["seconds"])["random search"]
        assert (row["low"] < found < row["high"]) == ("20" in name)
        assert (row["mean"] > found) == ("10" in name)


def test_darts_ends_below_chance(digits201):
    last = studies.outcomes(studies.judged("chosen"))
    last["below"] = ablations.share_below(digits201.frame, last["accuracy"])
    _, high = studies.mean_interval(last.loc[last["variant"] == "DARTS", "below"])
    assert high < 0.5
    low, _ = studies.mean_interval(last.loc[last["variant"] == "Λ-DARTS, projected, λ = 2", "below"])
    assert low > 0.5


def test_what_takes_how_long_is_recorded(repository):
    timings = read_json(repository / "data" / "recorded" / "timings" / "provenance.json")
    minutes, seconds = divmod(round(sum(timings["pictures"]["commands"].values())), 60)
    readme = " ".join((repository / "README.md").read_text().split())
    assert f"they took {minutes} min {seconds} s on two CPU cores" in readme
    assert round(timings["demo"]["seconds"] / 60) == 2 and "two minutes on two free CPU cores" in readme
