//! The shop's database: its schema, and each action of the generator as one statement. I/O.

use anyhow::Context;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

use super::model::{Action, Outcome, Product, Shop, Status};

/// The four tables, as the shop's owner makes them.
pub const SCHEMA: &str = include_str!("../../shop/schema.sql");
/// Products and the first customers.
pub const SEED: &str = include_str!("../../shop/seed.sql");

// The last parameter of each is the moment in microseconds since 1970, or NULL for now.
const REGISTER: &str = "
    INSERT INTO customers (email, name, country, city, address, created_at, updated_at)
    SELECT $1, $2, $3, $4, $5, t.at, t.at
    FROM (SELECT coalesce(timestamptz 'epoch' + $6::bigint * interval '1 microsecond', now()) AS at) t
    RETURNING id";
const PLACE_ORDER: &str = "
    WITH t AS (SELECT coalesce(timestamptz 'epoch' + $6::bigint * interval '1 microsecond', now()) AS at),
    lines AS (
        SELECT * FROM unnest($3::bigint[], $4::integer[], $5::bigint[])
            WITH ORDINALITY AS l (product_id, quantity, cents, line_no)
    ),
    placed AS (
        INSERT INTO orders (customer_id, note, total_amount, created_at, updated_at)
        SELECT $1, $2, (SELECT sum(quantity * cents) FROM lines)::numeric / 100, t.at, t.at FROM t
        RETURNING id
    ),
    items AS (
        INSERT INTO order_items (order_id, line_no, product_id, quantity, unit_price)
        SELECT placed.id, lines.line_no, lines.product_id, lines.quantity, lines.cents::numeric / 100
        FROM placed, lines
    )
    SELECT id FROM placed";
// What is told of the past in another order leaves no order's last change earlier than it was.
const ADVANCE: &str = "
    UPDATE orders
    SET status = $2::text::order_status,
        updated_at = greatest(updated_at, coalesce(timestamptz 'epoch' + $3::bigint * interval '1 microsecond', now()))
    WHERE id = $1
    RETURNING id";
// One statement sees one state, so the new total is reckoned from the old lines.
const AMEND: &str = "
    WITH kept AS (
        SELECT line_no, CASE WHEN line_no = $2 THEN $3 ELSE quantity END AS quantity, unit_price
        FROM order_items WHERE order_id = $1
    ),
    total AS (SELECT sum(quantity * unit_price) AS amount FROM kept HAVING sum(quantity) > 0),
    changed AS (
        UPDATE order_items SET quantity = $3
        WHERE order_id = $1 AND line_no = $2 AND $3 > 0 AND EXISTS (SELECT FROM total)
    ),
    removed AS (
        DELETE FROM order_items WHERE order_id = $1 AND line_no = $2 AND $3 = 0 AND EXISTS (SELECT FROM total)
    )
    UPDATE orders
    SET total_amount = coalesce((SELECT amount FROM total), total_amount),
        updated_at = greatest(updated_at, coalesce(timestamptz 'epoch' + $4::bigint * interval '1 microsecond', now()))
    WHERE id = $1
    RETURNING id";
const MOVE: &str = "
    UPDATE customers
    SET country = $2, city = $3, address = $4,
        updated_at = coalesce(timestamptz 'epoch' + $5::bigint * interval '1 microsecond', now())
    WHERE id = $1
    RETURNING id";
const RENAME: &str = "
    UPDATE customers
    SET name = $2, updated_at = coalesce(timestamptz 'epoch' + $3::bigint * interval '1 microsecond', now())
    WHERE id = $1
    RETURNING id";
const REPRICE: &str = "
    UPDATE products
    SET price = $2::bigint::numeric / 100,
        updated_at = coalesce(timestamptz 'epoch' + $3::bigint * interval '1 microsecond', now())
    WHERE id = $1
    RETURNING id";

/// A connection with every action's statement prepared.
#[derive(Debug)]
pub struct Database {
    client: Client,
    register: Statement,
    place_order: Statement,
    advance: Statement,
    amend: Statement,
    relocate: Statement,
    rename: Statement,
    reprice: Statement,
}

