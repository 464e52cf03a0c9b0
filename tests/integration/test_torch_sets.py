"""Training sets in PyTorch, where it is installed: it is 2 GB, and no part of the environment that tests make."""

import math

import pyarrow as pa
import pytest

from dataset_repo import make_repo
from hindcast.datasets import KeySplits, TrainingSets
from hindcast.errors import InvalidArgument, UnknownName
from offline_repo import hours

torch = pytest.importorskip("torch")

ROWS = 1_000
LATER = hours(24 * 365)

# Ours are threads of DuckDB, Arrow and Feast, none of which the forked workers of a loader use: they hold tensors.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A set of 1,000 rows whose column `number` says which row it is."""
    root = tmp_path_factory.mktemp("torch") / "repo"
    make_repo(root)
    entities = pa.table(
        {
            "driver_id": pa.array([n % 5 for n in range(ROWS)], pa.int64()),
            "event_timestamp": pa.array([hours(1)] * ROWS, pa.timestamp("us", "UTC")),
            "number": pa.array(range(ROWS), pa.int64()),
            "price": pa.array([n / 4 for n in range(ROWS)], pa.float64()).cast(pa.decimal128(10, 2)),
            "is_late": pa.array([None if n % 3 == 2 else n % 3 == 1 for n in range(ROWS)]),
            "city": [f"city {n % 2}" for n in range(ROWS)],
        }
    )
    return TrainingSets(root).build(
        "rides",
        features=["trips:trips", "ratings:rating"],
        entity_frame=entities,
        known_at=LATER,
        splits=KeySplits({"train": 3, "test": 2}, "number", seed=4),
    )


def test_a_set_is_a_dataset_of_tensors(made):
    """Numbers, decimals and booleans are float32 in the order of the columns, nulls NaN; the label is beside them, and text and times are left out."""
    dataset = made.to_torch(label="is_late")
    features, label = dataset[2]
    assert (ROWS, torch.float32, torch.float32) == (len(dataset), features.dtype, label.dtype)
    assert isinstance(dataset, torch.utils.data.Dataset)
    driver, number, price, count, rating = features.tolist()
    assert (2, 2, 0.5, 20, 3.0) == (driver, number, price, count, rating)
    assert [0.0, 1.0] == [dataset[n][1].item() for n in (0, 1)]
    assert math.isnan(label.item())
    assert 1 == len(made.to_torch(columns=["trips"])[0])


def test_loaders_with_workers_give_every_row_once(made):
    """A DataLoader with two workers gives the rows in the set's order in batches, and shuffled by a generator each once, the same for one seed."""
    dataset = made.to_torch(columns=["number"], label="price")
    loader = torch.utils.data.DataLoader(dataset, batch_size=64, num_workers=2)
    batches = [(features[:, 0], label) for features, label in loader]
    assert list(range(ROWS)) == torch.cat([features for features, _ in batches]).int().tolist()
    assert [n / 4 for n in range(ROWS)] == torch.cat([label for _, label in batches]).tolist()

    def shuffled(seed):
        generator = torch.Generator().manual_seed(seed)
        loader = torch.utils.data.DataLoader(dataset, 64, shuffle=True, generator=generator, num_workers=2)
        return torch.cat([features[:, 0] for features, _ in loader]).int().tolist()

    assert (list(range(ROWS)), True, False) == (
        sorted(shuffled(1)),
        shuffled(1) == shuffled(1),
        shuffled(1) == shuffled(2),
    )


def test_splits_and_shuffles_are_those_of_the_set(made):
    """A split has its rows and no other, and `shuffle_seed` the order that it has in every form of the set."""
    by_split = {
        split: made.to_torch(split=split, columns=["number"]).tensors[0][:, 0].int().tolist() for split in made.splits
    }
    assert {split: made.to_arrow(split=split)["number"].to_pylist() for split in made.splits} == by_split
    assert list(range(ROWS)) == sorted(n for rows in by_split.values() for n in rows)
    shuffled = made.to_torch(columns=["number"], shuffle_seed=9).tensors[0][:, 0].int().tolist()
    assert made.to_arrow(shuffle_seed=9)["number"].to_pylist() == shuffled


def test_a_model_is_trained_on_it(made):
    """A linear model learns the label from a split by way of a DataLoader: a quarter of the row's number."""
    torch.manual_seed(0)
    (features, label) = made.to_torch(split="train", columns=["number"], label="price").tensors
    dataset = torch.utils.data.TensorDataset(features / ROWS, label / ROWS)
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(40):
        for given, wanted in torch.utils.data.DataLoader(dataset, batch_size=64, shuffle=True):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(model(given)[:, 0], wanted).backward()
            optimizer.step()
    assert 0.25 == pytest.approx(model.weight.item(), abs=0.01)


def test_what_is_no_number_is_refused(made):
    """Text among the columns, or as the label, is refused by its name; a column that is not there is unknown."""
    for options in ({"columns": ["city"]}, {"label": "city"}):
        with pytest.raises(InvalidArgument, match="city: is string"):
            made.to_torch(**options)
    with pytest.raises(UnknownName):
        made.to_torch(label="nothing")
