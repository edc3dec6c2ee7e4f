//! Views that are refused, and views that pass. Pure.

use super::*;

#[test]
fn a_date_function_without_a_zone_is_refused_and_one_with_it_passes() {
    assert!(lint("SELECT toDate(created_at) FROM orders_current", "shop").unwrap().contains("todate()"));
    assert!(lint("SELECT toStartOfInterval(t, INTERVAL 1 day) FROM x", "shop").is_some());
    assert!(lint("SELECT today()", "shop").is_some());
    assert!(lint("SELECT now()", "shop").is_some());
    for fine in [
        "SELECT toDate(created_at, 'UTC') FROM orders_current",
        "SELECT toDate(if(a, b, c), 'Europe/Berlin') FROM x",
        "SELECT now('UTC')",
        "WITH 1 AS x SELECT x -- toDate(y)",
        "SELECT 'toDate(x)' AS today",
        "SELECT sum(amount) AS total FROM payments_current",
    ] {
        assert_eq!(lint(fine, "shop"), None, "{fine}");
    }
}

#[test]
fn what_is_not_one_select_is_refused() {
    assert!(lint("DROP TABLE x", "shop").is_some());
    assert!(lint("SELECT 1; SELECT 2", "shop").is_some());
    assert!(lint("", "shop").is_some());
    assert_eq!(lint("SELECT ';'", "shop"), None);
}

#[test]
fn a_view_reads_the_target_database_alone_whatever_it_is_hidden_behind() {
    for outside in [
        "SELECT * FROM url('http://169.254.169.254/latest/meta-data/')",
        "SELECT * FROM orders_current, remote('127.0.0.1', bank.accounts)",
        "SELECT * FROM orders_current AS o JOIN `postgresql`('pg:5432', 'shop', 't', 'u', 'p') AS p ON 1",
        "SELECT * FROM (SELECT 1), s3('http://bucket/x')",
        "SELECT file('/etc/passwd')",
        "WITH x AS (SELECT * FROM executable('sh', TSV, 'a String')) SELECT * FROM x",
        "SELECT 1 FROM merge('.*', 'secret')",
        "SELECT * FROM bank.accounts",
        "SELECT * FROM orders_current CROSS JOIN system.query_log",
        "SELECT * FROM orders_current, `bank`.accounts WHERE 1",
        "SELECT * FROM orders_current WHERE id IN bank.accounts",
        "SELECT * FROM orders_current WHERE id IN (SELECT id FROM bank.accounts)",
        // A keyword as an alias does not end the list of tables.
        "SELECT * FROM orders_current AS where, bank.accounts",
        "SELECT * FROM orders_current AS bank, orders_current AS window FINAL, bank.accounts",
        "SELECT 1 AS bank FROM orders_current WHERE id IN (bank.accounts)",
        "SELECT 1 FROM orders_current AS bank WHERE id IN ((bank.accounts))",
        "SELECT in(o.id, bank.accounts) FROM orders_current AS o",
        "SELECT `in`(o.id, bank.accounts) FROM orders_current AS o, orders_current AS bank",
        "SELECT notIn(id, bank.accounts) FROM orders_current",
        "WITH 1 AS bank SELECT globalInIgnoreSet(o.id, bank.accounts) FROM orders_current AS o",
        "SELECT 1 FROM orders_current AS o, orders_current AS bank WHERE in(o.id, (bank.accounts)) SETTINGS a = 1",
        "SELECT joinGetOrNull('bank.accounts', 'owner', id) FROM orders_current",
        "SELECT dictGetOrDefault('bank.owners', 'name', id, '') FROM orders_current",
        "SELECT hasColumnInTable('host', 'u', 'p', 'db', 't', 'c')",
        // Two databases.
        "SELECT * FROM Shop.orders_current",
        "SELECT * FROM `SHOP`.orders_current",
        // A query as the only argument of a function with a FROM.
        "SELECT 1 AS bank, substring(SELECT owner FROM bank.accounts LIMIT 1)",
        "SELECT * FROM (bank.accounts)",
        // Who asks a view with parameters would name the table.
        "SELECT * FROM {table:Identifier}",
        "SELECT * FROM shop.{table:Identifier}",
        "SELECT * FROM orders_current WHERE id IN {table:Identifier}",
        // Whatever else it may be.
        "SELECT bank.accounts FROM orders_current",
        // Comments, heredocs and typographic quotes that would hide a quote from who reads the text.
        "SELECT 1 # '\n FROM url('http://x')",
        "SELECT $$'$$ FROM url('http://x')",
        "SELECT \u{2018}'\u{2019} FROM url('http://x')",
        "SELECT 1 /* ' */ FROM url('http://x') -- '",
    ] {
        assert!(lint(outside, "shop").is_some(), "{outside}");
    }
    for fine in [
        "SELECT * FROM shop.orders_current AS o JOIN items_current AS i ON o.id = i.order_id",
        "SELECT * FROM `shop`.`orders_current` AS o, numbers(10) WHERE o.id IN (1, 2)",
        "SELECT n.number FROM numbers_mt(10) AS n LEFT ARRAY JOIN n.list AS x",
        "SELECT extract(year FROM o.created_at), trim(BOTH ' ' FROM o.name) FROM orders_current AS o",
        "SELECT url, file FROM pages_current WHERE url(1) = 2",
        "SELECT if(o.a IN (1, 2), o.b, o.c) FROM orders_current AS o ORDER BY o.a, o.b",
        "SELECT 'FROM bank.accounts' FROM orders_current",
        "SELECT orders_current.id, i.price * 1.5 FROM orders_current, items_current i WHERE i.order_id = orders_current.id",
        "WITH best AS (SELECT id FROM orders_current) SELECT best.id, o.* FROM best JOIN orders_current AS o ON o.id = best.id",
        "WITH tuple(id, n) AS pair SELECT pair.1, shop.orders_current.id FROM orders_current",
        "SELECT o.id FROM orders_current AS o WHERE o.a IN (o.b, 3) AND o.id NOT IN (SELECT i.id FROM items_current AS i)",
        "SELECT o.id FROM (SELECT id FROM orders_current) AS o LEFT JOIN (SELECT 1 AS id) p ON p.id = o.id",
    ] {
        assert_eq!(lint(fine, "shop"), None, "{fine}");
    }
}
