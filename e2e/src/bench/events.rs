//! The events of the throughput measurement: changes of an order table in Debezium's envelope. Pure.
//!
//! The same numbers give the same bytes on every machine, so the state that they lead to is known without
//! asking any of the programs that are measured.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// Partitions of the topic; all events of a key are in one of them.
pub const PARTITIONS: i32 = 4;

/// Commit time of the first event, in milliseconds since 1970; each event is a millisecond later.
const FIRST_COMMIT_MS: u64 = 1_767_225_600_000;
/// Position of the log before the first event, in bytes.
const FIRST_LSN: u64 = 23_000_000;
/// The first of February, in microseconds since 1970.
const FEBRUARY_US: u64 = 1_769_904_000_000_000;
/// What the connector writes in the place of a value that a change left as it was, out of line.
const UNCHANGED: &str = "__debezium_unavailable_value";
const STATUSES: [&str; 5] = ["pending", "paid", "shipped", "delivered", "cancelled"];

/// How many events over how many keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workload {
    /// Events in the topic.
    pub events: u64,
    /// Order numbers, from 1.
    pub keys: u64,
    /// What the events are like.
    pub shape: Shape,
}

/// What the events of a workload are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Whole rows before and after, keys spread evenly, no NULL: what both contenders can read.
    Whole,
    /// A quarter of the events on a few keys, NULLs, nothing but the key before a change, and updates that lack the
    /// column that they left as it was.
    Lacking,
}

/// An event's place in the stream: what is visible once the event is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Partition of the topic.
    pub partition: i32,
    /// Order number, the primary key.
    pub id: u64,
    /// Position of the last commit before the event, `source.sequence[0]`.
    pub last_commit_lsn: u64,
    /// Position of the event, `source.lsn` and `source.sequence[1]`.
    pub lsn: u64,
}

/// Columns beside the key, in the order of [`Expected::columns`].
pub const COLUMNS: [&str; 8] =
    ["customer_id", "status", "currency", "total", "note", "ship_to", "placed_at", "updated_at"];
/// What stands for NULL where a value's text is hashed: no note is this.
pub const NULL: &str = "\u{0}";
/// Keys that a quarter of the events of [`Shape::Lacking`] are on.
const HOT: u64 = 16;

/// What the target must hold after all events.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expected {
    /// Orders that exist.
    pub rows: u64,
    /// Of each of [`COLUMNS`], the sum of [`digest`] over all orders.
    pub columns: [u64; COLUMNS.len()],
    /// Events by operation: `c`, `d`, `u`.
    pub operations: BTreeMap<char, u64>,
    /// Bytes of all values.
    pub value_bytes: u64,
    /// The last event of each partition, in the order of the partitions.
    pub last: Vec<Mark>,
}

/// One record of the topic.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Partition of the topic.
    pub partition: i32,
    /// Key, JSON.
    pub key: &'a str,
    /// Value, JSON.
    pub value: &'a str,
}

#[derive(Debug, Clone, Copy, Default)]
struct Order {
    live: bool,
    customer: u32,
    status: u8,
    cents: u64,
    note: u32,
    placed_s: u32,
    updated_us: u32,
}

