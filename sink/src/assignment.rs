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
    let lows = bounds(consumer, wanted, Offset::Beginning)?;
    let highs = bounds(consumer, wanted, Offset::End)?;
    let mut recorded: BTreeMap<(String, i32), Recorded> =
        rows.into_iter().map(|row| ((row.table.clone(), row.partition), row)).collect();
    let mut located = Vec::new();
    for wanted in wanted {
        let (Some(low), Some(high)) = (lows.get(&wanted.partition), highs.get(&wanted.partition)) else {
            continue;
        };
        let recorded = recorded.remove(&(wanted.table.clone(), wanted.partition.1));
        let next = wanted.next.or(recorded.as_ref().map(|row| row.next_offset));
        let (start, gap) = begin(next, *low, *high);
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

/// First or last offsets of partitions: one request a broker, however many they are.
fn bounds(
    consumer: &BaseConsumer<Context>,
    wanted: &[Wanted],
    end: Offset,
) -> KafkaResult<BTreeMap<Partition, i64>> {
    let mut list = TopicPartitionList::new();
    for wanted in wanted {
        list.add_partition_offset(&wanted.topic, wanted.partition.1, end)?;
    }
    let answer = consumer.offsets_for_times(list, DEADLINE)?;
    let found = |wanted: &Wanted| {
        let element = answer.find_partition(&wanted.topic, wanted.partition.1)?;
        match element.offset() {
            Offset::Offset(offset) if element.error().is_ok() => Some((wanted.partition, offset)),
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
}
