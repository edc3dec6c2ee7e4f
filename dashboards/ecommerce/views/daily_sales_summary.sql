-- One row a day on which an order was placed, in the pipeline's time zone.
-- orders, items and customers are of every order placed; revenue and its average
-- leave out cancelled and refunded ones.
SELECT
    s.day AS day,
    s.orders AS orders,
    s.items AS items,
    finalizeAggregation(s.customers) AS customers,
    s.new_customers AS new_customers,
    CAST(round(s.revenue, 2) AS Decimal(38, 2)) AS revenue,
    -- Decimal division cuts off, and rounding half up needs the third digit alone.
    CAST(round(CAST(round(s.revenue, 2) AS Decimal(38, 3)) / nullIf(s.sold_orders, 0), 2) AS Nullable(Decimal(38, 2)))
        AS average_order_value,
    s.cancelled_orders AS cancelled_orders
FROM {{database}}.daily_sales AS s
ORDER BY day
SETTINGS {{settings}}
