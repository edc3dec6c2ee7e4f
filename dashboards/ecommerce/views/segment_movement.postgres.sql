SELECT m.before, m.now, count(*) AS customers
FROM (
    SELECT
        CASE
            WHEN c.created_at > e.earlier THEN 'Joined'
            WHEN coalesce(t.orders_before, 0) = 0 THEN 'New'
            WHEN e.day - (t.last_before AT TIME ZONE {{timezone}})::date >= {{lapsed_days}} THEN 'Lapsed'
            WHEN e.day - (t.last_before AT TIME ZONE {{timezone}})::date >= {{at_risk_days}} THEN 'AtRisk'
            WHEN t.revenue_before >= {{vip_revenue}} THEN 'Vip'
            WHEN t.orders_before >= {{loyal_orders}} THEN 'Loyal'
            WHEN e.day - (t.first_order_at AT TIME ZONE {{timezone}})::date < {{new_days}} THEN 'New'
            ELSE 'Active'
        END AS before,
        CASE
            WHEN t.last_order_at IS NULL THEN 'New'
            WHEN e.today - (t.last_order_at AT TIME ZONE {{timezone}})::date >= {{lapsed_days}} THEN 'Lapsed'
            WHEN e.today - (t.last_order_at AT TIME ZONE {{timezone}})::date >= {{at_risk_days}} THEN 'AtRisk'
            WHEN t.revenue >= {{vip_revenue}} THEN 'Vip'
            WHEN t.orders >= {{loyal_orders}} THEN 'Loyal'
            WHEN e.today - (t.first_order_at AT TIME ZONE {{timezone}})::date < {{new_days}} THEN 'New'
            ELSE 'Active'
        END AS now
    FROM customers c
    CROSS JOIN (
        SELECT
            n.earlier,
            (n.earlier AT TIME ZONE {{timezone}})::date AS day,
            ({{as_of}}::timestamptz AT TIME ZONE {{timezone}})::date AS today
        FROM (
            SELECT ({{as_of}}::timestamptz AT TIME ZONE 'UTC' - make_interval(days => {{movement_days}})) AT TIME ZONE 'UTC'
                AS earlier
        ) n
    ) e
    LEFT JOIN LATERAL (
        SELECT
            count(*) AS orders,
            count(*) FILTER (WHERE o.created_at <= e.earlier) AS orders_before,
            round(coalesce(sum(o.total_amount) FILTER (WHERE s.sold), 0), 2) AS revenue,
            round(coalesce(sum(o.total_amount) FILTER (WHERE s.sold AND o.created_at <= e.earlier), 0), 2) AS revenue_before,
            max(o.created_at) AS last_order_at,
            max(o.created_at) FILTER (WHERE o.created_at <= e.earlier) AS last_before,
            min(o.created_at) AS first_order_at
        FROM orders o
        CROSS JOIN LATERAL (
            SELECT coalesce(o.status::text, '') <> ALL (
                ARRAY[{{cancelled_statuses}}]::text[] || ARRAY[{{refunded_statuses}}]::text[]
            ) AS sold
        ) s
        WHERE o.customer_id = c.id
    ) t ON true
) m
GROUP BY 1, 2
ORDER BY 1, 2
