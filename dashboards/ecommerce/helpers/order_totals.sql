-- One row an order: what every full aggregation needs of orders and order_items,
-- so that the two are joined once a refresh and not once a view. Sorted by customer,
-- so that the orders of one are read without a look at those of all others.
--
-- `items` counts units, not lines. An order is sold unless it was cancelled or
-- refunded: revenue and averages are of sold orders.
SELECT
    o.id AS order_id,
    o.customer_id AS customer_id,
    o.created_at AS created_at,
    ifNull(toString(o.status), '') AS status,
    o.total_amount AS total_amount,
    ifNull(i.quantity, 0) AS items,
    toUInt8(has([{{cancelled_statuses}}], ifNull(toString(o.status), ''))) AS is_cancelled,
    toUInt8(
        NOT has([{{cancelled_statuses}}], ifNull(toString(o.status), ''))
        AND NOT has([{{refunded_statuses}}], ifNull(toString(o.status), ''))
    ) AS is_sold
FROM {{database}}.orders_current AS o
ALL LEFT JOIN (
    SELECT order_id, sum(toInt64(quantity)) AS quantity
    FROM {{database}}.order_items_current
    GROUP BY order_id
) AS i ON i.order_id = o.id
SETTINGS {{settings}}
