//! The layouts that an operator would write for the recorded tables, and where in the log each begins.

use serde_json::Value;
use tidemark_crds::layout::{Begin, ColumnLayout, NullAs, OutOfRange, Storage, TableLayout, Wire};

/// One entry of a table's history, and how the first change under it is known.
pub(super) struct Stage {
    pub(super) layout: TableLayout,
    pub(super) is_first: fn(&Value) -> bool,
}

pub(super) const TABLES: [&str; 6] =
    ["customers", "products", "orders", "order_items", "audit_log", "debezium_signal"];

fn column(source: &str, pg_type: &str, wire: Wire, ch_type: &str) -> ColumnLayout {
    ColumnLayout {
        source: source.to_owned(),
        target: source.to_owned(),
        stored: source.to_owned(),
        attnum: 0,
        pg_type: pg_type.to_owned(),
        wire,
        array: ch_type.starts_with("Array"),
        r#type: ch_type.parse().unwrap(),
        key: None,
        out_of_range: if ch_type.starts_with("Nullable") { OutOfRange::Null } else { OutOfRange::DeadLetter },
        missing: None,
        null_as: NullAs::Null,
    }
}

fn layout(source: &str, keys: &[&str], mut columns: Vec<ColumnLayout>) -> TableLayout {
    for (place, key) in keys.iter().enumerate() {
        let column = columns.iter_mut().find(|column| column.source == *key).unwrap();
        column.key = Some(u16::try_from(place).unwrap());
    }
    for (attnum, column) in (1..).zip(&mut columns) {
        column.attnum = attnum;
    }
    TableLayout {
        version: 1,
        source: format!("public.{source}").parse().unwrap(),
        target: source.to_owned(),
        columns,
        oid: 1,
        from: Begin::default(),
        left_out: vec![],
        storage: Storage::default(),
        definitions: std::collections::BTreeMap::new(),
        read_again: None,
        full_before: matches!(source, "orders" | "audit_log"),
        partition_by: None,
    }
}

/// The layouts of a table in the order of the schema's changes.
pub(super) fn stages(source: &str) -> Vec<Stage> {
    let always = |layout| Stage { layout, is_first: |_| true };
    let mut stages = match source {
        "customers" => customers(),
        "products" => vec![always(products())],
        "orders" => orders(),
        "order_items" => order_items(),
        "audit_log" => vec![always(layout(
            source,
            &["at", "actor", "action"],
            vec![
                column("at", "timestamp with time zone", Wire::ZonedTimestamp, "DateTime64(6, 'UTC')"),
                column("actor", "text", Wire::Text, "String"),
                column("action", "text", Wire::Text, "String"),
            ],
        ))],
        _ => vec![always(layout(
            source,
            &["id"],
            vec![
                column("id", "character varying(64)", Wire::Text, "String"),
                column("type", "character varying(32)", Wire::Text, "LowCardinality(String)"),
                column("data", "text", Wire::Text, "LowCardinality(Nullable(String))"),
            ],
        ))],
    };
    for (version, stage) in (1..).zip(&mut stages) {
        stage.layout.version = version;
    }
    stages
}

fn customers() -> Vec<Stage> {
    let stage = |phone: &str| {
        let mut columns = vec![
            column("id", "bigint", Wire::Int, "Int64"),
            column("external_id", "uuid", Wire::Uuid, "UUID"),
            column("email", "text", Wire::Text, "String"),
            column("full_name", "character varying(120)", Wire::Text, "String"),
            column(phone, "text", Wire::Text, "Nullable(String)"),
            column("address", "jsonb", Wire::Json, "Nullable(String)"),
            column("tags", "text[]", Wire::Text, "Array(Nullable(String))"),
            column("scores", "integer[]", Wire::Int, "Array(Nullable(Int32))"),
            column("birth_date", "date", Wire::Date, "Nullable(Date32)"),
            column("is_vip", "boolean", Wire::Bool, "Bool"),
            column("credit_limit", "numeric(12,2)", Wire::Decimal, "Decimal(12, 2)"),
            column("created_at", "timestamp with time zone", Wire::ZonedTimestamp, "DateTime64(6, 'UTC')"),
            column(
                "updated_at",
                "timestamp(3) without time zone",
                Wire::Timestamp,
                "Nullable(DateTime64(6, 'UTC'))",
            ),
        ];
        // Named once, by the name that it had then.
        "phone".clone_into(&mut columns[4].stored);
        layout("customers", &["id"], columns)
    };
    vec![
        Stage { layout: stage("phone"), is_first: |_| true },
        Stage { layout: stage("phone_number"), is_first: |row| row.get("phone_number").is_some() },
    ]
}

