use tidemark_crds::layout::{Begin, TableLayout};
use tidemark_crds::ledger::Confirmed;
use tidemark_crds::version::Version;

use super::*;
use crate::plan::Encoding;
use crate::testing::{column, event, layout};

fn route() -> TableRoute {
    TableRoute { source: "public.t".parse().unwrap(), topic: "t".to_owned(), target: "t".to_owned() }
}

/// `id` and one more column of this name and type.
fn of(version: u64, after: u64, by: u64, name: &str, ch_type: &str) -> TableLayout {
    let pg_type = if ch_type == "Int16" { "smallint" } else { "text" };
    let columns = vec![column("id", 1, "bigint", "Int64", Some(0)), column(name, 2, pg_type, ch_type, None)];
    TableLayout { version, from: Begin { epoch: 1, after, by }, ..layout("t", columns) }
}

fn history(layouts: Vec<TableLayout>, confirmed: Option<u64>) -> Arc<History> {
    let newest = layouts.last().map_or(0, |layout| layout.version);
    let confirmed = confirmed.map(|lsn| Confirmed { layout: newest, epoch: 1, lsn });
    Arc::new(History::new(layouts, confirmed.as_ref(), Encoding::Contract, None))
}

fn table(layouts: Vec<TableLayout>, confirmed: Option<u64>) -> Table {
    let mut table = Table::new(route(), 10, None);
    table.use_epoch(1);
    table.use_history(history(layouts, confirmed), Instant::now());
    table
}

fn batches(table: &mut Table) -> Vec<Batch> {
    std::iter::from_fn(|| table.next_batch(|_, _, _| Some(FlushCause::Drain)).map(|(batch, _)| batch))
        .collect()
}

fn versions(batch: &Batch) -> (u64, Vec<Version>) {
    (batch.plan().layout.version, (0..batch.rows()).map(|row| batch.version_of(row).0).collect())
}

