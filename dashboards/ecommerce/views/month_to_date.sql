-- Three rows: the month that runs (`this_month`), the month before up to the same day
-- and time of day (`last_month_by_then`), and all of it (`last_month`), in the pipeline's
-- time zone. A day that the month before does not have is after all of its days.
-- Orders, items and distinct customers are of every order placed; revenue leaves out
-- cancelled and refunded ones.
WITH
    {{as_of}} AS as_of,
    addDays(toDate32(as_of, {{timezone}}), 1 - toDayOfMonth(toDate32(as_of, {{timezone}}))) AS this_month,
    addMonths(this_month, -1) AS previous_month
SELECT
    p.period AS period,
    p.month AS month,
    ifNull(s.orders, 0) AS orders,
    ifNull(s.items, 0) AS items,
    ifNull(s.customers, 0) AS customers,
    CAST(round(ifNull(s.revenue, 0), 2) AS Decimal(38, 2)) AS revenue
FROM (
    SELECT
        arrayJoin(['last_month', 'last_month_by_then', 'this_month']) AS period,
        if(period = 'this_month', this_month, previous_month) AS month
) AS p
ALL LEFT JOIN (
    SELECT
        e.period AS period,
        count() AS orders,
        sum(e.items) AS items,
        uniqExact(e.customer_id) AS customers,
        ifNull(sumIf(toDecimal128(e.total_amount, 6), e.is_sold = 1), 0) AS revenue
    FROM (
        SELECT
            t.customer_id AS customer_id,
            t.items AS items,
            t.total_amount AS total_amount,
            t.is_sold AS is_sold,
            arrayJoin(multiIf(
                toDate32(t.created_at, {{timezone}}) >= this_month, ['this_month'],
                (
                    toDayOfMonth(t.created_at, {{timezone}}), toHour(t.created_at, {{timezone}}),
                    toMinute(t.created_at, {{timezone}}), toSecond(t.created_at, {{timezone}})
                ) <= (
                    toDayOfMonth(as_of, {{timezone}}), toHour(as_of, {{timezone}}),
                    toMinute(as_of, {{timezone}}), toSecond(as_of, {{timezone}})
                ), ['last_month', 'last_month_by_then'],
                ['last_month']
            )) AS period
        FROM {{database}}.order_totals AS t
        WHERE toDate32(t.created_at, {{timezone}}) >= previous_month AND t.created_at <= as_of
    ) AS e
    GROUP BY period
) AS s ON s.period = p.period
ORDER BY period
SETTINGS {{settings}}
