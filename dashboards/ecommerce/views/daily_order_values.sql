-- One row a day and class of order value, in the pipeline's time zone: how many
-- orders were sold at `at_least` and more, and less than the next class.
SELECT
    toDate32(t.created_at, {{timezone}}) AS day,
    toInt64(multiIf(
        t.total_amount >= 1000, 1000, t.total_amount >= 500, 500, t.total_amount >= 200, 200,
        t.total_amount >= 100, 100, t.total_amount >= 50, 50, t.total_amount >= 25, 25, 0
    )) AS at_least,
    count() AS orders
FROM {{database}}.order_totals AS t
WHERE t.is_sold = 1 AND t.total_amount IS NOT NULL
GROUP BY day, at_least
ORDER BY day, at_least
SETTINGS {{settings}}
