"""Write the data behind `feature_repo/`: a payments company's last weeks, with what real data has in it.

    python demo/generate.py --repo feature_repo

The same seed and end give the same bytes. Payments come first; the features are written around them, as a stream and a
nightly batch would; then each table's way into storage is played: rows that arrive late, corrections that share an event
time, exact duplicates, nulls. Nothing is dated after `end`, neither an event nor its arrival.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Rng: TypeAlias = np.random.Generator

# All times below are whole microseconds since 1970, the resolution of the files.
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

ACCOUNTS_MIN = 40  # below this the pairs that run together do not exist
LABELS = 2_000
STRANGERS = 12  # label rows whose account, merchant or device no table has

LATE_SHARE = 0.03
CORRECTED_SHARE = 0.02
DUPLICATE_SHARE = 0.01
NULL_SHARE = 0.03

# Joined without a length these two are the same text, "123": a key that forgets the border mixes the two histories.
RUN_TOGETHER = (("1", "23"), ("12", "3"))

# Composed and decomposed "ë" are two keys; so are the space, the braces and the colon that key formats like to use themselves.
ODD_ACCOUNTS = ("zo\u00eb", "zoe\u0308", "口座-9", "счёт 12", "konto{7}:a", "حساب", "🦊", " 7")
ODD_MERCHANTS = ("café №5", "雑貨店", "a|b")
NAMES = ("Ada", "Zoë", "Łukasz", "Søren", "Nguyễn", "明美", "Ольга", "يوسف", "🦊 Ltd", "O'Neil; --", "")
COUNTRIES = np.array(["DE", "FR", "PL", "GB", "US", "JP", "BR", "NG"], dtype=object)
CATEGORIES = np.array(["groceries", "travel", "games", "électronique", "gift cards"], dtype=object)
MODELS = np.array(["Pixel 9", "iPhone 16", "Galaxy S25", "Firefox/Linux", "generic x86"], dtype=object)


@dataclass(frozen=True, slots=True)
class TableReport:
    """One written file: how many rows, and how many of them are there to make trouble."""

    name: str
    rows: int
    late: int
    corrections: int
    duplicates: int


@dataclass(frozen=True, slots=True)
class LiveEntity:
    """The keys of a payment under way at `end`: every view has a fresh row for them."""

    account_id: str
    merchant_id: str
    device_id: int


@dataclass(frozen=True, slots=True)
class Report:
    """What `generate` wrote; paths are `data/<name>.parquet` under the repo."""

    end: datetime
    tables: tuple[TableReport, ...]
    labels: int
    frauds: int
    live: tuple[LiveEntity, ...]


@dataclass(frozen=True, slots=True)
class World:
    """Who there is, and how risky each one truly is. Position i of an array is entity number i."""

    account_ids: Sequence[str]
    merchant_ids: Sequence[str]
    device_ids: Ints
    account_risk: Floats
    account_mean: Floats
    account_home: Ints
    merchant_risk: Floats
    merchant_home: Ints
    device_risk: Floats


@dataclass(frozen=True, slots=True)
class Payments:
    """All payments in order of time, as positions in the `World`; the last `live` of them are under way at the end."""

    at: Ints
    account: Ints
    merchant: Ints
    device: Ints
    amount: Floats
    card_country: Ints
    fraud: Bools
    live: int


def generate(repo_dir: Path, *, accounts: int = 2_000, days: int = 30, seed: int = 7, end: datetime) -> Report:
    """Write every Parquet file of the repo, and `labels.parquet`, an entity frame for training.

    Args:
        repo_dir: the Feast repo; files go to its `data` folder, which is made if missing. Older files are replaced.
        accounts: how many accounts there are, at least 40; the other tables grow with them.
        days: how far back the history goes, at least 2.
        seed: the choice among all possible worlds.
        end: the present of the data, an aware time. No row is later.

    Returns:
        What was written.

    Raises:
        ValueError: an argument is out of its range; nothing was written.
    """
    if accounts < ACCOUNTS_MIN:
        raise ValueError(f"accounts is {accounts}; use at least {ACCOUNTS_MIN}, or keys that run together do not exist")
    if days < 2:
        raise ValueError(f"days is {days}; use at least 2, or the daily tables have no history")
    if end.tzinfo is None:
        raise ValueError("end has no time zone; write it as 2026-01-31T12:00:00+00:00")

    end = end.astimezone(UTC)
    end_us = int(end.timestamp()) * SECOND + end.microsecond
    start_us = end_us - days * DAY

    def rng(step: int) -> Rng:
        # One stream of numbers per table, so that a change to one table leaves the bytes of the others alone.
        return np.random.default_rng((seed, step))

    world = make_world(rng(0), accounts=accounts)
    payments = make_payments(rng(1), world, start_us=start_us, end_us=end_us)
    tables = [
        ("account_profile", account_profile(rng(2), world, start_us=start_us, end_us=end_us), "cr_limit", "UTC"),
        ("account_activity", account_activity(rng(3), world, start_us=start_us, end_us=end_us), "payments_7d", "UTC"),
        ("account_velocity", account_velocity(rng(4), world, payments), "amount_10m", "UTC"),
        (
            "merchant_stats",
            merchant_stats(rng(5), world, start_us=start_us, end_us=end_us),
            "chargeback_rate_30d",
            None,
        ),
        ("account_merchant", account_merchant(rng(6), world, payments, start_us=start_us), "last_amount", "UTC"),
        ("device_signals", device_signals(rng(7), world, payments), None, "UTC"),
        ("platform_risk", platform_risk(rng(8), start_us=start_us, end_us=end_us), "fraud_rate_24h", "UTC"),
    ]
    data_dir = repo_dir / "data"
    data_dir.mkdir(parents=True, exist_ok=True)
    reports = []
    for step, (name, facts, corrected, zone) in enumerate(tables, start=20):
        stored, report = store(rng(step), name, facts, corrected=corrected, end_us=end_us, zone=zone)
        pq.write_table(stored, data_dir / f"{name}.parquet", row_group_size=50_000)
        reports.append(report)

    labels = make_labels(rng(9), world, payments)
    pq.write_table(labels, data_dir / "labels.parquet")
    return Report(
        end=end,
        tables=tuple(reports),
        labels=labels.num_rows,
        frauds=pc.sum(labels["is_fraud"]).as_py(),
        live=tuple(
            LiveEntity(
                account_id=world.account_ids[payments.account[i]],
                merchant_id=world.merchant_ids[payments.merchant[i]],
                device_id=int(world.device_ids[payments.device[i]]),
            )
            for i in range(len(payments.at) - payments.live, len(payments.at))
        ),
    )


def make_world(rng: Rng, *, accounts: int) -> World:
    """Draw the entities. Most keys are the decimal numbers from 1, so pairs of them run together by themselves."""
    merchants = max(30, accounts // 20)
    numbered = [str(i + 1) for i in range(accounts - len(ODD_ACCOUNTS))]
    shops = [str(i + 1) for i in range(merchants - len(ODD_MERCHANTS))]
    return World(
        account_ids=[*numbered, *ODD_ACCOUNTS],
        merchant_ids=[*shops, *ODD_MERCHANTS],
        # Above 2**53 a float no longer holds every integer.
        device_ids=rng.integers(2**53, 2**63 - 1, size=accounts, dtype=np.int64),
        account_risk=rng.beta(1.2, 8, size=accounts),
        account_mean=np.exp(rng.normal(3.5, 0.8, size=accounts)),
        account_home=rng.integers(0, len(COUNTRIES), size=accounts),
        merchant_risk=rng.beta(1.2, 12, size=merchants),
        merchant_home=rng.integers(0, len(COUNTRIES), size=merchants),
        device_risk=rng.beta(1, 10, size=accounts),
    )


def make_payments(rng: Rng, world: World, *, start_us: int, end_us: int) -> Payments:
    """Draw who paid whom, when, how much, and whether it was fraud."""
    accounts, merchants = len(world.account_ids), len(world.merchant_ids)
    past, live = max(4 * accounts, LABELS), accounts // 4
    pairs = [(world.account_ids.index(a), world.merchant_ids.index(m)) for a, m in RUN_TOGETHER]
    # Under way at the end: the pairs that run together, the odd keys, then anybody; nobody twice, so that rows that share
    # all their times are the same row (Feast leaves the choice between two to chance).
    known = [a for a, _ in pairs] + [world.account_ids.index(a) for a in ODD_ACCOUNTS]
    others = np.setdiff1d(np.arange(accounts), known)
    now = np.concatenate([known, rng.permutation(others)])[:live].astype(np.int64)
    account = np.concatenate([rng.integers(0, accounts, size=past), now])
    # An account keeps to four shops, or no pair would have a history.
    merchant = (account * 7 + rng.integers(0, 4, size=past + live) * 13) % merchants
    at = np.concatenate([rng.integers(start_us, end_us - HOUR, size=past), np.full(live, end_us)])
    for place in range(4):  # each pair has paid twice
        account[place], merchant[place] = pairs[place % 2]
    merchant[past : past + 2] = [m for _, m in pairs]

    order = np.argsort(at, kind="stable")
    account, merchant, at = account[order], merchant[order], at[order]
    size = len(at)
    # One past payment in twenty came from somebody else's device.
    borrowed = (rng.random(size) < 0.05) & (np.arange(size) < past)
    device = np.where(borrowed, rng.integers(0, accounts, size=size), account)
    amount = np.round(world.account_mean[account] * np.exp(rng.normal(0, 0.7, size=size)), 2)
    abroad = rng.random(size) < 0.1
    card_country = np.where(abroad, rng.integers(0, len(COUNTRIES), size=size), world.account_home[account])
    odds = (
        -6.0
        + 9 * world.account_risk[account]
        + 9 * world.merchant_risk[merchant]
        + 9 * world.device_risk[device]
        + 1.2 * np.log(amount / world.account_mean[account])
        + 1.0 * (card_country != world.account_home[account])
    )
    fraud = rng.random(size) < 1 / (1 + np.exp(-odds))
    return Payments(
        at=at,
        account=account,
        merchant=merchant,
        device=device,
        amount=amount,
        card_country=card_country,
        fraud=fraud,
        live=live,
    )


def account_profile(rng: Rng, world: World, *, start_us: int, end_us: int) -> pa.Table:
    """One row per account from before the history, and one for each later change."""
    accounts = len(world.account_ids)
    changes = rng.poisson(1.0, size=accounts)
    account = np.concatenate([np.arange(accounts), np.repeat(np.arange(accounts), changes)])
    size = len(account)
    opened = start_us - rng.integers(DAY, 3_000 * DAY, size=accounts)
    # The profile's first row is younger than the account, and older than the first payment.
    event = np.concatenate(
        [start_us - rng.integers(1, DAY, size=accounts), rng.integers(start_us, end_us, size=size - accounts)]
    )
    risk = np.clip(world.account_risk[account] + rng.normal(0, 0.05, size=size), 0, 1)
    return pa.table(
        {
            "event_ts": event,
            "created_ts": event + rng.integers(SECOND, 5 * MINUTE, size=size),
            "account_id": take(world.account_ids, account),
            "country": nulls(rng, strings(COUNTRIES[world.account_home[account]])),
            "display_name": nulls(rng, strings([NAMES[a % len(NAMES)] for a in account])),
            "opened_at": nulls(rng, pa.array(opened[account] // SECOND * SECOND, pa.timestamp("us", "UTC"))),
            "kyc_level": nulls(rng, pa.array(rng.integers(0, 4, size=size), pa.int32())),
            "lifetime_payments": nulls(rng, pa.array(rng.integers(0, 50_000, size=size))),
            "is_business": nulls(rng, pa.array(rng.random(size) < 0.1)),
            "risk_score": nulls(rng, pa.array(risk.astype(np.float32))),
            "cr_limit": nulls(rng, pa.array(np.round(world.account_mean[account] * rng.uniform(5, 50, size=size), -1))),
            "document_hash": nulls(rng, digests(rng, size)),
        }
    )


def account_activity(rng: Rng, world: World, *, start_us: int, end_us: int) -> pa.Table:
    """A row per account and day, each account at its own hour, the last one within a day of the end."""
    accounts = len(world.account_ids)
    hour = rng.integers(0, DAY, size=accounts)
    days = (end_us - start_us) // DAY
    account = np.tile(np.arange(accounts), days)
    event = end_us - hour[account] - np.repeat(np.arange(days), accounts) * DAY
    size = len(account)
    mean = world.account_mean[account] * np.exp(rng.normal(0, 0.1, size=size))
    counts = rng.poisson(6, size=size)
    recent = np.minimum(counts, 5)
    return pa.table(
        {
            "event_ts": event,
            "created_ts": event + rng.integers(MINUTE, HOUR, size=size),
            "account_id": take(world.account_ids, account),
            "payments_7d": nulls(rng, pa.array(counts)),
            "amount_mean_7d": nulls(rng, pa.array(np.where(counts > 0, mean, 0.0))),
            "amount_max_7d": nulls(rng, pa.array(np.where(counts > 0, mean * rng.uniform(1, 6, size=size), 0.0))),
            "recent_amounts": lists(rng, recent, pa.array(np.round(np.exp(rng.normal(3.5, 1, size=recent.sum())), 2))),
            "recent_countries": lists(rng, recent, strings(rng.choice(COUNTRIES, size=recent.sum()))),
            "hourly_counts": lists(rng, np.full(size, 24), pa.array(rng.poisson(0.4, size=24 * size), pa.int32())),
        }
    )


def account_velocity(rng: Rng, world: World, payments: Payments) -> pa.Table:
    """A row in the five minutes before each payment, or at its very instant."""
    size = len(payments.at)
    event = payments.at - moments_before(rng, size, 5 * MINUTE)
    count = 1 + rng.poisson(np.where(payments.fraud, 4.0, 0.7))
    return pa.table(
        {
            "event_ts": event,
            "created_ts": np.minimum(event + rng.integers(0, 3 * SECOND, size=size), payments.at),
            "account_id": take(world.account_ids, payments.account),
            "payments_10m": nulls(rng, pa.array(count, pa.int32())),
            "amount_10m": nulls(rng, pa.array(np.round(count * payments.amount, 2))),
            "declined_10m": nulls(rng, pa.array(rng.binomial(count, 0.1 + 0.3 * payments.fraud), pa.int32())),
        }
    )


def merchant_stats(rng: Rng, world: World, *, start_us: int, end_us: int) -> pa.Table:
    """A row per merchant and day, true at midnight, known when the export ran a few hours later."""
    merchants = len(world.merchant_ids)
    midnights: Ints = np.arange(start_us // DAY * DAY, end_us - 6 * HOUR, DAY)
    merchant = np.tile(np.arange(merchants), len(midnights))
    event: Ints = np.repeat(midnights, merchants)
    size = len(merchant)
    onboarded = (start_us - rng.integers(DAY, 2_000 * DAY, size=merchants)) // SECOND * SECOND
    return pa.table(
        {
            "event_ts": event,
            "created_ts": event + rng.integers(3 * HOUR, 6 * HOUR, size=size),
            "merchant_id": take(world.merchant_ids, merchant),
            "category": nulls(rng, strings(CATEGORIES[merchant % len(CATEGORIES)])),
            "merchant_country": nulls(rng, strings(COUNTRIES[world.merchant_home[merchant]])),
            "payments_30d": nulls(rng, pa.array(rng.poisson(4_000, size=size))),
            "chargeback_rate_30d": nulls(
                rng, pa.array(world.merchant_risk[merchant] * rng.uniform(0.05, 0.1, size=size))
            ),
            "onboarded_at": nulls(rng, pa.array(onboarded[merchant], pa.timestamp("us", "UTC"))),
        }
    )


def account_merchant(rng: Rng, world: World, payments: Payments, *, start_us: int) -> pa.Table:
    """A row from before the history for each pair, then one a second after each of its payments, counting them."""
    pair, first, of = np.unique(
        payments.account * len(world.merchant_ids) + payments.merchant, return_index=True, return_inverse=True
    )
    done = len(payments.at) - payments.live  # a payment under way is no history yet
    visit = np.argsort(of[:done], kind="stable")
    group_starts: Ints = np.searchsorted(of[:done][visit], np.arange(len(pair)))
    number: Ints = np.empty(done, dtype=np.int64)
    number[visit] = np.arange(done) - group_starts[of[:done][visit]] + 1

    event = np.concatenate([start_us - rng.integers(1, DAY, size=len(pair)), payments.at[:done] + SECOND])
    account = np.concatenate([payments.account[first], payments.account[:done]])
    merchant = np.concatenate([payments.merchant[first], payments.merchant[:done]])
    count = np.concatenate([np.zeros(len(pair), dtype=np.int64), number])
    amount = np.concatenate([payments.amount[first], payments.amount[:done]])
    disputes = np.concatenate([np.zeros(len(pair), dtype=np.int64), payments.fraud[:done]])
    size = len(event)
    return pa.table(
        {
            "event_ts": event,
            "created_ts": event + rng.integers(SECOND, MINUTE, size=size),
            "account_id": take(world.account_ids, account),
            "merchant_id": take(world.merchant_ids, merchant),
            "payments_90d": nulls(rng, pa.array(count)),
            "disputes_90d": nulls(rng, pa.array(disputes, pa.int32())),
            "last_amount": nulls(rng, pa.array(amount)),
            "is_trusted": nulls(rng, pa.array((count > 1) & (disputes == 0))),
        }
    )


def device_signals(rng: Rng, world: World, payments: Payments) -> pa.Table:
    """A row in the hour before each payment, from the device that then paid."""
    size = len(payments.at)
    event = payments.at - moments_before(rng, size, HOUR)
    emulator = rng.random(size) < np.clip(3 * world.device_risk[payments.device], 0, 0.9)
    hashes, certificates, checks, logins = (rng.integers(0, high, size=size) for high in (4, 3, 6, 5))
    login = np.repeat(event, logins) - rng.integers(MINUTE, 5 * DAY, size=logins.sum())
    return pa.table(
        {
            "event_ts": event,
            "created_ts": np.minimum(event + rng.integers(0, 30 * SECOND, size=size), payments.at),
            "device_id": pa.array(world.device_ids[payments.device]),
            "is_emulator": nulls(rng, pa.array(emulator)),
            "model": nulls(rng, strings(MODELS[payments.device % len(MODELS)])),
            "motion_embedding": lists(rng, np.full(size, 8), pa.array(rng.normal(size=8 * size).astype(np.float32))),
            "account_hashes": lists(rng, hashes, pa.array(rng.integers(-(2**63), 2**63 - 1, size=hashes.sum()))),
            "certificate_hashes": lists(rng, certificates, digests(rng, certificates.sum())),
            "check_results": lists(rng, checks, pa.array(rng.random(checks.sum()) < 0.8)),
            "login_times": lists(rng, logins, pa.array(login // SECOND * SECOND, pa.timestamp("us", "UTC"))),
        }
    )


def platform_risk(rng: Rng, *, start_us: int, end_us: int) -> pa.Table:
    """A row an hour, up to the end."""
    event: Ints = np.arange(end_us, start_us, -HOUR)[::-1]
    size = len(event)
    return pa.table(
        {
            "event_ts": event,
            "created_ts": np.minimum(event + rng.integers(SECOND, 10 * MINUTE, size=size), end_us),
            "fraud_rate_24h": nulls(
                rng, pa.array(np.clip(0.01 + np.cumsum(rng.normal(0, 2e-4, size=size)), 1e-3, None))
            ),
            "blocked_payments_24h": nulls(rng, pa.array(rng.poisson(120, size=size))),
            "usd_rate": nulls(rng, pa.array(1.08 + np.cumsum(rng.normal(0, 5e-4, size=size)))),
        }
    )


def make_labels(rng: Rng, world: World, payments: Payments) -> pa.Table:
    """2,000 past payments in order of time: keys, the request's own data and the outcome; a few keys nobody has."""
    done = len(payments.at) - payments.live
    chosen = np.sort(rng.choice(done, size=LABELS, replace=False))
    account_ids = take(world.account_ids, payments.account[chosen]).to_pylist()
    merchant_ids = take(world.merchant_ids, payments.merchant[chosen]).to_pylist()
    device_ids = world.device_ids[payments.device[chosen]]
    for turn, place in enumerate(rng.choice(LABELS, size=STRANGERS, replace=False)):
        if turn % 3 == 0:
            account_ids[place] = f"unknown-{turn}"
        elif turn % 3 == 1:
            merchant_ids[place] = f"unknown-{turn}"
        else:
            device_ids[place] = turn
    return pa.table(
        {
            "event_timestamp": pa.array(payments.at[chosen], pa.timestamp("us", "UTC")),
            "account_id": pa.array(account_ids, pa.string()),
            "merchant_id": pa.array(merchant_ids, pa.string()),
            "device_id": pa.array(device_ids),
            "amount": pa.array(payments.amount[chosen]),
            "card_country": nulls(rng, strings(COUNTRIES[payments.card_country[chosen]])),
            "is_fraud": pa.array(payments.fraud[chosen]),
        }
    )


