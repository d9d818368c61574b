"""The table of records, and the statements on it.

Each statement is atomic at the isolation level READ COMMITTED: a statement that waited for another one looks
at its condition again, with the values that the other one left (PostgreSQL, "Read Committed Isolation
Level"). The time is the server's, so that the clocks of the clients do not matter. It stays the same within a
statement, so that an index on it can be used.
"""

from __future__ import annotations

from pywry_auth.backends.base import LARGEST_VALUE, When

TABLE = "pywry_auth_records"

_PARTS = {
    "table": TABLE,
    "now": "statement_timestamp()",
    "live": "(t.expires IS NULL OR t.expires > statement_timestamp())",
    "ends": "statement_timestamp() + make_interval(secs => %(ttl)s)",
    "value": f"CASE WHEN octet_length(t.value) <= {LARGEST_VALUE} THEN t.value END",
    "small": f"CASE WHEN octet_length(t.value) <= {1 << 16} THEN t.value END",
}


def _sql(text: str, **parts: str) -> str:
    """Return a statement with its parts in the places of their names."""
    return text.format(**_PARTS, **parts)


DDL = (
    _sql(
        "CREATE TABLE IF NOT EXISTS {table} (key bytea PRIMARY KEY, whole_key bytea, value bytea NOT NULL,"
        " member_of bytea, expires timestamptz) WITH (autovacuum_vacuum_scale_factor = 0.05)"
    ),
    _sql("CREATE INDEX IF NOT EXISTS {table}_by_group ON {table} (member_of) WHERE member_of IS NOT NULL"),
    _sql("CREATE INDEX IF NOT EXISTS {table}_by_end ON {table} (expires) WHERE expires IS NOT NULL"),
)
"""The table with its indexes.

``key`` is the prefix and the key. An index accepts about 2,700 bytes, so that a longer key is stored in
``whole_key``, and ``key`` has its digest. ``member_of`` is the group; ``expires`` is NULL for a record
without a lifetime. Most rows are replaced or removed soon, so that the server cleans the table
more often than others.
"""

DDL_LOCK = _sql("SELECT pg_advisory_xact_lock(hashtext('{table}'))")
"""Two processes that create one table at the same moment would collide (in ``pg_type``)."""

GET = _sql("SELECT {value} FROM {table} t WHERE t.key = %(key)s AND {live}")
GET_MANY = _sql("SELECT t.key, {small} FROM {table} t WHERE t.key = ANY(%(keys)s) AND {live}")
"""A large value is NULL here, so that every answer comes in time."""

_INSERT = _sql(
    "INSERT INTO {table} AS t (key, whole_key, value, member_of, expires)"
    " VALUES (%(key)s, %(whole)s, %(value)s, %(group)s, {ends}) ON CONFLICT (key) DO UPDATE"
    " SET value = excluded.value, member_of = excluded.member_of, expires = excluded.expires"
)
_REPLACE = _sql(
    "UPDATE {table} AS t SET value = %(value)s, member_of = %(group)s, expires = {ends}"
    " WHERE t.key = %(key)s AND {live}"
)
_EXPECTED = " AND t.value = %(expected)s"

PUT = {When.ALWAYS: _INSERT, When.ABSENT: _INSERT + _sql(" WHERE NOT {live}"), When.PRESENT: _REPLACE}
COMPARE_AND_PUT = _REPLACE + _EXPECTED
REWRITE = _sql("UPDATE {table} AS t SET value = %(value)s WHERE t.key = %(key)s AND {live}") + _EXPECTED

POP = _sql("DELETE FROM {table} t WHERE t.key = %(key)s AND {live} RETURNING {value}")
COMPARE_AND_POP = _sql(
    "DELETE FROM {table} t WHERE t.key = %(key)s AND {live} AND t.value = %(expected)s RETURNING t.value"
)

# The keys to remove are an array, because for a join the server may read the whole table.
GROUP_LOCK = "SELECT pg_advisory_xact_lock(%(lock)s)"
"""Without it, two transactions would not see each other's new members."""
LIMIT_GROUP = _sql(
    "DELETE FROM {table} WHERE key = ANY(ARRAY(SELECT key FROM {table} WHERE member_of = %(group)s"
    " ORDER BY expires DESC, key OFFSET %(limit)s))"
)
MEMBERS = _sql("SELECT coalesce(t.whole_key, t.key) FROM {table} t WHERE t.member_of = %(group)s AND {live}")
KEYS = _sql(
    "SELECT t.key, coalesce(t.whole_key, t.key) FROM {table} t"
    " WHERE t.key >= %(begin)s AND t.key < %(end)s AND {live} ORDER BY t.key LIMIT %(page)s"
)

_NUMBER = _sql(
    "CASE WHEN {live} AND octet_length(t.value) BETWEEN 1 AND 18 AND encode(t.value, 'escape') ~ '^[0-9]+$'"
    " THEN encode(t.value, 'escape')::bigint ELSE 0 END"
)
COUNT = _sql(
    "INSERT INTO {table} AS t (key, whole_key, value, expires)"
    " VALUES (%(key)s, %(whole)s, '1', {ends}) ON CONFLICT (key) DO UPDATE"
    " SET value = convert_to(({number} + 1)::text, 'UTF8'), member_of = NULL, expires ="
    " CASE WHEN {number} > 0 THEN least(t.expires, excluded.expires) ELSE excluded.expires END"
    " RETURNING convert_from(t.value, 'UTF8')::bigint",
    number=_NUMBER,
)

PRUNE = _sql(
    "DELETE FROM {table} WHERE key = ANY(ARRAY(SELECT key FROM {table}"
    " WHERE key >= %(begin)s AND key < %(end)s"
    " AND expires <= {now} + make_interval(secs => %(within)s) LIMIT %(page)s FOR UPDATE SKIP LOCKED))"
)
SWEEP = _sql(
    "DELETE FROM {table} WHERE key = ANY(ARRAY(SELECT key FROM {table} WHERE expires <= {now}"
    " ORDER BY expires LIMIT %(page)s FOR UPDATE SKIP LOCKED))"
)

RISKS = _sql(
    "SELECT pg_is_in_recovery(), current_setting('fsync'), current_setting('synchronous_commit'),"
    " (SELECT relpersistence::text FROM pg_class WHERE oid = to_regclass('{table}')),"
    " current_setting('statement_timeout'), current_setting('lock_timeout'),"
    " (SELECT relkind IN ('r', 'p') FROM pg_class WHERE oid = to_regclass('{table}')) AND"
    " (SELECT atttypid = 'timestamptz'::regtype FROM pg_attribute"
    " WHERE attrelid = to_regclass('{table}') AND attname = 'expires')"
)
"""The columns that :func:`pywry_auth.backends.postgres_checks.risks` reads."""
