SELECT
    m.customer_id,
    m.name,
    m.email,
    m.country,
    m.orders,
    m.items,
    m.revenue,
    round(div(m.revenue * 1000, nullif(m.sold_orders, 0)) / 1000, 2) AS average_order_value,
    m.first_order_at,
    m.last_order_at,
    m.days_since_last_order,
    CASE
        WHEN m.last_order_at IS NULL THEN 'New'
        WHEN m.days_since_last_order >= {{lapsed_days}} THEN 'Lapsed'
        WHEN m.days_since_last_order >= {{at_risk_days}} THEN 'AtRisk'
        WHEN m.revenue >= {{vip_revenue}} THEN 'Vip'
        WHEN m.orders >= {{loyal_orders}} THEN 'Loyal'
        WHEN m.days_since_first_order < {{new_days}} THEN 'New'
        ELSE 'Active'
    END AS segment
FROM (
    SELECT
        c.id AS customer_id,
        c.name,
        c.email,
        c.country,
        coalesce(t.orders, 0) AS orders,
        coalesce(t.items, 0) AS items,
        coalesce(t.sold_orders, 0) AS sold_orders,
        round(coalesce(t.revenue, 0), 2) AS revenue,
        t.first_order_at,
        t.last_order_at,
        ({{as_of}}::timestamptz AT TIME ZONE {{timezone}})::date
            - (t.last_order_at AT TIME ZONE {{timezone}})::date AS days_since_last_order,
        ({{as_of}}::timestamptz AT TIME ZONE {{timezone}})::date
            - (t.first_order_at AT TIME ZONE {{timezone}})::date AS days_since_first_order
    FROM customers c
    LEFT JOIN (
        SELECT
            o.customer_id,
            count(*) AS orders,
            coalesce(sum(i.quantity), 0) AS items,
            count(*) FILTER (WHERE s.sold) AS sold_orders,
            sum(o.total_amount) FILTER (WHERE s.sold) AS revenue,
            min(o.created_at) AS first_order_at,
            max(o.created_at) AS last_order_at
        FROM orders o
        CROSS JOIN LATERAL (
            SELECT coalesce(o.status::text, '') <> ALL (
                ARRAY[{{cancelled_statuses}}]::text[] || ARRAY[{{refunded_statuses}}]::text[]
            ) AS sold
        ) s
        LEFT JOIN (SELECT order_id, sum(quantity) AS quantity FROM order_items GROUP BY order_id) i
            ON i.order_id = o.id
        GROUP BY o.customer_id
    ) t ON t.customer_id = c.id
) m
ORDER BY m.customer_id