def store(
    rng: Rng, name: str, facts: pa.Table, *, corrected: str | None, end_us: int, zone: str | None
) -> tuple[pa.Table, TableReport]:
    """Play how true rows become stored rows, in order of arrival.

    Args:
        rng: the table's own stream of numbers.
        name: the table's name, for the report.
        facts: one row per fact; `event_ts` and `created_ts` are whole microseconds.
        corrected: the column a correction changes; None means that this table is never corrected.
        end_us: an arrival after this moves no row: late rows and corrections are drawn among those old enough.
        zone: the time zone written into the timestamp columns' type; None writes columns without one, in UTC.

    Returns:
        The table as stored, and its counts.
    """
    event = facts["event_ts"].to_numpy()
    created = np.minimum(facts["created_ts"].to_numpy(), end_us)
    # A row waits its usual time, at most six hours, and up to `span` on top, and must still arrive by the end.
    span = 3 * DAY if end_us - event.min() > 5 * DAY else DAY // 4
    old_enough = event < end_us - span - DAY // 4

    late = some(rng, old_enough, LATE_SHARE)
    created = created + np.where(late, rng.integers(2 * HOUR, span, size=facts.num_rows), 0)
    table = facts.set_column(1, "created_ts", pa.array(created))

    corrections = table.slice(0, 0)
    if corrected is not None:
        again = some(rng, old_enough & ~late, CORRECTED_SHARE)
        corrections = table.filter(pa.array(again))
        arrival = pc.add(corrections["created_ts"], pa.array(rng.integers(MINUTE, span, size=corrections.num_rows)))
        values = corrections[corrected]
        values = pc.multiply(values, 1.05) if pa.types.is_floating(values.type) else pc.add(values, 1)
        corrections = corrections.set_column(1, "created_ts", arrival)
        corrections = corrections.set_column(corrections.column_names.index(corrected), corrected, values)
        table = pa.concat_tables([table, corrections])
    copies = table.filter(pa.array(some(rng, np.full(table.num_rows, fill_value=True), DUPLICATE_SHARE)))
    table = pa.concat_tables([table, copies])

    order = np.argsort(table["created_ts"].to_numpy(), kind="stable")
    table = table.take(pa.array(order))
    for place, column in enumerate(("event_ts", "created_ts")):
        table = table.set_column(place, column, table[column].cast(pa.timestamp("us", zone)))
    return table, TableReport(
        name=name,
        rows=table.num_rows,
        late=int(late.sum()),
        corrections=corrections.num_rows,
        duplicates=copies.num_rows,
    )


