SELECT
    p.period,
    p.month,
    count(o.id) AS orders,
    coalesce(sum(i.quantity), 0) AS items,
    count(DISTINCT o.customer_id) AS customers,
    round(coalesce(sum(o.total_amount) FILTER (WHERE coalesce(o.status::text, '') <> ALL (
        ARRAY[{{cancelled_statuses}}]::text[] || ARRAY[{{refunded_statuses}}]::text[]
    )), 0), 2) AS revenue
FROM (
    SELECT {{as_of}}::timestamptz AS at, {{as_of}}::timestamptz AT TIME ZONE {{timezone}} AS local
) n
CROSS JOIN LATERAL (
    VALUES
        ('last_month', (date_trunc('month', n.local) - interval '1 month')::date),
        ('last_month_by_then', (date_trunc('month', n.local) - interval '1 month')::date),
        ('this_month', date_trunc('month', n.local)::date)
) AS p (period, month)
LEFT JOIN orders o
    ON date_trunc('month', o.created_at AT TIME ZONE {{timezone}})::date = p.month
    AND o.created_at <= n.at
    AND (
        p.period <> 'last_month_by_then'
        OR (extract(day FROM o.created_at AT TIME ZONE {{timezone}}),
            date_trunc('second', o.created_at AT TIME ZONE {{timezone}})::time)
            <= (extract(day FROM n.local), date_trunc('second', n.local)::time)
    )
LEFT JOIN LATERAL (SELECT sum(quantity) AS quantity FROM order_items WHERE order_id = o.id) i ON true
GROUP BY 1, 2
ORDER BY 1
