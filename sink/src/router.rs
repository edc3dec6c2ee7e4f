//! From a record's topic and partition to what is known of the partition. Pure.

use std::collections::{BTreeMap, HashMap};

use crate::offsets::Partition;

/// One partition that this replica owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Table and partition.
    pub partition: Partition,
    /// Counts the questions for its beginning.
    pub generation: u64,
    /// Whether it is known where it is to be read; until then nothing of it is taken.
    pub located: bool,
    /// Offset of the record that comes next.
    pub next: i64,
    /// A jump to this offset was looked at and is none that loses records.
    pub allowed: Option<i64>,
    /// Whether a small jump was looked at and nothing was gone: its topic is written to in transactions.
    pub marks: bool,
    /// First record that was not taken, since its table waits: it is read again.
    pub refused: Option<i64>,
}

/// What to do with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is the next one.
    Take,
    /// It comes again later.
    Skip,
    /// It does not follow on the last one: records may be gone, or the topic is another one.
    Look,
}

impl Part {
    /// Judges a record by its offset.
    #[inline]
    pub fn step(&self, offset: i64) -> Step {
        if !self.located || self.refused.is_some() {
            Step::Skip
        } else if offset == self.next || self.allowed == Some(offset) || self.marks && self.is_small(offset) {
            Step::Take
        } else {
            Step::Look
        }
    }

    fn is_small(&self, offset: i64) -> bool {
        (self.next + 1..=self.next + SMALL_JUMP).contains(&offset)
    }

    /// Whether records that come next are gone, when `low` is the first offset that there is.
    pub fn is_cut(&self, low: i64) -> bool {
        self.located && low > self.next
    }

    /// Begins to be read at an offset.
    pub fn begin(&mut self, start: i64) {
        // What was asked for is there: the jump was over marks.
        self.marks |= start == self.next && self.allowed.is_some_and(|offset| self.is_small(offset));
        self.located = true;
        self.next = start;
        self.refused = None;
    }

    /// Goes on at the record that was not taken.
    pub fn go_back(&mut self, offset: i64) {
        self.refused = None;
        self.next = offset;
        self.allowed = Some(offset);
    }

    /// Whether reading that has come to `position` passed nothing but marks of Kafka's own, such as the end of a
    /// transaction: these are not given out. Behind a larger step records may be missing.
    pub fn passed_marks(&self, position: i64) -> bool {
        self.located && self.refused.is_none() && self.is_small(position)
    }
}

/// Offsets that a transaction's own records take: a larger step is looked at each time.
const SMALL_JUMP: i64 = 2;

/// The partitions of this replica.
#[derive(Debug, Default)]
pub struct Router {
    by_topic: HashMap<String, usize>,
    parts: Vec<Part>,
    places: BTreeMap<Partition, usize>,
    /// Topic and partition of the last record, and where it led to. The topic is known by its address: librdkafka
    /// has one text for all records of a topic.
    last: Option<(usize, i32, usize)>,
    generation: u64,
}

