//! A model of a table that is altered while it is written to and looked at: the history that the looks leave must give
//! each event the columns that it had, or have it read again. Pure; random, and the same at each run.

use std::collections::BTreeMap;

use tidemark_crds::history::{Position, candidates, confirmed_to, has_shape};
use tidemark_crds::ledger::Confirmed;

use super::tests::primary_key;
use super::*;

/// Xorshift: the numbers of one seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        let index = self.below(all.len() as u64);
        &all[usize::try_from(index).unwrap()]
    }
}

/// The source, its log and what the operator and the sinks have of both.
struct Model {
    numbers: Numbers,
    facts: SourceTableFacts,
    top: i16,
    lsn: u64,
    files: u32,
    catalogue: u32,
    /// Position, names, and which column each name was.
    events: Vec<(u64, Vec<(String, i16)>)>,
    history: Vec<TableLayout>,
    seen: Option<SeenCatalogue>,
    storage: Option<SeenStorage>,
    ddl: Vec<String>,
    /// The table as others see it, while a transaction alters it.
    committed: Option<SourceTableFacts>,
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const OID: u32 = 7;

impl Model {
    fn new(seed: u64) -> Self {
        let column = |attnum, name: &str| SourceColumn {
            name: name.into(),
            attnum,
            type_name: "bigint".into(),
            type_kind: 'b',
            nullable: attnum > 1,
            deterministic: true,
            ..SourceColumn::default()
        };
        let facts = SourceTableFacts {
            oid: OID,
            replica_identity: 'd',
            indexes: vec![primary_key(&["id"])],
            columns: vec![column(1, "id"), column(2, "a"), column(3, "b")],
            ..SourceTableFacts::default()
        };
        let mut model = Self {
            numbers: Numbers(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            facts,
            top: 3,
            lsn: 100,
            files: 1,
            catalogue: 1,
            events: Vec::new(),
            history: Vec::new(),
            seen: None,
            storage: None,
            ddl: Vec::new(),
            committed: None,
        };
        model.look();
        model
    }

    fn write(&mut self) {
        self.lsn += 10;
        let columns = self.facts.columns.iter().map(|column| (column.name.clone(), column.attnum)).collect();
        self.events.push((self.lsn, columns));
    }

    fn alter(&mut self) {
        self.lsn += 10;
        self.catalogue += 1;
        let taken: Vec<String> = self.facts.columns.iter().map(|column| column.name.clone()).collect();
        let free: Vec<&str> =
            NAMES.into_iter().filter(|name| !taken.iter().any(|taken| taken == name)).collect();
        let others = 1..self.facts.columns.len();
        let index = |numbers: &mut Numbers| {
            usize::try_from(numbers.below(others.len() as u64)).unwrap() + others.start
        };
        match self.numbers.below(6) {
            0 if !free.is_empty() => {
                self.top += 1;
                let name = (*self.numbers.of(&free)).to_owned();
                let missing_value = (self.numbers.below(2) == 0).then(|| "5".to_owned());
                self.ddl.push(format!("add {name}"));
                let template = self.facts.columns[0].clone();
                let added =
                    SourceColumn { name, attnum: self.top, nullable: true, missing_value, ..template };
                self.facts.columns.push(added);
            }
            1 if others.len() > 1 => {
                let gone = self.facts.columns.remove(index(&mut self.numbers));
                self.ddl.push(format!("drop {}", gone.name));
            }
            2 if !free.is_empty() && !others.is_empty() => {
                let (index, name) = (index(&mut self.numbers), (*self.numbers.of(&free)).to_owned());
                self.ddl.push(format!("rename {} to {name}", self.facts.columns[index].name));
                self.facts.columns[index].name = name;
            }
            3 if others.len() > 1 => {
                let (one, other) = (index(&mut self.numbers), index(&mut self.numbers));
                let name = self.facts.columns[one].name.clone();
                self.facts.columns[one].name = std::mem::replace(&mut self.facts.columns[other].name, name);
                self.ddl.push("swap".into());
            }
            4 if !others.is_empty() => {
                let index = index(&mut self.numbers);
                self.facts.columns[index].type_name = (*self.numbers.of(&["bigint", "text", "uuid"])).into();
                self.files += 1;
                self.ddl.push(format!("type {}", self.facts.columns[index].name));
            }
            _ => {
                self.files += 1;
                self.catalogue -= 1;
                self.ddl.push("vacuum full".into());
            }
        }
    }

    /// Begins a transaction that alters the table, or ends it.
    fn transaction(&mut self) {
        self.lsn += 10;
        if self.committed.take().is_none() {
            self.store();
            self.committed = Some(self.facts.clone());
            self.ddl.push("begin".into());
        } else {
            self.ddl.push("commit".into());
        }
    }

    fn store(&mut self) {
        let columns = self.catalogue.to_string();
        self.facts.storage = Storage { files: [(OID, self.files)].into(), columns, ..Storage::default() };
    }

    /// Looks, and writes what is decided into the ledger; whether it wrote.
    fn look(&mut self) -> bool {
        self.lsn += 10;
        self.store();
        let (before, altering) = (self.lsn, self.committed.is_some());
        let facts = self.committed.clone().unwrap_or_else(|| self.facts.clone());
        // The position behind it is read later than the catalogue.
        for _ in 0..self.numbers.below(4).saturating_sub(1) {
            if altering || self.numbers.below(2) == 0 {
                self.write();
            } else {
                self.alter();
            }
        }
        self.lsn += 10;
        let table = serde_json::from_value(serde_json::json!({"name": "public.t"})).unwrap();
        let input = LayoutInput {
            state: &[],
            table: &table,
            source: &facts,
            history: &self.history,
            seen: self.seen,
            storage: self.storage.as_ref(),
            epoch: 1,
            by: self.lsn,
        };
        let decision = decide(&input).unwrap();
        self.storage = decision.storage.or(self.storage.take());
        let is_known = self.history.last() == Some(&decision.layout);
        if is_known && !altering {
            self.seen = Some(SeenCatalogue { layout: decision.layout.version, at: (1, before) });
        }
        if !is_known {
            self.history.push(decision.layout);
        }
        self.ddl.push(format!("look {before} to {}", self.lsn));
        !is_known
    }

    /// A look at what did not change writes nothing.
    fn is_silent(&mut self) -> bool {
        self.store();
        let table = serde_json::from_value(serde_json::json!({"name": "public.t"})).unwrap();
        let input = LayoutInput {
            state: &[],
            table: &table,
            source: self.committed.as_ref().unwrap_or(&self.facts),
            history: &self.history,
            seen: None,
            storage: self.storage.as_ref(),
            epoch: 1,
            by: self.lsn + 1,
        };
        let decision = decide(&input).unwrap();
        self.history.last() == Some(&decision.layout) && decision.storage.is_none()
    }

    /// What the sink's rule makes of an event: the columns of its fields, or nothing where no layout fits.
    fn decoded(&self, at: Position, event: &[(String, i16)]) -> Option<BTreeMap<String, i16>> {
        let names = || event.iter().map(|(name, _)| name.as_str());
        let layout = candidates(&self.history, at).find(|layout| has_shape(layout, names()))?;
        Some(layout.columns.iter().map(|column| (column.source.clone(), column.attnum)).collect())
    }

    /// Looks until two looks have found the same.
    fn settle(&mut self) {
        let ends = |model: &Self| {
            model.seen.is_some_and(|seen| Some(seen.at.1) > model.events.last().map(|event| event.0))
        };
        while !ends(self) {
            self.look();
        }
    }

    fn check(&self) -> (usize, usize) {
        let (mut right, mut read) = (0, 0);
        for (lsn, event) in &self.events {
            let at = (1, *lsn);
            let is_read =
                self.history.iter().any(|layout| layout.read_again.is_some() && layout.from.by() > at);
            match self.decoded(at, event) {
                Some(columns) if columns == event.iter().cloned().collect() => right += 1,
                // Behind the barrier of that read are other events alone.
                Some(columns) => {
                    assert!(is_read, "{lsn} {event:?} became {columns:?} after {:?}", self.ddl);
                    read += 1;
                }
                // A sink asks until a look was behind it, and then it is doubt.
                None => {
                    let layout = self.history.last().unwrap().version;
                    let seen = self.seen.filter(|seen| seen.layout == layout).unwrap();
                    let look = Confirmed { layout, epoch: 1, lsn: seen.at.1 };
                    let known = confirmed_to(&self.history, Some(&look)).unwrap();
                    assert!(at <= known, "{lsn} {event:?} waits for ever after {:?}", self.ddl);
                    read += 1;
                }
            }
        }
        for layout in &self.history {
            let stored: BTreeSet<&str> = layout.columns.iter().map(|column| column.stored.as_str()).collect();
            assert_eq!(stored.len(), layout.columns.len(), "one column twice: {layout:?}");
        }
        (right, read)
    }

    /// A column of the state table is one column of the source for as long as no read comes between.
    fn check_columns(&self) {
        let mut owners: BTreeMap<&str, (i16, &str)> = BTreeMap::new();
        for layout in &self.history {
            if layout.read_again.is_some() {
                owners.clear();
            }
            for column in &layout.columns {
                let owner = owners.entry(&column.stored).or_insert((column.attnum, &column.pg_type));
                assert_eq!(owner.0, column.attnum, "{} after {:?}", column.stored, self.ddl);
            }
        }
    }
}

#[test]
fn every_event_of_a_random_history_has_its_columns_or_is_read_again() {
    let (mut right, mut read) = (0, 0);
    for seed in 1..=1_500 {
        let mut model = Model::new(seed);
        for _ in 0..40 {
            match model.numbers.below(10) {
                0 | 1 => model.alter(),
                2..=4 => {
                    let altered = model.ddl.len();
                    model.look();
                    // Unless the table was altered while it was looked at.
                    assert!(model.ddl.len() > altered + 1 || model.is_silent(), "{:?}", model.ddl);
                }
                6 if model.numbers.below(3) == 0 => model.transaction(),
                5 if model.numbers.below(6) == 0 => model.seen = None,
                _ => model.write(),
            }
        }
        model.committed = None;
        model.write();
        while model.look() {}
        model.settle();
        let (one, other) = model.check();
        model.check_columns();
        right += one;
        read += other;
    }
    assert!(right > 4 * read, "most events are known by their shape: {right} against {read}");
    assert!(read > 100, "the model never tried what is hard: {read}");
}
