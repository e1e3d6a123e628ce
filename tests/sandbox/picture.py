"""What came of it, in the terminal: read from PostgreSQL by SQL, as anybody would."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import namedtuple_row
from rich.progress_bar import ProgressBar
from rich.table import Table

if TYPE_CHECKING:
    from datetime import timedelta

    from rich.console import Console, RenderableType

ANSWERED = """
with asked as (
    select "conversationId" as id, min("createdAt") as at
    from messages
    where author ->> 'type' = 'contact'
    group by 1
), answered as (
    -- The first colleague who answered; if none did, the first bot.
    select distinct on (asked.id)
        asked.id, bot, (author ->> 'id')::bigint as "userId",
        case when not bot then messages."createdAt" - at end as waited
    from asked
    join messages on "conversationId" = asked.id and messages."createdAt" > at
    cross join lateral (select (author ->> 'bot')::boolean as bot) as authors
    where author ->> 'type' = 'user' and type = 'chat'
    order by asked.id, bot, messages."createdAt"
)
"""
MONTHS = (
    ANSWERED
    + """
select
    to_char("createdAt", 'YYYY-MM') as month,
    count(*) as conversations,
    percentile_cont(0.5) within group (order by waited) as median
from conversations
left join answered using (id)
group by 1
order by 1
"""
)
WHO = (
    ANSWERED
    + """
select
    case
        when asked.id is null then '(the visitor said nothing)'
        when answered.id is null then '(nobody yet)'
        else coalesce(users.name, "userId"::text)
    end as name,
    coalesce(users.bot, false) as bot,
    count(*) as conversations,
    percentile_cont(0.5) within group (order by waited) as median
from conversations
left join asked using (id)
left join answered using (id)
left join users on users.id = "userId"
group by 1, 2, asked.id is null, answered.id is null
order by asked.id is null, answered.id is null, 2, 3 desc
"""
)
MONTHS_BESIDE = 12


def draw(console: Console, url: str, schema: str) -> None:
    """Draw the conversations per month, who answered, and how soon.

    Raises:
        psycopg.errors.UndefinedTable: Not all of the tables are there.
        psycopg.errors.UndefinedColumn: They do not have the names of the streams' fields.
    """
    options = f"-c search_path={schema} -c timezone=UTC"
    with psycopg.connect(url, options=options, row_factory=namedtuple_row) as connection:
        months = connection.execute(MONTHS).fetchall()
        who = connection.execute(WHO).fetchall()
    console.print("Conversations by month, and the median time to a colleague's first reply:")
    console.print(_months(months))
    console.print()
    console.print(_who(who))


def _months(rows: list[Any]) -> Table:
    """A year beside the one before."""
    most = max((row.conversations for row in rows), default=1)
    halves = [rows[-2 * MONTHS_BESIDE : -MONTHS_BESIDE], rows[-MONTHS_BESIDE:]]
    halves = [half for half in halves if half]
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    for _ in halves:
        table.add_column("month", style="cyan")
        table.add_column("conversations")
        table.add_column("", justify="right")
        table.add_column("first reply", justify="right")
    for beside in itertools.zip_longest(*halves):
        cells = [_cells(row.month, row, most, 13) if row else [""] * 4 for row in beside]
        table.add_row(*itertools.chain.from_iterable(cells))
    return table


def _who(rows: list[Any]) -> Table:
    most = max((row.conversations for row in rows), default=1)
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    table.add_column("who answered", style="cyan")
    table.add_column("conversations")
    table.add_column("", justify="right")
    table.add_column("first reply", justify="right")
    for row in rows:
        table.add_row(*_cells(row.name, row, most, 30))
    return table


def _cells(name: str, row: Any, most: int, width: int) -> list[RenderableType]:
    number = row.conversations
    bar = ProgressBar(most, number, width, complete_style="green", finished_style="green")
    return [name, bar, f"{number:,}", _short(row.median)]


def _short(time: timedelta | None) -> str:
    """A time as people say it."""
    if time is None:
        return ""
    minutes = time.total_seconds() / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.0f} h"
