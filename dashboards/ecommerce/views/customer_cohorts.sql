-- One row a month of first orders and month since: how many of those customers
-- ordered again in it. Months are calendar months in the pipeline's time zone.
SELECT
    f.cohort AS cohort,
    dateDiff('month', f.cohort, m.month) AS months_later,
    count() AS customers
FROM (
    SELECT DISTINCT
        assumeNotNull(o.customer_id) AS customer_id,
        addDays(toDate32(o.created_at, {{timezone}}), 1 - toDayOfMonth(toDate32(o.created_at, {{timezone}}))) AS month
    FROM {{database}}.order_totals AS o
    WHERE o.customer_id IS NOT NULL
) AS m
ALL INNER JOIN (
    SELECT
        assumeNotNull(b.customer_id) AS customer_id,
        addDays(min(toDate32(b.created_at, {{timezone}})), 1 - toDayOfMonth(min(toDate32(b.created_at, {{timezone}})))) AS cohort
    FROM {{database}}.order_totals AS b
    WHERE b.customer_id IS NOT NULL
    GROUP BY customer_id
) AS f ON f.customer_id = m.customer_id
GROUP BY cohort, months_later
ORDER BY cohort, months_later
SETTINGS {{settings}}