impl Database {
    /// Prepares the statements; the schema must be there.
    pub async fn new(client: Client) -> anyhow::Result<Self> {
        // A server that hangs must not hang the generator.
        client.batch_execute("SET statement_timeout = '30s'").await?;
        let prepare = async |text| {
            client
                .prepare(text)
                .await
                .context("preparing the shop's statements: is the schema there (`init`)?")
        };
        Ok(Self {
            register: prepare(REGISTER).await?,
            place_order: prepare(PLACE_ORDER).await?,
            advance: prepare(ADVANCE).await?,
            amend: prepare(AMEND).await?,
            relocate: prepare(MOVE).await?,
            rename: prepare(RENAME).await?,
            reprice: prepare(REPRICE).await?,
            client,
        })
    }

    /// Reads what the generator has to know of the shop, in the order of primary keys.
    pub(super) async fn read(&self) -> anyhow::Result<Shop> {
        let customers = self.client.query("SELECT id FROM customers ORDER BY id", &[]).await?;
        let products =
            self.client.query("SELECT id, (price * 100)::bigint FROM products ORDER BY id", &[]).await?;
        let open = self
            .client
            .query(
                "SELECT id, status::text FROM (
                     SELECT id, status FROM orders WHERE status NOT IN ('cancelled', 'refunded')
                     ORDER BY id DESC LIMIT 2000
                 ) newest ORDER BY id",
                &[],
            )
            .await?;
        let next: i64 = self
            .client
            .query_one(
                "SELECT coalesce(max(substring(email FROM '^customer([0-9]{1,17})@')::bigint), 0) + 1 FROM customers",
                &[],
            )
            .await?
            .get(0);
        Ok(Shop {
            customers: customers.iter().map(|row| row.get(0)).collect(),
            products: products.iter().map(|row| Product { id: row.get(0), price: row.get(1) }).collect(),
            open: open.iter().filter_map(|row| Some((row.get(0), Status::parse(row.get(1))?))).collect(),
            next_email: next,
        })
    }

    /// Carries an action out, at a moment of the past (microseconds since 1970) or now.
    pub(super) async fn perform(&self, action: &Action, at: Option<i64>) -> anyhow::Result<Outcome> {
        match action {
            Action::Register { email, name, country, city, address } => {
                self.one(&self.register, &[email, name, country, city, address, &at]).await
            }
            Action::PlaceOrder { customer, lines, note } => {
                let products: Vec<i64> = lines.iter().map(|line| line.product).collect();
                let quantities: Vec<i32> = lines.iter().map(|line| line.quantity).collect();
                let prices: Vec<i64> = lines.iter().map(|line| line.unit_price).collect();
                self.one(&self.place_order, &[customer, note, &products, &quantities, &prices, &at]).await
            }
            Action::Advance { order, to } => self.one(&self.advance, &[order, &to.as_str(), &at]).await,
            Action::Amend { order, line, quantity } => {
                self.one(&self.amend, &[order, line, quantity, &at]).await
            }
            Action::Move { customer, country, city, address } => {
                self.one(&self.relocate, &[customer, country, city, address, &at]).await
            }
            Action::Rename { customer, name } => self.one(&self.rename, &[customer, name, &at]).await,
            Action::Reprice { product, price } => self.one(&self.reprice, &[product, price, &at]).await,
        }
    }

    async fn one(
        &self,
        statement: &Statement,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> anyhow::Result<Outcome> {
        match self.client.query_opt(statement, parameters).await {
            Ok(row) => Ok(row.map_or(Outcome::Gone, |row| Outcome::Done(row.get(0)))),
            // Somebody else deleted the row that this one refers to, or took the address.
            Err(error)
                if matches!(
                    error.code(),
                    Some(&SqlState::FOREIGN_KEY_VIOLATION | &SqlState::UNIQUE_VIOLATION)
                ) =>
            {
                Ok(Outcome::Gone)
            }
            Err(error) => Err(error).context("writing to the shop"),
        }
    }

    /// Deletes customers with all their orders, the same ones for the same seed; returns how many.
    pub async fn delete_customers(&self, number: i64, seed: i64) -> anyhow::Result<u64> {
        self.client
            .execute(
                "DELETE FROM customers WHERE id IN (
                     SELECT id FROM customers ORDER BY md5(id::text || ':' || $2::bigint::text) LIMIT $1
                 )",
                &[&number, &seed],
            )
            .await
            .context("deleting customers")
    }
}
