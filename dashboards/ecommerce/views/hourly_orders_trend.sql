-- One row for each of the last 24 hours, the running one included, also where
-- nothing was ordered. Hours are those of UTC; the column only carries the
-- pipeline's time zone for display, so days of 23 and 25 hours come out right.
WITH
    {{as_of}} AS as_of,
    toStartOfHour(toDateTime(as_of, 'UTC'), 'UTC') AS last_hour
SELECT
    toTimeZone(h.start, {{timezone}}) AS hour,
    ifNull(t.orders, 0) AS orders,
    ifNull(t.items, 0) AS items,
    ifNull(t.customers, 0) AS customers,
    CAST(round(ifNull(t.revenue, 0), 2) AS Decimal(38, 2)) AS revenue
FROM (
    SELECT subtractHours(last_hour, number) AS start FROM numbers(24)
) AS h
ALL LEFT JOIN (
    SELECT
        toStartOfHour(toDateTime(o.created_at, 'UTC'), 'UTC') AS start,
        count() AS orders,
        sum(ifNull(i.quantity, 0)) AS items,
        uniqExact(o.customer_id) AS customers,
        ifNull(
            sumIf(
                toDecimal128(o.total_amount, 6),
                NOT has([{{cancelled_statuses}}], ifNull(toString(o.status), ''))
                AND NOT has([{{refunded_statuses}}], ifNull(toString(o.status), ''))
            ),
            0
        ) AS revenue
    FROM {{database}}.orders_current AS o
    ALL LEFT JOIN (
        SELECT order_id, sum(toInt64(quantity)) AS quantity
        FROM {{database}}.order_items_current
        WHERE order_id IN (
            SELECT id
            FROM {{database}}.orders_current
            WHERE created_at >= subtractHours(last_hour, 23) AND created_at < addHours(last_hour, 1)
        )
        GROUP BY order_id
    ) AS i ON i.order_id = o.id
    WHERE o.created_at >= subtractHours(last_hour, 23) AND o.created_at < addHours(last_hour, 1)
    GROUP BY start
) AS t ON t.start = h.start
ORDER BY hour
SETTINGS {{settings}}
