-- One row a customer, those without orders too. orders and items are of every
-- order placed; revenue and its average leave out cancelled and refunded ones.
-- Days are calendar days in the pipeline's time zone.
--
-- The first segment that fits: New (no order yet), Lapsed and AtRisk (days since
-- the last order), Vip (revenue), Loyal (orders), New (first order), Active.
WITH {{as_of}} AS as_of
SELECT
    m.customer_id AS customer_id,
    m.name AS name,
    m.email AS email,
    m.country AS country,
    m.orders AS orders,
    m.items AS items,
    m.revenue AS revenue,
    -- Decimal division cuts off, and rounding half up needs the third digit alone.
    CAST(round(CAST(m.revenue AS Decimal(38, 3)) / nullIf(m.sold_orders, 0), 2) AS Nullable(Decimal(38, 2)))
        AS average_order_value,
    m.first_order_at AS first_order_at,
    m.last_order_at AS last_order_at,
    m.days_since_last_order AS days_since_last_order,
    multiIf(
        m.last_order_at IS NULL, 'New',
        m.days_since_last_order >= {{lapsed_days}}, 'Lapsed',
        m.days_since_last_order >= {{at_risk_days}}, 'AtRisk',
        m.revenue >= {{vip_revenue}}, 'Vip',
        m.orders >= {{loyal_orders}}, 'Loyal',
        m.days_since_first_order < {{new_days}}, 'New',
        'Active'
    ) AS segment
FROM (
    SELECT
        c.id AS customer_id,
        c.name AS name,
        c.email AS email,
        c.country AS country,
        ifNull(t.orders, 0) AS orders,
        ifNull(t.items, 0) AS items,
        ifNull(t.sold_orders, 0) AS sold_orders,
        CAST(round(ifNull(t.revenue, 0), 2) AS Decimal(38, 2)) AS revenue,
        t.first_order_at AS first_order_at,
        t.last_order_at AS last_order_at,
        dateDiff('day', toDate32(t.last_order_at, {{timezone}}), toDate32(as_of, {{timezone}}))
            AS days_since_last_order,
        dateDiff('day', toDate32(t.first_order_at, {{timezone}}), toDate32(as_of, {{timezone}}))
            AS days_since_first_order
    FROM {{database}}.customers_current AS c
    ALL LEFT JOIN (
        SELECT
            assumeNotNull(o.customer_id) AS customer_id,
            count() AS orders,
            sum(o.items) AS items,
            countIf(o.is_sold = 1) AS sold_orders,
            ifNull(sumIf(toDecimal128(o.total_amount, 6), o.is_sold = 1), 0) AS revenue,
            toNullable(min(o.created_at)) AS first_order_at,
            toNullable(max(o.created_at)) AS last_order_at
        FROM {{database}}.order_totals AS o
        WHERE o.customer_id IS NOT NULL
        GROUP BY customer_id
    ) AS t ON t.customer_id = c.id
) AS m
ORDER BY customer_id
SETTINGS {{settings}}