/// Feeds every record of the workload, in order, to `take`, and returns the state that they lead to.
///
/// Of the events about 70 % create, 25 % update and 5 % delete. There are more creations than keys, so many
/// meet an order that exists and replace it, as after a repeated snapshot.
pub fn generate<E>(
    workload: Workload,
    mut take: impl FnMut(Record<'_>) -> Result<(), E>,
) -> Result<Expected, E> {
    let mut orders = vec![Order::default(); usize::try_from(workload.keys).unwrap_or(usize::MAX)];
    let mut random = SplitMix(0x7469_6465_6D61_726B);
    let mut last: BTreeMap<i32, Mark> = BTreeMap::new();
    let mut expected = Expected::default();
    let mut lsn = FIRST_LSN;
    let (mut key, mut value) = (String::new(), String::with_capacity(2048));
    for index in 0..workload.events {
        let lacking = workload.shape == Shape::Lacking;
        let hot = lacking && random.below(4) == 0;
        let id = 1 + random.below(if hot { HOT.min(workload.keys) } else { workload.keys });
        let order = &mut orders[usize::try_from(id - 1).unwrap_or(usize::MAX)];
        let before = *order;
        let operation = change(order, &mut random);
        let last_commit_lsn = lsn;
        lsn += 100 + random.below(300);
        let mark = Mark { partition: partition_of(id), id, last_commit_lsn, lsn };
        key.clear();
        value.clear();
        let images = Images { lacking, before: &before, after: order };
        write_event(&mut key, &mut value, operation, &mark, index, &images);
        take(Record { partition: mark.partition, key: &key, value: &value })?;
        expected.value_bytes += value.len() as u64;
        *expected.operations.entry(operation).or_default() += 1;
        last.insert(mark.partition, mark);
    }
    for (id, order) in (1..).zip(&orders).filter(|(_, order)| order.live) {
        expected.rows += 1;
        let texts = texts(order, workload.shape == Shape::Lacking);
        for (sum, text) in expected.columns.iter_mut().zip(&texts) {
            *sum = sum.wrapping_add(digest(id, text));
        }
    }
    expected.last = last.into_values().collect();
    Ok(expected)
}

/// Stands for a value in a sum of all of them: the first eight bytes of the SHA-256 of `ID|TEXT`.
pub fn digest(id: u64, text: &str) -> u64 {
    let hash = Sha256::digest(format!("{id}|{text}"));
    u64::from_le_bytes(hash.first_chunk().copied().unwrap_or_default())
}

/// Texts of an order's [`COLUMNS`]; times are microseconds since 1970.
fn texts(order: &Order, lacking: bool) -> [String; COLUMNS.len()] {
    let Order { customer, status, cents, note, placed_s, updated_us, .. } = order;
    let placed = (FIRST_COMMIT_MS / 1000 + u64::from(*placed_s)) * 1_000_000 + u64::from(note * 16);
    [
        customer.to_string(),
        STATUSES[usize::from(*status)].to_owned(),
        "EUR".to_owned(),
        format!("{}.{:02}", cents / 100, cents % 100),
        note_of(order, lacking).unwrap_or_else(|| NULL.to_owned()),
        ship_to(order),
        placed.to_string(),
        (FEBRUARY_US + u64::from(*updated_us)).to_string(),
    ]
}

fn note_of(order: &Order, lacking: bool) -> Option<String> {
    let text = || format!("Leave parcel number {} with the neighbour if nobody opens", order.note);
    (!lacking || !order.note.is_multiple_of(8)).then(text)
}

fn ship_to(order: &Order) -> String {
    let (zip, house) = (10_000 + order.customer % 90_000, order.note % 300);
    format!(r#"{{"city": "Leipzig", "zip": "{zip:05}", "street": "Marktplatz {house}"}}"#)
}

/// Changes the order and returns Debezium's letter for what happened.
fn change(order: &mut Order, random: &mut SplitMix) -> char {
    let choice = random.below(100);
    if order.live && choice < 7 {
        order.live = false;
        return 'd';
    }
    if order.live && choice < 41 {
        order.status = (order.status + 1) % 5;
        order.cents += random.below(5_000);
        order.updated_us = random.below_u32(1_000_000);
        return 'u';
    }
    *order = Order {
        live: true,
        customer: 1 + random.below_u32(100_000),
        status: 0,
        cents: 100 + random.below(500_000),
        note: random.below_u32(60_000),
        placed_s: random.below_u32(28 * 86_400),
        updated_us: random.below_u32(1_000_000),
    };
    'c'
}

fn partition_of(id: u64) -> i32 {
    i32::try_from((id - 1) % 4).unwrap_or(0)
}

/// The row of an event, before and after it.
struct Images<'a> {
    lacking: bool,
    before: &'a Order,
    after: &'a Order,
}

fn write_event(
    key: &mut String,
    value: &mut String,
    operation: char,
    mark: &Mark,
    index: u64,
    images: &Images<'_>,
) {
    let commit_ms = FIRST_COMMIT_MS + index;
    let read_ms = commit_ms + 5;
    let (transaction, Mark { id, last_commit_lsn, lsn, .. }) = (700 + index / 3, mark);
    let mut write = || -> std::fmt::Result {
        write!(key, r#"{{"id":{id}}}"#)?;
        value.push_str(r#"{"before":"#);
        match (operation, images.lacking) {
            ('c', _) | ('u', true) => value.push_str("null"),
            (_, false) => write_row(value, *id, images.before, false, false)?,
            // As Debezium has it under REPLICA IDENTITY DEFAULT: every field, and of the key alone the value.
            (_, true) => {
                write!(value, r#"{{"id":{id}"#)?;
                COLUMNS.iter().try_for_each(|column| write!(value, r#","{column}":null"#))?;
                value.push('}');
            }
        }
        value.push_str(r#","after":"#);
        match operation {
            'd' => value.push_str("null"),
            _ => write_row(value, *id, images.after, images.lacking, operation == 'u')?,
        }
        write!(
            value,
            concat!(
                r#","source":{{"version":"3.6.1.Final","connector":"postgresql","name":"bench","#,
                r#""ts_ms":{},"snapshot":"false","db":"shop","sequence":"[\"{}\",\"{}\"]","#,
                r#""schema":"public","table":"orders","txId":{},"lsn":{},"xmin":null}},"#,
                r#""transaction":null,"op":"{}","ts_ms":{}}}"#,
            ),
            commit_ms, last_commit_lsn, lsn, transaction, lsn, operation, read_ms
        )
    };
    write().expect("a String takes every text");
}

/// Writes a row; one that is `unchanged` has the connector's word in the place of the address.
fn write_row(value: &mut String, id: u64, order: &Order, lacking: bool, unchanged: bool) -> std::fmt::Result {
    let Order { customer, cents, note, placed_s, updated_us, .. } = order;
    let (day, second_of_day) = (placed_s / 86_400, placed_s % 86_400);
    write!(
        value,
        r#"{{"id":{},"customer_id":{},"status":"{}","currency":"EUR","total":"{}.{:02}","#,
        id,
        customer,
        STATUSES[usize::from(order.status)],
        cents / 100,
        cents % 100,
    )?;
    match note_of(order, lacking) {
        Some(text) => write!(value, r#""note":"{text}","#)?,
        None => value.push_str(r#""note":null,"#),
    }
    let address =
        if lacking && unchanged { UNCHANGED.to_owned() } else { ship_to(order).replace('"', "\\\"") };
    write!(
        value,
        concat!(
            r#""ship_to":"{}","placed_at":"2026-01-{:02}T{:02}:{:02}:{:02}.{:06}Z","#,
            r#""updated_at":"2026-02-01T00:00:00.{:06}Z"}}"#,
        ),
        address,
        1 + day,
        second_of_day / 3_600,
        second_of_day / 60 % 60,
        second_of_day % 60,
        note * 16,
        updated_us
    )
}

/// A small generator of numbers that are the same for ever, unlike those of a library's default.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn below_u32(&mut self, bound: u32) -> u32 {
        u32::try_from(self.below(u64::from(bound))).expect("a number below a u32 is one")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const SMALL: Workload = Workload { events: 20_000, keys: 5_000, shape: Shape::Whole };
    const LACKING: Workload = Workload { shape: Shape::Lacking, ..SMALL };

    fn all(workload: Workload) -> (Vec<(i32, String)>, Expected) {
        let mut records = Vec::new();
        let expected = generate(workload, |record| {
            records.push((record.partition, record.value.to_owned()));
            Ok::<_, std::convert::Infallible>(())
        })
        .unwrap();
        (records, expected)
    }

    /// Applies the events as any reader of JSON would, and sums up what is left.
    fn applied(records: &[(i32, String)]) -> (u64, [u64; COLUMNS.len()]) {
        let mut state: BTreeMap<u64, Value> = BTreeMap::new();
        for (partition, text) in records {
            let mut event: Value = serde_json::from_str(text).unwrap();
            let gone = event["op"] == "d";
            let mut image = event[if gone { "before" } else { "after" }].take();
            let id = image["id"].as_u64().unwrap();
            assert_eq!(u64::from(partition.unsigned_abs()), (id - 1) % 4);
            if gone {
                assert!(state.remove(&id).is_some());
                continue;
            }
            if image["ship_to"] == UNCHANGED {
                image["ship_to"] = state[&id]["ship_to"].clone();
            }
            state.insert(id, image);
        }
        let mut sums = [0u64; COLUMNS.len()];
        for (id, image) in &state {
            for (sum, column) in sums.iter_mut().zip(COLUMNS) {
                let text = match &image[column] {
                    Value::String(time) if column.ends_with("_at") => {
                        time.parse::<jiff::Timestamp>().unwrap().as_microsecond().to_string()
                    }
                    Value::String(text) => text.clone(),
                    Value::Null => NULL.to_owned(),
                    other => other.to_string(),
                };
                *sum = sum.wrapping_add(digest(*id, &text));
            }
        }
        (state.len() as u64, sums)
    }

    #[test]
    fn applying_the_events_as_json_leads_to_the_expected_state() {
        for workload in [SMALL, LACKING] {
            let (records, expected) = all(workload);
            assert_eq!(applied(&records), (expected.rows, expected.columns), "{workload:?}");
        }
    }

    #[test]
    fn events_that_lack_something_do() {
        let (records, _) = all(LACKING);
        let having = |text: &str| records.iter().filter(|(_, record)| record.contains(text)).count();
        assert!(
            having(UNCHANGED) > 1_000 && having(r#""note":null,"ship_to":""#) > 1_000,
            "{}",
            having(UNCHANGED)
        );
        let hot = records.iter().filter(|(_, record)| record.contains(r#""after":{"id":7,"#)).count();
        assert!(hot > 200, "{hot} events of a key that many are on");
        let nulls = COLUMNS.map(|column| format!(r#","{column}":null"#)).concat();
        let (before, bare) = (r#""before":{"id":7"#, format!(r#""before":{{"id":7{nulls}}}"#));
        let of_it = records.iter().filter(|(_, record)| record.contains(&format!("{before},")));
        let with_a_key_alone = of_it.clone().filter(|(_, record)| record.contains(&bare)).count();
        assert!(with_a_key_alone > 0 && with_a_key_alone == of_it.count());
    }

    #[test]
    fn one_value_of_one_row_changes_the_sum_of_its_column() {
        let (mut records, expected) = all(SMALL);
        let (_, last) = records.iter_mut().rfind(|(_, record)| record.contains(r#""op":"c""#)).unwrap();
        *last = last.replace("Leave parcel", "Leave  parcel");
        let (_, sums) = applied(&records);
        let differ: Vec<&str> = (0..COLUMNS.len())
            .filter(|place| sums[*place] != expected.columns[*place])
            .map(|p| COLUMNS[p])
            .collect();
        assert_eq!(differ, ["note"]);
    }

    #[test]
    fn the_mix_and_the_size_are_those_of_the_reference() {
        let (records, expected) = all(Workload { events: 100_000, keys: 25_000, ..SMALL });
        let share = |operation| expected.operations[&operation] * 100 / 100_000;
        assert!((66..=74).contains(&share('c')), "{:?}", expected.operations);
        assert!((21..=29).contains(&share('u')), "{:?}", expected.operations);
        assert!((3..=7).contains(&share('d')), "{:?}", expected.operations);
        let average = expected.value_bytes / records.len() as u64;
        assert!((700..=750).contains(&average), "{average} bytes");
    }

    #[test]
    fn the_same_workload_gives_the_same_bytes() {
        assert_eq!(all(SMALL), all(SMALL));
    }
}
