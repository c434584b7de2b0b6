"""What goes together: spaces, recipes and data sets."""

from ldarts_book.grid import axes
from ldarts_book.grid import stages as jobs
from ldarts_lib.spaces.space import SPACES


def test_every_space_has_recipes_and_every_recipe_data_sets():
    assert set(axes.SPACE_NAMES) == {*SPACES, "ptb"}
    assert {recipe for space in axes.SPACE_NAMES for recipe in axes.recipes_of(space)} == set(axes.RECIPES)
    for recipe in axes.RECIPES:
        assert set(axes.datasets_of(recipe)) <= set(axes.EVALUATED_ON)
    for space in axes.SPACE_NAMES:
        assert set(axes.searchable(space)) <= set(axes.SEARCHED_ON)


def test_images_and_texts_are_kept_apart():
    assert not set(axes.searchable("s1")) & set(axes.searchable("ptb"))
    assert axes.misfit("ptb", "ptb", "civics") is None
    assert "noisy-digits" in axes.misfit("lookup", "nasbench201", "svhn")
    assert "'ptb'" in axes.misfit("ptb", "darts", "civics")


def test_imagenet_is_evaluated_on_but_not_searched_on():
    assert axes.misfit("imagenet", "darts", "imagenet") is None
    assert axes.misfit("cifar", "darts", "imagenet")
    assert "imagenet" not in axes.SEARCHED_ON


def test_the_recipes_are_those_of_the_jobs():
    assert set(axes.RECIPES) == set(jobs.ALL_RECIPES)
    assert set(axes.TABULATED) == set(jobs.TABLES)
