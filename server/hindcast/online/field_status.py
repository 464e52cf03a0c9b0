"""Numbers of `feast.serving.FieldStatus` and `hindcast.v1.FeatureStatus` alike: a byte per value of an answer."""

PRESENT, NULL_VALUE, NOT_FOUND, OUTSIDE_MAX_AGE = 1, 2, 3, 4