def moments_before(rng: Rng, size: int, span_us: int) -> Ints:
    """How long before its payment each row was true; one in fifty at the same instant, which a lookup must still see."""
    return np.where(rng.random(size) < 0.02, 0, rng.integers(SECOND, span_us, size=size))


def take(names: Sequence[str], places: Ints) -> pa.Array:
    """The names at these places, as plain text."""
    return pa.array(names, pa.string()).take(pa.array(places))


def strings(values: npt.ArrayLike) -> pa.Array:
    """A text column."""
    return pa.array(np.asarray(values, dtype=object), pa.string())


def digests(rng: Rng, size: int) -> pa.Array:
    """Raw bytes, 16 a value, zero bytes and broken UTF-8 among them."""
    raw = pa.py_buffer(rng.bytes(16 * size))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), size, [None, raw]).cast(pa.binary())


def lists(rng: Rng, lengths: Ints, values: pa.Array) -> pa.Array:
    """A list column: some lists empty, some null, none with a null inside (Feast's protobuf has no place for one)."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return nulls(rng, pa.ListArray.from_arrays(pa.array(offsets), values))


def nulls(rng: Rng, values: pa.Array) -> pa.Array:
    """The same values with a few missing."""
    missing = some(rng, np.full(len(values), fill_value=True), NULL_SHARE)
    return pc.if_else(pa.array(missing), pa.scalar(None, values.type), values)


def some(rng: Rng, candidates: Bools, share: float) -> Bools:
    """A share of the candidates, at least one: a small world has every oddity too."""
    places = np.flatnonzero(candidates)
    chosen: Bools = np.zeros(len(candidates), dtype=np.bool_)
    chosen[rng.choice(places, size=max(1, round(share * len(places))), replace=False)] = True
    return chosen


def main() -> None:
    """Read the command line, generate, and say what was written."""
    parser = argparse.ArgumentParser(description="Write the demo's Parquet files into a Feast repo.")
    parser.add_argument("--repo", type=Path, required=True, help="the Feast repo; files go to its data folder")
    parser.add_argument("--accounts", type=int, default=2_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--seed", type=int, default=7)
    # The minute, not the hour: a view that lives for ten minutes would be stale most of the time.
    parser.add_argument(
        "--end",
        type=datetime.fromisoformat,
        default=datetime.now(tz=UTC).replace(second=0, microsecond=0),
        help="the data's present, ISO 8601 with a time zone; the current minute if not given",
    )
    asked = parser.parse_args()
    try:
        report = generate(asked.repo, accounts=asked.accounts, days=asked.days, seed=asked.seed, end=asked.end)
    except ValueError as error:
        parser.error(str(error))
    print(f"{'file':<18}{'rows':>8}{'late':>7}{'corrected':>11}{'duplicate':>11}")
    for table in report.tables:
        print(f"{table.name:<18}{table.rows:>8}{table.late:>7}{table.corrections:>11}{table.duplicates:>11}")
    print(f"labels: {report.labels} rows, {report.frauds} of them fraud; end {report.end.isoformat()}")


if __name__ == "__main__":
    main()
