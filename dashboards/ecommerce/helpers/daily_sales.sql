-- One row a day with orders, with the customers as an exact set and the revenue
-- unrounded: days and months are both read from here, so they agree at any moment.
SELECT
    d.day AS day,
    d.orders AS orders,
    d.items AS items,
    d.customers AS customers,
    ifNull(n.new_customers, 0) AS new_customers,
    d.sold_orders AS sold_orders,
    d.revenue AS revenue,
    d.cancelled_orders AS cancelled_orders
FROM (
    SELECT
        toDate32(t.created_at, {{timezone}}) AS day,
        count() AS orders,
        sum(t.items) AS items,
        uniqExactState(t.customer_id) AS customers,
        countIf(t.is_sold = 1) AS sold_orders,
        ifNull(sumIf(toDecimal128(t.total_amount, 6), t.is_sold = 1), 0) AS revenue,
        countIf(t.is_cancelled = 1) AS cancelled_orders
    FROM {{database}}.order_totals AS t
    GROUP BY day
) AS d
ALL LEFT JOIN (
    -- A customer is new on the day of the first order.
    SELECT day, count() AS new_customers
    FROM (
        SELECT toDate32(min(f.created_at), {{timezone}}) AS day
        FROM {{database}}.order_totals AS f
        WHERE f.customer_id IS NOT NULL
        GROUP BY f.customer_id
    )
    GROUP BY day
) AS n ON n.day = d.day
SETTINGS {{settings}}