impl Router {
    /// Begins with the topics of the tables, in their order.
    pub fn new<'a>(topics: impl IntoIterator<Item = &'a str>) -> Self {
        let by_topic = topics.into_iter().enumerate().map(|(at, topic)| (topic.to_owned(), at)).collect();
        Self { by_topic, ..Self::default() }
    }

    /// Place of the table that a topic belongs to.
    pub fn table(&self, topic: &str) -> Option<usize> {
        self.by_topic.get(topic).copied()
    }

    /// Finds the partition of a record.
    #[inline]
    pub fn find(&mut self, topic: &str, partition: i32) -> Option<usize> {
        let address = topic.as_ptr().addr();
        if let Some((last_topic, last_partition, part)) = self.last
            && last_topic == address
            && last_partition == partition
        {
            return Some(part);
        }
        let table = self.table(topic)?;
        let part = *self.places.get(&(table, partition))?;
        self.last = Some((address, partition, part));
        Some(part)
    }

    /// A partition by its index.
    #[inline]
    pub fn part(&mut self, index: usize) -> &mut Part {
        &mut self.parts[index]
    }

    /// A partition.
    pub fn get(&mut self, partition: Partition) -> Option<&mut Part> {
        let place = *self.places.get(&partition)?;
        self.parts.get_mut(place)
    }

    /// Index of a partition.
    pub fn index(&self, partition: Partition) -> Option<usize> {
        self.places.get(&partition).copied()
    }

    /// Takes a partition over; returns the number of the question for its beginning.
    pub fn assign(&mut self, partition: Partition) -> u64 {
        self.revoke(partition);
        self.generation += 1;
        self.places.insert(partition, self.parts.len());
        self.parts.push(Part {
            partition,
            generation: self.generation,
            located: false,
            next: 0,
            allowed: None,
            marks: false,
            refused: None,
        });
        self.generation
    }

    /// Asks anew for the beginning of a partition; returns the number of the question.
    pub fn ask_again(&mut self, index: usize) -> u64 {
        self.generation += 1;
        let part = &mut self.parts[index];
        part.generation = self.generation;
        part.located = false;
        self.generation
    }

    /// Gives a partition up.
    pub fn revoke(&mut self, partition: Partition) {
        self.last = None;
        if let Some(place) = self.places.remove(&partition) {
            self.parts.swap_remove(place);
            if let Some(moved) = self.parts.get(place) {
                self.places.insert(moved.partition, place);
            }
        }
    }

    /// All partitions of a table.
    pub fn of_table(&mut self, table: usize) -> impl Iterator<Item = &mut Part> {
        self.parts.iter_mut().filter(move |part| part.partition.0 == table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_find_their_partition_and_lost_ones_are_found_by_none() {
        let mut router = Router::new(["a", "b"]);
        for partition in [(0, 0), (0, 1), (1, 0)] {
            router.assign(partition);
        }
        for (topic, partition, expected) in
            [("a", 1, (0, 1)), ("a", 1, (0, 1)), ("b", 0, (1, 0)), ("a", 0, (0, 0))]
        {
            let index = router.find(topic, partition).unwrap();
            assert_eq!(router.part(index).partition, expected);
        }
        router.revoke((0, 0));
        assert_eq!(router.find("a", 0), None);
        assert_eq!(router.find("c", 0), None);
        let index = router.find("b", 0).unwrap();
        assert_eq!(router.part(index).partition, (1, 0));
    }

    #[test]
    fn a_record_out_of_order_is_looked_at() {
        let mut router = Router::new(["a"]);
        router.assign((0, 0));
        let part = router.get((0, 0)).unwrap();
        assert_eq!(part.step(5), Step::Skip);
        part.located = true;
        part.next = 5;
        assert_eq!(
            [4, 5, 6, 100].map(|offset| part.step(offset)),
            [Step::Look, Step::Take, Step::Look, Step::Look]
        );
        part.allowed = Some(100);
        assert_eq!(part.step(100), Step::Take);
        part.refused = Some(5);
        assert_eq!(part.step(6), Step::Skip);
    }

    #[test]
    fn a_small_jump_is_taken_for_the_end_of_a_transaction_once_one_was() {
        let mut router = Router::new(["a"]);
        router.assign((0, 0));
        let part = router.get((0, 0)).unwrap();
        part.begin(5);
        assert!(!part.is_cut(5) && part.is_cut(6), "retention can take one record alone");
        part.allowed = Some(7);
        // The records between are gone.
        part.begin(7);
        assert_eq!((part.step(9), part.step(7)), (Step::Look, Step::Take));
        part.next = 8;
        part.allowed = Some(9);
        part.begin(8);
        part.next = 10;
        assert_eq!([11, 12, 13].map(|offset| part.step(offset)), [Step::Take, Step::Take, Step::Look]);
    }

    #[test]
    fn the_end_of_a_transaction_is_passed_and_a_gap_or_what_was_refused_is_not() {
        let mut router = Router::new(["a"]);
        router.assign((0, 0));
        let part = router.get((0, 0)).unwrap();
        part.next = 5;
        assert!(!part.passed_marks(6), "nobody knows yet where it begins");
        part.located = true;
        assert_eq!(
            [4, 5, 6, 7, 8, 200].map(|position| part.passed_marks(position)),
            [false, false, true, true, false, false]
        );
        part.refused = Some(5);
        assert!(!part.passed_marks(6), "the record at 5 was given out and not taken");
    }
}
