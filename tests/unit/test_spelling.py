"""Hints for names that there are not."""

from hindcast.spelling import hint_of


def test_names_that_are_near():
    """Up to three near names are offered, the nearest first."""
    assert "did you mean 'rides'?" == hint_of("ride", ["rides", "fares"], none="nothing")
    names = ["driver", "driver_day", "driver_week", "driver_year", "city"]
    assert "did you mean 'driver_year' or 'driver_week' or 'driver_day'?" == hint_of(
        "driver_wear", names, none="nothing"
    )


def test_names_where_none_is_near():
    """Where none is near, ten of those that there are and how many more; without any, what the caller says."""
    assert "there are a, b" == hint_of("xyz", ["b", "a", "a"], none="nothing")
    many = [f"n{number:02}" for number in range(25)]
    assert f"there are {', '.join(many[:10])} and 15 more" == hint_of("xyz", many, none="nothing")
    assert "nothing" == hint_of("xyz", [], none="nothing")


def test_a_name_of_any_length_is_looked_at_quickly():
    """Of a name of megabytes its beginning is compared."""
    assert "there are rides" == hint_of("x" * 10_000_000, ["rides"], none="nothing")
