"""Every measure, in the order of the table. A new one is a function in a file of this folder, named in its MEASURES."""

from __future__ import annotations

from measures import backlogs, contention, costs, drain, enqueue, idle, order, payloads, raw_inserts, shares, waits

MEASURES = (
    *drain.MEASURES,
    *enqueue.MEASURES,
    *waits.MEASURES,
    *idle.MEASURES,
    *raw_inserts.MEASURES,
    *backlogs.MEASURES,
    *order.MEASURES,
    *shares.MEASURES,
    *payloads.MEASURES,
    *contention.MEASURES,
    *costs.MEASURES,
)
