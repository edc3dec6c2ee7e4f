//! Debezium and Kafka: events of the log in commit order, records by partition.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use tidemark_crds::ledger::EPOCH_HEADER;
use tidemark_sink::dead_letter::DeadLetter;
use tidemark_sink::table::OLD_KEY_HEADER;

use super::mutant::Mutant;
use super::source::{Act, Change, Column, Committed, Row, value_of};

pub(super) const TOPIC: &str = "shop.public.t";
const PLACEHOLDER: &str = "__debezium_unavailable_value";

/// An event that Debezium has made of the log.
#[derive(Debug, Clone)]
struct Event {
    key: Option<i64>,
    record: DeadLetter,
}

/// One partition of the topic.
#[derive(Debug, Default)]
pub(super) struct Partition {
    /// Offset of the oldest record that is there.
    pub(super) low: i64,
    /// All records that ever were.
    records: Vec<DeadLetter>,
}

impl Partition {
    pub(super) fn end(&self) -> i64 {
        i64::try_from(self.records.len()).unwrap()
    }

    /// The record at an offset, or the first one behind it that is there.
    pub(super) fn at(&self, offset: i64) -> Option<&DeadLetter> {
        self.records.get(usize::try_from(offset.max(self.low)).unwrap())
    }
}

/// The connector and its topic.
#[derive(Debug)]
pub(super) struct Stream {
    mutant: Option<Mutant>,
    pub(super) epoch: u16,
    /// Transactions of the log that events were made of.
    decoded: usize,
    last_commit: u64,
    events: Vec<Event>,
    sent: usize,
    pub(super) partitions: Vec<Partition>,
}

impl Stream {
    pub(super) fn new(mutant: Option<Mutant>) -> Self {
        Self {
            mutant,
            epoch: 1,
            decoded: 0,
            last_commit: 0,
            events: Vec::new(),
            sent: 0,
            partitions: vec![Partition::default(), Partition::default()],
        }
    }

    fn decode(&mut self, log: &[Committed]) {
        for Committed { lsn, changes } in &log[self.decoded..] {
            for change in changes {
                self.of_change(change);
            }
            self.last_commit = *lsn;
        }
        self.decoded = log.len();
    }

    fn of_change(&mut self, change: &Change) {
        let columns = &change.columns;
        let none = BTreeSet::new();
        match &change.act {
            Act::Insert(key, row) => {
                self.event(change, Some(*key), "c", ("null", &object(columns, row, &none)), None);
            }
            Act::Update(from, to, row, kept) => {
                let (mut row, is_null) = (row.clone(), self.mutant == Some(Mutant::UnchangedIsNull));
                if is_null {
                    row.extend(kept.iter().map(|attnum| (*attnum, None)));
                }
                let after = object(columns, &row, if is_null { &none } else { kept });
                if from == to {
                    self.event(change, Some(*to), "u", ("null", &after), None);
                } else {
                    let before = object(columns, &key_alone(*from), &none);
                    self.event(change, Some(*from), "d", (&before, "null"), None);
                    self.event(change, Some(*to), "c", ("null", &after), Some(*from));
                }
            }
            Act::Delete(key) => {
                let before = object(columns, &key_alone(*key), &none);
                self.event(change, Some(*key), "d", (&before, "null"), None);
            }
            Act::Truncate => self.event(change, None, "t", ("null", "null"), None),
            Act::Message => {}
        }
    }

    fn event(
        &mut self,
        change: &Change,
        key: Option<i64>,
        op: &str,
        (before, after): (&str, &str),
        old_key: Option<i64>,
    ) {
        let lsn = change.lsn;
        let sequence = match (self.mutant, self.last_commit) {
            (Some(Mutant::OwnPositionAlone), _) => "null".to_owned(),
            (_, 0) => format!(r#""[null,\"{lsn}\"]""#),
            (_, commit) => format!(r#""[\"{commit}\",\"{lsn}\"]""#),
        };
        let payload = format!(
            r#"{{"before":{before},"after":{after},"source":{{"ts_ms":5,"snapshot":"false","sequence":{sequence},"lsn":{lsn}}},"op":"{op}"}}"#
        );
        let epoch = if self.mutant == Some(Mutant::EpochStays) { 1 } else { self.epoch };
        let mut headers = vec![(EPOCH_HEADER.to_owned(), Some(epoch.to_string().into_bytes()))];
        if let Some(old) = old_key {
            headers.push((OLD_KEY_HEADER.to_owned(), Some(format!(r#"{{"id":{old}}}"#).into_bytes())));
        }
        let record = DeadLetter {
            topic: TOPIC.to_owned(),
            payload: Some(payload.into_bytes()),
            headers,
            ..DeadLetter::default()
        };
        self.events.push(Event { key, record });
    }

    /// Sends some of what the log has.
    pub(super) fn send(&mut self, log: &[Committed], count: usize) {
        self.decode(log);
        let end = self.events.len().min(self.sent + count);
        for place in self.sent..end {
            let Event { key, record } = self.events[place].clone();
            let number = key.map_or(place, |key| usize::try_from(key).unwrap()) % self.partitions.len();
            let partition = &mut self.partitions[number];
            let (partition_number, offset) = (i32::try_from(number).unwrap(), partition.end());
            partition.records.push(DeadLetter { partition: partition_number, offset, ..record });
        }
        self.sent = end;
    }

    pub(super) fn is_drained(&self, log: &[Committed]) -> bool {
        self.decoded == log.len() && self.sent == self.events.len()
    }

    pub(super) fn resend(&mut self, count: usize) {
        self.sent = self.sent.saturating_sub(count);
    }

    /// A new slot: what is in the log now is not sent by it.
    pub(super) fn begin_epoch(&mut self, log: &[Committed]) {
        self.epoch += 1;
        self.decoded = log.len();
        self.last_commit = 0;
        // A new connector's offsets begin here: nothing of before comes again.
        self.events.clear();
        self.sent = 0;
    }

    pub(super) fn retain(&mut self, partition: usize, records: i64) {
        if let Some(partition) = self.partitions.get_mut(partition) {
            partition.low = (partition.low + records).min(partition.end());
        }
    }

    pub(super) fn add_partition(&mut self) {
        if self.partitions.len() < 3 {
            self.partitions.push(Partition::default());
        }
    }
}

fn key_alone(key: i64) -> Row {
    // What is not of the key is NULL, whatever the column's default is.
    let others = (2..40).map(|attnum| (attnum, None));
    std::iter::once((1, Some(key.to_string()))).chain(others).collect()
}

/// A row as Debezium has it.
fn object(columns: &[Column], row: &Row, kept: &BTreeSet<i16>) -> String {
    let mut text = String::from("{");
    for (place, column) in columns.iter().enumerate() {
        let separator = if place == 0 { "" } else { "," };
        let _ = write!(text, r#"{separator}"{}":"#, column.name);
        let _ = match value_of(row, column) {
            _ if kept.contains(&column.attnum) => write!(text, r#""{PLACEHOLDER}""#),
            None => write!(text, "null"),
            Some(value) if column.pg_type == "text" => write!(text, r#""{value}""#),
            Some(value) => write!(text, "{value}"),
        };
    }
    text.push('}');
    text
}