fn products() -> TableLayout {
    layout(
        "products",
        &["id"],
        vec![
            column("id", "bigint", Wire::Int, "Int64"),
            column("sku", "text", Wire::Text, "String"),
            column("name", "text", Wire::Text, "String"),
            column("description", "text", Wire::Text, "Nullable(String)"),
            column("price", "numeric(10,2)", Wire::Decimal, "Decimal(10, 2)"),
            column("cost", "numeric", Wire::Decimal, "Nullable(String)"),
            column("weight_kg", "real", Wire::Float, "Nullable(Float32)"),
            column("rating", "double precision", Wire::Float, "Nullable(Float64)"),
            column("attrs", "jsonb", Wire::Json, "Nullable(String)"),
            column("image", "bytea", Wire::Base64, "Nullable(String)"),
            column("shelf_time", "time without time zone", Wire::Micros, "Nullable(Int64)"),
            column("lead_time", "interval", Wire::Micros, "Nullable(Int64)"),
            column(
                "created_at",
                "timestamp with time zone",
                Wire::ZonedTimestamp,
                "Nullable(DateTime64(6, 'UTC'))",
            ),
        ],
    )
}

fn orders() -> Vec<Stage> {
    let stage = |total: &str, added: &[&str], note: bool| {
        let zoned =
            |name| column(name, "timestamp with time zone", Wire::ZonedTimestamp, "DateTime64(6, 'UTC')");
        let mut columns = vec![
            column("id", "bigint", Wire::Int, "Int64"),
            column("customer_id", "bigint", Wire::Int, "Int64"),
            column("status", "order_status", Wire::Text, "LowCardinality(String)"),
            column("currency", "character(3)", Wire::Text, "LowCardinality(String)"),
            column("total", "numeric(14,2)", Wire::Decimal, total),
            column("ship_to", "jsonb", Wire::Json, "Nullable(String)"),
            column("ip", "inet", Wire::Text, "Nullable(String)"),
            zoned("placed_at"),
            zoned("updated_at"),
        ];
        if note {
            columns.insert(5, column("note", "text", Wire::Text, "Nullable(String)"));
        }
        if added.contains(&"coupon") {
            columns.push(column("coupon", "text", Wire::Text, "Nullable(String)"));
        }
        if added.contains(&"priority") {
            let mut priority = column("priority", "smallint", Wire::Int, "Int16");
            priority.missing = Some("3".to_owned());
            columns.push(priority);
        }
        layout("orders", &["id"], columns)
    };
    let both = ["coupon", "priority"];
    vec![
        Stage { layout: stage("Decimal(14, 2)", &[], true), is_first: |_| true },
        Stage {
            layout: stage("Decimal(14, 2)", &["coupon"], true),
            is_first: |row| row.get("coupon").is_some(),
        },
        Stage { layout: stage("Decimal(14, 2)", &both, true), is_first: |row| row.get("priority").is_some() },
        Stage { layout: stage("Decimal(14, 2)", &both, false), is_first: |row| row.get("note").is_none() },
        // The first change behind the new type is that of order 4.
        Stage {
            layout: stage("Decimal(20, 4)", &both, false),
            is_first: |row| row.get("note").is_none() && row["id"] == 4,
        },
    ]
}

fn order_items() -> Vec<Stage> {
    let stage = |qty: &str| {
        layout(
            "order_items",
            &["order_id", "line_no"],
            vec![
                column("order_id", "bigint", Wire::Int, "Int64"),
                column("line_no", "smallint", Wire::Int, "Int16"),
                column("product_id", "bigint", Wire::Int, "Int64"),
                column("qty", "integer", Wire::Int, qty),
                column("unit_price", "numeric(10,2)", Wire::Decimal, "Decimal(10, 2)"),
                column("discount", "numeric(5,4)", Wire::Decimal, "Decimal(5, 4)"),
            ],
        )
    };
    vec![
        Stage { layout: stage("Int32"), is_first: |_| true },
        Stage { layout: stage("Int64"), is_first: |row| row["qty"] == 5_000_000_000_u64 },
    ]
}
