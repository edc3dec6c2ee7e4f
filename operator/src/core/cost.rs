//! What steps cost the source: rows and bytes that are read, as PostgreSQL estimates them. Pure.

use serde::{Deserialize, Serialize};
use tidemark_crds::layout::SourceTable;
use tidemark_crds::ledger::Kind;

use crate::core::effect::{Effect, PostgresEffect};
use crate::core::facts::{Observed, SourceTableFacts};
use crate::core::step::{Stage, Step};

/// What a step has read at the source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Tables that are read from their beginning.
    pub tables: Vec<String>,
    /// Rows; absent where one of the tables was never analysed.
    pub rows: Option<u64>,
    /// Bytes; absent where one of the tables was never analysed.
    pub bytes: Option<u64>,
}

impl Cost {
    /// The two together.
    #[must_use]
    pub fn plus(mut self, other: Self) -> Self {
        let sum = |a: Option<u64>, b: Option<u64>| Some(a?.saturating_add(b?));
        self.tables.extend(other.tables);
        (self.rows, self.bytes) = (sum(self.rows, other.rows), sum(self.bytes, other.bytes));
        self
    }

    /// One line for people.
    pub fn text(&self) -> String {
        let amount = match (self.rows, self.bytes) {
            (Some(rows), Some(bytes)) => {
                format!("about {} rows, {}, as PostgreSQL estimates", grouped(rows), size(bytes))
            }
            _ => "nobody knows how many rows, since PostgreSQL has not analysed all of them: run ANALYZE"
                .to_owned(),
        };
        format!("reads {} at the source: {amount}", self.tables.join(", "))
    }
}

/// Whether a step has a table read, by itself.
pub fn is_read(effect: &Effect) -> bool {
    matches!(effect, Effect::Ledger { kind: Kind::Read, value, .. } if !value.is_null())
}

/// What a step has read; `None`: nothing that is known. A dropped slot has every table read again, since what was changed
/// meanwhile is in no log.
pub fn cost(step: &Step, observed: &Observed, tables: &[(SourceTable, String)]) -> Option<Cost> {
    let postgres = observed.postgres.known()?;
    let read: Vec<&SourceTable> = match &step.effect {
        Effect::Ledger { key, .. } if is_read(&step.effect) => {
            tables.iter().filter(|(_, target)| target == key).map(|(source, _)| source).collect()
        }
        Effect::Postgres(PostgresEffect::DropSlot(_)) if step.stage == Stage::Read => {
            tables.iter().map(|(source, _)| source).collect()
        }
        _ => return None,
    };
    let facts: Vec<(&SourceTable, &SourceTableFacts)> =
        read.into_iter().filter_map(|source| Some((source, postgres.tables.get(source)?))).collect();
    (!facts.is_empty()).then(|| Cost {
        tables: facts.iter().map(|(source, _)| source.to_string()).collect(),
        rows: facts.iter().map(|(_, facts)| Some(facts.estimate?.rows)).sum(),
        bytes: facts.iter().map(|(_, facts)| Some(facts.estimate?.bytes)).sum(),
    })
}

/// Digits in groups of three.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let mut text = digits[..first].to_owned();
    for group in digits.as_bytes()[first..].chunks(3) {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&String::from_utf8_lossy(group));
    }
    text
}

/// Bytes with a unit in which they are a short number.
pub fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1 << 10 {
        return format!("{bytes} B");
    }
    let power = (bytes.ilog2() / 10).min(5);
    let tenths = u128::from(bytes) * 10 / (1_u128 << (10 * power));
    format!("{}.{} {}", tenths / 10, tenths % 10, units[power as usize - 1])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::core::facts::{Estimate, Observation, PostgresFacts};
    use crate::core::gate::Gate;
    use crate::core::step::StepKind;

    fn step(kind: StepKind, stage: Stage, effect: Effect) -> Step {
        Step { stage, kind, what: String::new(), needs: vec![], gives: None, effect }
    }

    fn read(target: &str, value: Value) -> Step {
        let effect = Effect::Ledger { kind: Kind::Read, key: target.into(), version: 1, value };
        step(StepKind::Create, Stage::Read, effect)
    }

    #[test]
    fn a_read_costs_its_table_and_a_dropped_slot_all_of_them() {
        let tables: Vec<(SourceTable, String)> =
            ["orders", "items"].map(|name| (format!("public.{name}").parse().unwrap(), name.into())).into();
        let of = |estimate| SourceTableFacts { estimate, ..SourceTableFacts::default() };
        let mut facts = PostgresFacts::default();
        facts
            .tables
            .insert(tables[0].0.clone(), of(Some(Estimate { rows: 10_000_000, bytes: 1_288_490_188 })));
        facts.tables.insert(tables[1].0.clone(), of(Some(Estimate { rows: 5, bytes: 8_192 })));
        let mut observed = Observed { postgres: Observation::Known(facts), ..Observed::default() };
        let text = |step: &Step, observed: &Observed| cost(step, observed, &tables).map(|cost| cost.text());
        let slot = PostgresEffect::DropSlot(Gate::open().proof_of_log().unwrap().allow("shop".into()));
        let drop = step(StepKind::Drop, Stage::Read, Effect::Postgres(slot));
        let asked = read("orders", json!({}));
        insta::assert_snapshot!(text(&asked, &observed).unwrap(), @"reads public.orders at the source: about 10,000,000 rows, 1.1 GiB, as PostgreSQL estimates");
        insta::assert_snapshot!(text(&drop, &observed).unwrap(), @"reads public.orders, public.items at the source: about 10,000,005 rows, 1.2 GiB, as PostgreSQL estimates");
        assert_eq!(text(&read("orders", Value::Null), &observed), None, "a read that is forgotten");
        assert_eq!(text(&read("others", json!({})), &observed), None);
        if let Observation::Known(facts) = &mut observed.postgres {
            facts.tables.insert(tables[1].0.clone(), of(None));
        }
        insta::assert_snapshot!(text(&drop, &observed).unwrap(), @"reads public.orders, public.items at the source: nobody knows how many rows, since PostgreSQL has not analysed all of them: run ANALYZE");
        assert_eq!(text(&asked, &Observed::default()), None, "the source was not seen");
    }

    #[test]
    fn sizes_are_short_numbers() {
        let texts = [0, 1_023, 1_024, 1_536, 1 << 30, u64::MAX].map(size);
        assert_eq!(texts, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 GiB", "16383.9 PiB"]);
    }
}
