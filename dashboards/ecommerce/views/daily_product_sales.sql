-- One row a day and product sold, in the pipeline's time zone. Of orders that were
-- neither cancelled nor refunded; revenue is what the lines came to.
SELECT
    toDate32(t.created_at, {{timezone}}) AS day,
    assumeNotNull(i.product_id) AS product_id,
    sum(toInt64(i.quantity)) AS units,
    uniqExact(t.order_id) AS orders,
    CAST(round(ifNull(sum(toDecimal128(i.unit_price, 6) * toInt64(i.quantity)), 0), 2) AS Decimal(38, 2)) AS revenue
FROM {{database}}.order_items_current AS i
ALL INNER JOIN {{database}}.order_totals AS t ON t.order_id = i.order_id
WHERE t.is_sold = 1 AND i.product_id IS NOT NULL
GROUP BY day, product_id
ORDER BY day, product_id
SETTINGS {{settings}}
