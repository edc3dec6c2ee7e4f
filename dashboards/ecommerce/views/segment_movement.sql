-- One row a pair of segments: how many customers were in `before` some days ago
-- (movement_days) and are in `now`. Who joined meanwhile was `Joined`. Revenue counts
-- an order's status of today on both sides, since no history of it is kept.
WITH
    {{as_of}} AS as_of,
    subtractDays(as_of, {{movement_days}}) AS earlier
SELECT
    m.before AS before,
    m.now AS now,
    count() AS customers
FROM (
    SELECT
        multiIf(
            c.created_at > earlier, 'Joined',
            ifNull(t.orders_before, 0) = 0, 'New',
            dateDiff('day', toDate32(t.last_before, {{timezone}}), toDate32(earlier, {{timezone}})) >= {{lapsed_days}}, 'Lapsed',
            dateDiff('day', toDate32(t.last_before, {{timezone}}), toDate32(earlier, {{timezone}})) >= {{at_risk_days}}, 'AtRisk',
            t.revenue_before >= {{vip_revenue}}, 'Vip',
            t.orders_before >= {{loyal_orders}}, 'Loyal',
            dateDiff('day', toDate32(t.first_order_at, {{timezone}}), toDate32(earlier, {{timezone}})) < {{new_days}}, 'New',
            'Active'
        ) AS before,
        k.segment AS now
    FROM {{database}}.customers_current AS c
    ALL INNER JOIN {{database}}.customer_metrics AS k ON k.customer_id = c.id
    ALL LEFT JOIN (
        SELECT
            assumeNotNull(o.customer_id) AS customer_id,
            countIf(o.created_at <= earlier) AS orders_before,
            round(ifNull(sumIf(toDecimal128(o.total_amount, 6), o.is_sold = 1 AND o.created_at <= earlier), 0), 2)
                AS revenue_before,
            maxIf(o.created_at, o.created_at <= earlier) AS last_before,
            min(o.created_at) AS first_order_at
        FROM {{database}}.order_totals AS o
        WHERE o.customer_id IS NOT NULL
        GROUP BY customer_id
    ) AS t ON t.customer_id = c.id
) AS m
GROUP BY before, now
ORDER BY before, now
SETTINGS {{settings}}
