"""Settings: frozen, and what is wrong with them in words."""

import pytest
from pydantic import ValidationError, model_validator

from ldarts_lib.errors import LdartsError, ProtocolError
from ldarts_lib.settings import Count, Settings, Share, changes, validated


class Small(Settings):
    epochs: Count
    share: Share = 0.5

    @model_validator(mode="after")
    def _consistent(self):
        if self.epochs == 7:
            raise ValueError("7 epochs are too many")
        return self


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "epochs missing"),
        ({"epochs": 0, "share": 1.0}, "epochs = 0: Input .*; share = 1.0: Input"),
        ({"epochs": 1, "sahre": 0}, "unknown setting 'sahre'; the settings are epochs, share"),
        ({"epochs": 7}, "^7 epochs are too many$"),
    ],
)
def test_what_is_wrong_is_named(values, expected):
    with pytest.raises(ProtocolError, match=expected) as caught:
        validated(Small, values)
    assert isinstance(caught.value, LdartsError)


def test_settings_are_frozen_and_compared():
    settings = validated(Small, {"epochs": 3})
    with pytest.raises(ValidationError):
        settings.epochs = 4
    assert changes(settings, Small(epochs=3)) == ""
    assert changes(settings, Small(epochs=5, share=0.1)) == "epochs = 3, share = 0.5"
