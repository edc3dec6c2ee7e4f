-- One row a month in which an order was placed, in the pipeline's time zone.
-- Customers are distinct within the month. revenue_change is the revenue less
-- that of the calendar month before; without orders in that month it is NULL.
SELECT
    m.month AS month,
    m.orders AS orders,
    m.items AS items,
    m.customers AS customers,
    m.revenue AS revenue,
    -- Decimal division cuts off, and rounding half up needs the third digit alone.
    CAST(round(CAST(m.revenue AS Decimal(38, 3)) / nullIf(m.sold_orders, 0), 2) AS Nullable(Decimal(38, 2)))
        AS average_order_value,
    CAST(m.revenue - p.revenue AS Nullable(Decimal(38, 2))) AS revenue_change
FROM (
    SELECT
        addDays(s.day, 1 - toDayOfMonth(s.day)) AS month,
        sum(s.orders) AS orders,
        sum(s.items) AS items,
        uniqExactMerge(s.customers) AS customers,
        sum(s.sold_orders) AS sold_orders,
        CAST(round(sum(s.revenue), 2) AS Decimal(38, 2)) AS revenue
    FROM {{database}}.daily_sales AS s
    GROUP BY month
) AS m
ALL LEFT JOIN (
    SELECT
        addMonths(addDays(b.day, 1 - toDayOfMonth(b.day)), 1) AS next_month,
        CAST(round(sum(b.revenue), 2) AS Nullable(Decimal(38, 2))) AS revenue
    FROM {{database}}.daily_sales AS b
    GROUP BY next_month
) AS p ON p.next_month = m.month
ORDER BY month
SETTINGS {{settings}}
