//! Where a partition is read from: where the rows in its table end, not where Kafka's commit says. What was deleted
//! before it was read is seen here. Pure but for [`locate`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};

use crate::group::Context;
use crate::offsets::Partition;
use crate::progress::{Progress, Recorded};

/// Deadline of one question to the brokers.
const DEADLINE: Duration = Duration::from_secs(5);
/// First and longest pause between two tries.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// A partition whose beginning is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The partition.
    pub partition: Partition,
    /// Its topic.
    pub topic: String,
    /// State table of its rows.
    pub table: String,
    /// Counts the times that it was asked for: an answer to an earlier question is void.
    pub generation: u64,
    /// Where to go on; absent: where the progress table says.
    pub next: Option<i64>,
}

/// Where a partition begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The partition.
    pub partition: Partition,
    /// Of the question.
    pub generation: u64,
    /// Offset of the first record to read; the consumer is there.
    pub start: i64,
    /// What an earlier owner recorded.
    pub recorded: Option<Recorded>,
    /// What is lost, if anything is.
    pub gap: Option<String>,
}

/// Where to begin in a log from `low` to `high`, exclusive, when everything before `next` is applied; and what is lost.
pub fn begin(next: Option<i64>, low: i64, high: i64) -> (i64, Option<String>) {
    match next {
        None if low > 0 => {
            let why =
                format!("retention passed: the records before offset {low} were gone before any was read");
            (low, Some(why))
        }
        None => (low, None),
        Some(next) if next < low => {
            let why = format!("retention passed: the records from offset {next} to {low} are gone");
            (low, Some(why))
        }
        Some(next) if next > high => {
            let why = format!(
                "the topic was made anew: it ends at offset {high}, and all before {next} is applied of the one before"
            );
            (low, Some(why))
        }
        Some(next) => (next, None),
    }
}

/// Whether a log is another one than that of the progress row: a record of it that counts as applied came later, by
/// Kafka's time, than all that were. A topic that was made anew and has grown past the offset is told by nothing else.
/// `later` is the offset of the first record behind that time; `None`: there is none.
fn is_another(recorded: &Recorded, later: Option<i64>) -> bool {
    recorded.kafka_time_ms > 0 && later.is_some_and(|later| later < recorded.next_offset)
}

