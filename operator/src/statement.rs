//! The text of the statements that steps are carried out by. Pure.

use tidemark_crds::pg_quote;
use tidemark_crds::quote::{literal, qualified};

use crate::effect::{ClickHouseEffect, PostgresEffect, ViewDefinition};

/// The statement of ClickHouse.
pub fn clickhouse(effect: &ClickHouseEffect) -> String {
    match effect {
        ClickHouseEffect::Make { sql } => sql.clone(),
        ClickHouseEffect::ReplaceView(view) => view_statement("CREATE OR REPLACE", view),
        ClickHouseEffect::Drop(name) => {
            let kind = if name.is_view { "VIEW" } else { "TABLE" };
            format!("DROP {kind} IF EXISTS {} SYNC", qualified(&name.database, &name.name))
        }
    }
}

/// A view whose readers need no right on what is below it, made where nothing has its name.
pub fn create_view(view: &ViewDefinition) -> String {
    view_statement("CREATE", view)
}

fn view_statement(verb: &str, view: &ViewDefinition) -> String {
    format!(
        "{verb} VIEW {} SQL SECURITY DEFINER COMMENT {} AS {}",
        qualified(&view.database, &view.name),
        literal(&view.comment),
        view.select
    )
}

/// The statement of PostgreSQL.
pub fn postgres(effect: &PostgresEffect) -> String {
    match effect {
        PostgresEffect::Make { sql } => sql.clone(),
        PostgresEffect::DropSlot(name) => {
            let name = pg_quote::literal(name);
            // One that is gone is as it should be.
            format!(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = {name}"
            )
        }
        PostgresEffect::DropPublication(name) => {
            format!("DROP PUBLICATION IF EXISTS {}", pg_quote::ident(name))
        }
    }
}