#[test]
fn a_record_of_an_unknown_shape_waits_for_the_catalogue_and_then_finds_its_layout() {
    let now = Instant::now();
    let mut table = table(vec![of(1, 0, 0, "a", "String")], None);
    assert_eq!(table.take(&event(0, 0, "c", r#"{"id":1,"a":"x"}"#, 50), now), Taken::Applied);
    assert_eq!(table.take(&event(0, 1, "c", r#"{"id":2,"b":"y"}"#, 130), now), Taken::Held);
    assert_eq!(table.take(&event(0, 2, "c", r#"{"id":3,"b":"z"}"#, 140), now), Taken::Refused);
    let state = table.state();
    assert_eq!((state.state, state.reason.as_str(), state.wants), (TableState::Held, "shape", (1, 130)));
    assert!(
        table.use_history(
            history(vec![of(1, 0, 0, "a", "String"), of(2, 100, 120, "b", "String")], None),
            now
        )
    );
    assert_eq!(table.take(&event(0, 2, "c", r#"{"id":3,"b":"z"}"#, 140), now), Taken::Applied);
    let found: Vec<(u64, usize)> =
        batches(&mut table).iter().map(|b| (b.plan().layout.version, b.rows())).collect();
    assert_eq!(found, [(1, 1), (2, 2)]);
}

#[test]
fn what_fits_nothing_at_a_confirmed_position_is_passed_over_and_the_table_is_in_doubt() {
    let mut table = table(vec![of(1, 0, 0, "a", "String")], Some(200));
    let unknown = event(0, 7, "u", r#"{"id":1,"z":1}"#, 150);
    assert_eq!(table.take(&unknown, Instant::now()), Taken::Applied);
    let state = table.state();
    assert_eq!((state.state, state.doubt_at), (TableState::Streaming, (1, 150)));
    assert!(state.doubt.contains("id, z"));
    let [batch] = batches(&mut table).try_into().unwrap();
    assert_eq!((batch.rows(), batch.offsets()[0].1.next), (0, 8));
    assert_eq!(batch.doubt.map(|doubt| doubt.at), Some((1, 150)));
    assert_eq!(batch.floor, (1, 150), "rows from before have no values for those that come");
    table.was_read((1, 150));
    assert!(table.doubt().is_some());
    table.was_read((1, 151));
    assert!(table.doubt().is_none());
}

#[test]
fn a_batch_is_of_the_greatest_epoch_of_its_records_whatever_their_order() {
    let now = Instant::now();
    let mut table = table(vec![of(1, 0, 0, "a", "String")], None);
    table.use_epoch(2);
    let mut newer = event(0, 0, "c", r#"{"id":1,"a":"x"}"#, 130);
    newer.headers[0].1 = Some(b"2".to_vec());
    assert_eq!(table.take(&newer, now), Taken::Applied);
    assert_eq!(table.take(&event(1, 0, "c", r#"{"id":2,"a":"y"}"#, 120), now), Taken::Applied);
    assert_eq!(batches(&mut table)[0].epoch, 2);
}

#[test]
fn a_change_that_was_made_before_a_barrier_and_committed_behind_it_is_in_doubt_after_that_read() {
    let now = Instant::now();
    let mut table = table(vec![of(1, 0, 0, "a", "String")], Some(500));
    let mut change = event(0, 0, "c", r#"{"id":1,"z":"y"}"#, 130);
    let text = String::from_utf8(change.payload.take().unwrap()).unwrap();
    change.payload = Some(text.replace(r#"[\"130\","#, r#"[\"160\","#).into_bytes());
    assert_eq!(table.take(&change, now), Taken::Applied);
    assert_eq!(table.doubt().unwrap().at, (1, 160));
    table.was_read((1, 150));
    assert!(table.doubt().is_some(), "the read may have missed it");
}

#[test]
fn a_batch_lends_no_values_from_before_a_read_by_which_changes_were_passed_over() {
    let now = Instant::now();
    let mut table = table(vec![of(1, 0, 0, "a", "String")], None);
    assert_eq!(table.take(&event(0, 0, "u", r#"{"id":1,"a":"old"}"#, 110), now), Taken::Applied);
    table.hear(&ReadState { request: 1, barrier: (1, 130), done: true }, now);
    assert_eq!(table.take(&event(0, 1, "u", r#"{"id":1,"a":"read"}"#, 120), now), Taken::Applied);
    let [batch] = batches(&mut table).try_into().unwrap();
    assert_eq!((batch.rows(), batch.read), (1, Version::of_read(1, 130)));
    assert!(batch.version_of(0).0 < batch.read);
}

#[test]
fn where_records_are_gone_no_row_of_before_lends_its_values() {
    let now = Instant::now();
    let mut table = table(vec![of(1, 0, 0, "a", "String")], None);
    table.hear(&ReadState { request: 1, barrier: (1, 100), done: true }, now);
    assert_eq!(table.take(&event(0, 0, "c", r#"{"id":1,"a":"x"}"#, 130), now), Taken::Applied);
    assert_eq!(batches(&mut table)[0].floor, (0, 0));
    assert_eq!(table.take(&event(0, 1, "c", r#"{"id":2,"a":"y"}"#, 140), now), Taken::Applied);
    table.lost("gone".to_owned(), (1, 90));
    assert_eq!((table.doubt().unwrap().at, batches(&mut table)[0].floor), ((1, 140), (1, 140)));
    // A read that had begun before is none that ends it.
    table.hear(&ReadState { request: 2, barrier: (1, 120), done: true }, now);
    assert!(table.doubt().is_some());
    table.hear(&ReadState { request: 3, barrier: (1, 150), done: true }, now);
    assert!(table.doubt().is_none());
}

#[test]
fn what_a_read_has_superseded_is_passed_over_whatever_its_shape() {
    let now = Instant::now();
    let mut table = table(vec![of(1, 0, 0, "a", "String")], None);
    let old = event(0, 0, "u", r#"{"id":1,"z":{"q":[]}}"#, 130);
    assert_eq!(table.take(&old, now), Taken::Held);
    table.was_read((1, 120));
    assert!(!table.resume(now), "the read was before it");
    table.was_read((1, 140));
    assert!(table.resume(now));
    // A restart from further back brings it again.
    assert_eq!(table.take(&event(0, 1, "u", r#"{"id":1,"z":1}"#, 139), now), Taken::Applied);
    assert_eq!(table.take(&event(0, 2, "u", r#"{"id":1,"a":"new"}"#, 150), now), Taken::Applied);
    let [batch] = batches(&mut table).try_into().unwrap();
    assert_eq!((batch.rows(), batch.dead.len(), batch.offsets()[0].1.next), (1, 0, 3));
}

#[test]
fn an_update_that_moved_its_key_and_was_not_split_leaves_a_tombstone_and_no_value_of_before() {
    let mut table = table(vec![of(1, 0, 0, "a", "String")], Some(500));
    let moved = |before: &str, offset| {
        let mut record = event(0, offset, "u", r#"{"id":2,"a":"new"}"#, 130);
        let text = String::from_utf8(record.payload.take().unwrap()).unwrap();
        record.payload =
            Some(text.replacen(r#""before":null"#, &format!(r#""before":{before}"#), 1).into_bytes());
        record
    };
    assert_eq!(table.take(&moved(r#"{"id":1,"a":null}"#, 0), Instant::now()), Taken::Applied);
    assert_eq!(table.take(&moved(r#"{"id":2,"a":null}"#, 1), Instant::now()), Taken::Applied);
    let [batch] = batches(&mut table).try_into().unwrap();
    let deleted: Vec<bool> = (0..batch.rows()).map(|row| batch.version_of(row).1).collect();
    assert_eq!((deleted, batch.dead.len()), (vec![true, false, false], 0));
}

#[test]
fn a_value_that_does_not_fit_waits_until_its_position_is_confirmed_and_then_dies() {
    let now = Instant::now();
    let mut table = table(vec![of(1, 0, 0, "a", "Int16")], None);
    let wide = event(0, 0, "u", r#"{"id":1,"a":70000}"#, 150);
    assert_eq!(table.take(&wide, now), Taken::Held);
    assert_eq!((table.state().reason.as_str(), table.state().wants), ("value", (1, 150)));
    assert!(table.use_history(history(vec![of(1, 0, 0, "a", "Int16")], Some(150)), now));
    let [batch] = batches(&mut table).try_into().unwrap();
    assert_eq!((batch.rows(), batch.dead.len()), (0, 1));
    assert!(batch.dead[0].error.contains("field a") && batch.dead[0].position == 150);
    assert_eq!(batch.offsets()[0].1.dead, 1);
}

#[test]
fn records_of_two_layouts_in_turn_fill_two_batches_and_are_sent_in_order() {
    let now = Instant::now();
    let mut table = table(vec![of(1, 0, 0, "a", "String"), of(2, 100, 120, "b", "String")], Some(500));
    // One partition is behind the other.
    for offset in 0..20_i64 {
        let lsn = 130 + offset.unsigned_abs();
        assert_eq!(table.take(&event(0, offset, "c", r#"{"id":1,"b":"y"}"#, lsn), now), Taken::Applied);
        let lsn = 50 + offset.unsigned_abs();
        assert_eq!(table.take(&event(1, offset, "c", r#"{"id":2,"a":"x"}"#, lsn), now), Taken::Applied);
    }
    let found = batches(&mut table);
    assert_eq!(found.iter().map(|b| versions(b).0).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(found.iter().map(Batch::rows).collect::<Vec<_>>(), [20, 20]);
}

#[test]
fn no_record_of_a_partition_overtakes_an_earlier_one_that_is_not_sent() {
    let now = Instant::now();
    let mut table = table(vec![of(1, 0, 0, "a", "String"), of(2, 100, 120, "b", "String")], Some(500));
    for (offset, row, lsn) in
        [(0, r#"{"id":1,"b":"y"}"#, 130), (1, r#"{"id":1,"a":"x"}"#, 60), (2, r#"{"id":1,"b":"y"}"#, 131)]
    {
        assert_eq!(table.take(&event(0, offset, "c", row, lsn), now), Taken::Applied);
    }
    let next: Vec<i64> = batches(&mut table).iter().map(|batch| batch.offsets()[0].1.next).collect();
    assert!(next.is_sorted(), "{next:?}: what is acknowledged first must come first");
    assert_eq!(next.last(), Some(&3));
}

#[test]
fn a_record_without_epoch_is_no_record_of_epoch_one() {
    let mut table = table(vec![of(1, 0, 0, "a", "String")], Some(500));
    let mut record = event(0, 0, "c", r#"{"id":1,"a":"x"}"#, 50);
    record.headers.clear();
    table.take(&record, Instant::now());
    let [batch] = batches(&mut table).try_into().unwrap();
    assert_eq!((batch.rows(), batch.dead.len()), (0, 1));
    assert!(batch.dead[0].error.contains("tidemark.epoch"));
}

#[test]
fn a_record_of_an_epoch_that_the_ledger_has_not_stops_its_table_and_is_never_applied() {
    let now = Instant::now();
    let mut table = table(vec![of(1, 0, 0, "a", "String")], Some(500));
    let foreign = |offset, epoch: &str| {
        let mut record = event(0, offset, "c", r#"{"id":1,"a":"theirs"}"#, 50);
        record.headers = vec![(EPOCH_HEADER.to_owned(), Some(epoch.as_bytes().to_vec()))];
        record
    };
    assert_eq!(table.take(&event(0, 0, "c", r#"{"id":1,"a":"ours"}"#, 50), now), Taken::Applied);
    // It may be on its way into the ledger: so it is asked first.
    assert_eq!(table.take(&foreign(1, "2"), now), Taken::Held);
    assert!(!table.looked() && table.state().state == TableState::Held && !table.resume(now));
    assert!(table.looked());
    let state = table.state();
    assert_eq!((state.state, state.reason.as_str(), state.wants), (TableState::Stopped, EPOCH, (2, 0)));
    assert!(
        state.message.contains("partition 0, offset 1") && state.message.contains("tidemark.dev/resnapshot")
    );
    assert_eq!(table.take(&event(0, 2, "c", r#"{"id":2,"a":"ours"}"#, 60), now), Taken::Refused);
    // The epoch above both.
    table.use_epoch(3);
    assert!(table.resume(now));
    assert_eq!(table.take(&foreign(2, "2"), now), Taken::Applied);
    assert_eq!(table.take(&foreign(3, "3"), now), Taken::Applied);
    let [batch] = batches(&mut table).try_into().unwrap();
    let epochs: Vec<u16> = (0..batch.rows()).map(|row| batch.version_of(row).0.epoch()).collect();
    assert_eq!((epochs, batch.dead.len(), batch.offsets()[0].1.next), (vec![1, 3], 0, 4));
}

#[test]
fn a_record_that_is_earlier_than_its_epochs_row_waits_for_it() {
    let now = Instant::now();
    let mut table = table(vec![of(1, 0, 0, "a", "String")], Some(500));
    let mut record = event(0, 0, "c", r#"{"id":1,"a":"x"}"#, 50);
    record.headers = vec![(EPOCH_HEADER.to_owned(), Some(b"2".to_vec()))];
    assert_eq!(table.take(&record, now), Taken::Held);
    table.looked();
    table.use_epoch(2);
    assert!(table.resume(now) && !table.looked());
    assert_eq!(table.state().state, TableState::Streaming);
    assert_eq!(batches(&mut table)[0].rows(), 1);
}

#[test]
fn a_table_whose_records_die_stops_and_goes_on_when_it_is_told_to() {
    let now = Instant::now();
    let mut table = table(vec![of(1, 0, 0, "a", "Int16")], Some(500));
    let mut taken = 0;
    while table.take(&event(0, taken, "c", r#"{"id":1,"a":"x"}"#, 50), now) == Taken::Applied {
        taken += 1;
    }
    assert_eq!(taken, 11);
    assert_eq!((table.state().state, table.state().reason.as_str()), (TableState::Stopped, "dead-letters"));
    table.restart();
    assert_eq!(table.take(&event(0, taken, "c", r#"{"id":1,"a":1}"#, 60), now), Taken::Applied);
}

#[test]
fn a_deletion_needs_its_key_alone_and_a_move_keeps_the_key_of_before() {
    let now = Instant::now();
    let mut table = table(vec![of(1, 0, 0, "a", "String")], Some(500));
    table.take(&event(0, 0, "d", r#"{"id":1,"a":null}"#, 50), now);
    let mut moved = event(0, 1, "c", r#"{"id":2,"a":"__debezium_unavailable_value"}"#, 50);
    moved.headers.push((OLD_KEY_HEADER.to_owned(), Some(br#"{"id":1}"#.to_vec())));
    table.take(&moved, now);
    let [batch] = batches(&mut table).try_into().unwrap();
    assert_eq!((batch.rows(), batch.version_of(0).1, batch.dead.len()), (1, true, 0));
    let [deferred] = batch.deferred() else { panic!("one row waits") };
    assert_eq!(deferred.key, 2_i64.to_le_bytes());
    assert_eq!(deferred.old_key.as_deref(), Some(&1_i64.to_le_bytes()[..]));
    assert_eq!(deferred.lacking, [1]);
}

#[test]
fn a_batch_knows_the_record_of_each_row() {
    let now = Instant::now();
    let mut table = table(vec![of(1, 0, 0, "a", "String")], Some(500));
    let places = [(0, 5), (0, 6), (1, 9), (1, 10), (0, 7), (0, 9)];
    for (partition, offset) in places {
        table.take(&event(partition, offset, "c", r#"{"id":1,"a":"x"}"#, 50), now);
    }
    let [batch] = batches(&mut table).try_into().unwrap();
    for (row, (partition, offset)) in places.into_iter().enumerate() {
        assert_eq!(batch.place_of(row), Some(Place { partition, offset }));
    }
}
