//! How the live summary looks: as a line, and as a table. Pure.

use std::fmt::Write as _;
use std::time::Duration;

/// A product of `top_selling_products`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Product {
    /// Name.
    pub(super) name: String,
    /// Units sold.
    pub(super) units: String,
    /// Revenue.
    pub(super) revenue: String,
}

/// One moment of the shop, seen from both ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    /// Orders in PostgreSQL and what they come to, or why it did not answer.
    pub(super) source: Result<(i64, String), String>,
    /// The same in ClickHouse.
    pub(super) target: Result<(i64, String), String>,
    /// Rows that were timed.
    pub(super) samples: usize,
    /// Median time from commit to visible.
    pub(super) p50: Option<Duration>,
    /// Time that one row in a hundred exceeds.
    pub(super) p99: Option<Duration>,
    /// The newest row of `daily_sales_summary`: day, orders, revenue.
    pub(super) today: Option<(String, String, String)>,
    /// The first of `top_selling_products`.
    pub(super) products: Vec<Product>,
}

impl Summary {
    /// Returns the summary in one line.
    pub(super) fn line(&self, elapsed: Duration) -> String {
        let count = |side: &Result<(i64, String), String>| {
            side.as_ref().map_or("?".into(), |(count, _)| count.to_string())
        };
        format!(
            "[{:>4} s] orders: PostgreSQL {}, ClickHouse {}; fresh within p50 {}, p99 {} ({} rows){}",
            elapsed.as_secs(),
            count(&self.source),
            count(&self.target),
            milliseconds(self.p50),
            milliseconds(self.p99),
            self.samples,
            self.products
                .first()
                .map(|first| format!("; top product {} ({})", first.name, first.units))
                .unwrap_or_default()
        )
    }

    /// Returns the summary as a table of several lines.
    pub(super) fn table(&self, elapsed: Duration) -> String {
        let mut text = format!("Tidemark demo shop, {} s\n\n", elapsed.as_secs());
        // Writing to a String does not fail.
        let _ = writeln!(text, "  {:<12} {:>12} {:>18}", "", "orders", "amount");
        for (name, side) in [("PostgreSQL", &self.source), ("ClickHouse", &self.target)] {
            let _ = match side {
                Ok((count, amount)) => writeln!(text, "  {name:<12} {count:>12} {amount:>18}"),
                Err(error) => {
                    writeln!(text, "  {name:<12} does not answer: {}", error.lines().next().unwrap_or(""))
                }
            };
        }
        let _ = writeln!(
            text,
            "\n  commit to visible: p50 {}, p99 {} ({} rows timed)",
            milliseconds(self.p50),
            milliseconds(self.p99),
            self.samples
        );
        if let Some((day, orders, revenue)) = &self.today {
            let _ = writeln!(text, "  daily_sales_summary of {day}: {orders} orders, revenue {revenue}");
        }
        if !self.products.is_empty() {
            let _ = writeln!(text, "\n  {:<24} {:>8} {:>14}", "top products", "units", "revenue");
        }
        for Product { name, units, revenue } in &self.products {
            let _ = writeln!(text, "  {name:<24} {units:>8} {revenue:>14}");
        }
        text
    }
}

fn milliseconds(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".into(), |time| format!("{} ms", time.as_millis()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        Summary {
            source: Ok((120, "3400.50".into())),
            target: Ok((119, "3390.00".into())),
            samples: 40,
            p50: Some(Duration::from_millis(180)),
            p99: Some(Duration::from_millis(640)),
            today: Some(("2026-11-23".into(), "119".into(), "3000.00".into())),
            products: vec![Product { name: "Oak Lamp".into(), units: "12".into(), revenue: "99.00".into() }],
        }
    }

    #[test]
    fn the_line_has_both_counts_and_the_freshness() {
        assert_eq!(
            summary().line(Duration::from_secs(7)),
            "[   7 s] orders: PostgreSQL 120, ClickHouse 119; fresh within p50 180 ms, p99 640 ms (40 rows); \
             top product Oak Lamp (12)"
        );
    }

    #[test]
    fn a_server_that_is_down_is_named_in_the_table() {
        let table = Summary { target: Err("connection refused\nmore".into()), p50: None, ..summary() }
            .table(Duration::from_secs(1));
        assert!(table.contains("ClickHouse   does not answer: connection refused\n"), "{table}");
        assert!(table.contains("p50 -, p99 640 ms") && table.contains("Oak Lamp"), "{table}");
    }
}
