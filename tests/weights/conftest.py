"""What the tests of weights share."""

import pytest

from weights import matching


@pytest.fixture(scope="session", autouse=True)
def states_are_built_once():
    """Matching compares weights with the same dozens of networks, whose names and shapes stay as they are."""
    kept, build = {}, matching._places

    def places(config, classes):
        key = repr((sorted(dict(config).items()), classes))
        if key not in kept:
            kept[key] = build(config, classes)
        return dict(kept[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "_places", places)
        yield
