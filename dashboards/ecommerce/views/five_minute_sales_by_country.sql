-- One row five minutes and country with orders: what the executive dashboard adds up
-- for any two moments, since a comparison of days would set a running day against whole
-- ones. `start` is an instant of UTC, with which every zone's hours and days begin.
-- Revenue is not rounded: sums of it are, so that they are right to the cent.
SELECT
    addMinutes(
        toDateTime64(toDate32(t.created_at, 'UTC'), 0, 'UTC'),
        intDiv(60 * toHour(t.created_at, 'UTC') + toMinute(t.created_at, 'UTC'), 5) * 5
    ) AS start,
    ifNull(nullIf(toString(c.country), ''), 'Unknown') AS country,
    count() AS orders,
    countIf(t.is_sold = 1) AS sold_orders,
    ifNull(sumIf(toDecimal128(t.total_amount, 6), t.is_sold = 1), 0) AS revenue,
    countIf(t.is_cancelled = 1) AS cancelled_orders
FROM {{database}}.order_totals AS t
ALL LEFT JOIN (
    SELECT id, toNullable(country) AS country FROM {{database}}.customers_current
) AS c ON c.id = t.customer_id
GROUP BY start, country
ORDER BY start, country
SETTINGS {{settings}}
