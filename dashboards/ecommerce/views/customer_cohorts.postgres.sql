SELECT
    f.cohort,
    ((extract(year FROM m.month) - extract(year FROM f.cohort)) * 12
        + extract(month FROM m.month) - extract(month FROM f.cohort))::bigint AS months_later,
    count(*) AS customers
FROM (
    SELECT DISTINCT customer_id, date_trunc('month', created_at AT TIME ZONE {{timezone}})::date AS month
    FROM orders
    WHERE customer_id IS NOT NULL
) m
JOIN (
    SELECT customer_id, date_trunc('month', min(created_at AT TIME ZONE {{timezone}}))::date AS cohort
    FROM orders
    WHERE customer_id IS NOT NULL
    GROUP BY customer_id
) f ON f.customer_id = m.customer_id
GROUP BY 1, 2
ORDER BY 1, 2