/// Finds where partitions begin and puts the consumer there; tries until all are found.
pub async fn locate(
    consumer: Arc<BaseConsumer<Context>>,
    progress: Progress,
    mut wanted: Vec<Wanted>,
    mut found: impl FnMut(Vec<Located>),
) {
    let mut pause = PAUSES.0;
    while !wanted.is_empty() {
        match progress.recorded().await {
            Ok(rows) => {
                let (consumer, asked) = (Arc::clone(&consumer), wanted.clone());
                let located = tokio::task::spawn_blocking(move || place(&consumer, &asked, rows)).await;
                match located {
                    Ok(Ok(located)) => {
                        wanted.retain(|wanted| {
                            !located.iter().any(|located| located.partition == wanted.partition)
                        });
                        found(located);
                    }
                    Ok(Err(error)) => {
                        tracing::debug!(%error, "the brokers do not say where partitions begin yet");
                    }
                    Err(_) => return,
                }
            }
            Err(error) => tracing::warn!(%error, "progress cannot be read yet: new partitions wait"),
        }
        if !wanted.is_empty() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

/// Finds the beginnings of those partitions whose brokers answer, and goes there.
fn place(
    consumer: &BaseConsumer<Context>,
    wanted: &[Wanted],
    rows: Vec<Recorded>,
) -> KafkaResult<Vec<Located>> {
    let mut recorded: BTreeMap<(String, i32), Recorded> =
        rows.into_iter().map(|row| ((row.table.clone(), row.partition), row)).collect();
    let lows = offsets(consumer, wanted, |_| Offset::Beginning)?;
    let highs = offsets(consumer, wanted, |_| Offset::End)?;
    // The end, where nothing is known to have been applied.
    let behind = |wanted: &Wanted| {
        let row = recorded.get(&(wanted.table.clone(), wanted.partition.1));
        let time = row.map_or(0, |row| row.kafka_time_ms);
        if time > 0 { Offset::Offset(time + 1) } else { Offset::End }
    };
    let laters = offsets(consumer, wanted, behind)?;
    let mut located = Vec::new();
    for wanted in wanted {
        let of = |found: &BTreeMap<Partition, Option<i64>>| found.get(&wanted.partition).copied();
        let (Some(Some(low)), Some(Some(high)), Some(later)) = (of(&lows), of(&highs), of(&laters)) else {
            continue;
        };
        let recorded = recorded.remove(&(wanted.table.clone(), wanted.partition.1));
        let next = wanted.next.or(recorded.as_ref().map(|row| row.next_offset));
        let (start, gap) = match begin(next, low, high) {
            (_, None) if recorded.as_ref().is_some_and(|row| is_another(row, later)) => {
                let why = "the topic was made anew: records that count as applied were written later than all that were";
                (low, Some(why.to_owned()))
            }
            found => found,
        };
        // The partition may be on its way to its committed offset still: then the next try finds it.
        if let Err(error) = consumer.seek(&wanted.topic, wanted.partition.1, Offset::Offset(start), DEADLINE)
        {
            tracing::debug!(%error, topic = wanted.topic, partition = wanted.partition.1, "cannot go to the offset yet");
            continue;
        }
        located.push(Located {
            partition: wanted.partition,
            generation: wanted.generation,
            start,
            recorded,
            gap,
        });
    }
    Ok(located)
}

/// Offsets of partitions, the first or last ones or those of the first records from a time on, in milliseconds: one request
/// a broker, however many they are. `None`: there is no such record.
fn offsets(
    consumer: &BaseConsumer<Context>,
    wanted: &[Wanted],
    at: impl Fn(&Wanted) -> Offset,
) -> KafkaResult<BTreeMap<Partition, Option<i64>>> {
    let mut list = TopicPartitionList::new();
    for wanted in wanted {
        list.add_partition_offset(&wanted.topic, wanted.partition.1, at(wanted))?;
    }
    let answer = consumer.offsets_for_times(list, DEADLINE)?;
    let found = |wanted: &Wanted| {
        let element = answer.find_partition(&wanted.topic, wanted.partition.1)?;
        element.error().ok()?;
        match element.offset() {
            Offset::Offset(offset) => Some((wanted.partition, Some(offset))),
            Offset::End => Some((wanted.partition, None)),
            _ => None,
        }
    };
    Ok(wanted.iter().filter_map(found).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_begins_where_the_rows_end_and_gaps_have_names() {
        assert_eq!(begin(None, 0, 20), (0, None));
        let (start, gap) = begin(None, 7, 20);
        assert!(start == 7 && gap.unwrap().contains("before offset 7"));
        assert_eq!(begin(Some(7), 7, 20), (7, None));
        assert_eq!(begin(Some(20), 7, 20), (20, None));
        let (start, gap) = begin(Some(5), 7, 20);
        assert!(start == 7 && gap.unwrap().contains("from offset 5 to 7"));
        let (start, gap) = begin(Some(1000), 0, 500);
        assert!(start == 0 && gap.unwrap().contains("made anew"));
    }

    #[test]
    fn a_topic_that_grew_past_what_was_applied_of_the_one_before_is_told_by_the_times_of_its_records() {
        let recorded = |kafka_time_ms| Recorded {
            table: "orders".into(),
            partition: 0,
            next_offset: 100,
            rows: 0,
            dead_letters: 0,
            dead_epoch: 0,
            dead_lsn: 0,
            applied_lsn: 0,
            applied_epoch: 0,
            last_change_ms: 0,
            fresh_to_ms: 0,
            kafka_time_ms,
        };
        assert!(is_another(&recorded(7), Some(0)) && is_another(&recorded(7), Some(99)));
        assert!(!is_another(&recorded(7), Some(100)) && !is_another(&recorded(7), None));
        assert!(!is_another(&recorded(0), Some(0)), "of a row in which nothing was noted");
    }
}
