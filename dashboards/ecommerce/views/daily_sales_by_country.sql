-- One row a day and country with orders, in the pipeline's time zone: what the
-- executive dashboard adds up, whatever days and countries are chosen.
SELECT
    toDate32(t.created_at, {{timezone}}) AS day,
    ifNull(nullIf(toString(c.country), ''), 'Unknown') AS country,
    count() AS orders,
    sum(t.items) AS items,
    countIf(t.is_sold = 1) AS sold_orders,
    CAST(round(ifNull(sumIf(toDecimal128(t.total_amount, 6), t.is_sold = 1), 0), 2) AS Decimal(38, 2)) AS revenue,
    countIf(t.is_cancelled = 1) AS cancelled_orders
FROM {{database}}.order_totals AS t
ALL LEFT JOIN (
    SELECT id, toNullable(country) AS country FROM {{database}}.customers_current
) AS c ON c.id = t.customer_id
GROUP BY day, country
ORDER BY day, country
SETTINGS {{settings}}
