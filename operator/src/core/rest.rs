//! When a pipeline is looked at next: the less often, the longer nothing about it has changed and the more pipelines there
//! are. Pure: the clock is an argument.
//!
//! A look asks every system everything, and only a look leads to a write. Between two looks of a pipeline at rest there
//! are glances, which ask ClickHouse and Kafka Connect alone how sinks and connector are, and find out one thing: whether
//! a look is due now. Nothing is ever decided, planned or said by facts that an earlier look or a glance brought.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidemark_crds::ledger::SinkState;

use crate::core::facts::{ConnectorFacts, Observation, Observed, ProgressFacts, ReadFacts};
use crate::core::freshness::{age_bucket, oldest};

/// Shortest time between two glances.
const GLANCE: Duration = Duration::from_secs(10);
/// What each pipeline adds to the time between two glances: of all that are at rest together, one is glanced at in so long.
const EACH_GLANCE: Duration = Duration::from_millis(40);
/// Time from a look that found something new to the next one, and between all looks where pipelines are few.
const SHORTEST: Duration = Duration::from_secs(10);
/// Longest time from a look to the next one, however many pipelines there are.
const LONGEST: Duration = Duration::from_mins(1);
/// What each pipeline adds to the longest pause: of all that are at rest together, one is looked at in so long.
const EACH: Duration = Duration::from_millis(120);

/// The longest pause from a look to the next one where an operator has so many pipelines.
fn longest(pipelines: usize) -> Duration {
    EACH.saturating_mul(u32::try_from(pipelines).unwrap_or(u32::MAX)).clamp(SHORTEST, LONGEST)
}

/// The pause between two glances where an operator has so many pipelines.
fn between_glances(pipelines: usize) -> Duration {
    EACH_GLANCE.saturating_mul(u32::try_from(pipelines).unwrap_or(u32::MAX)).clamp(GLANCE, LONGEST)
}

/// The pause after so many looks in a row that found nothing new: it doubles until it is the longest. All but the longest
/// are made up to half as long again by `random`, which lies in 0..=1, so that what began at once does not go on at once.
fn pause(same: usize, pipelines: usize, random: f64) -> Duration {
    let doublings = u32::try_from(same.saturating_sub(1)).unwrap_or(u32::MAX);
    let pause = SHORTEST.saturating_mul(2_u32.saturating_pow(doublings));
    let longest = longest(pipelines);
    if pause >= longest { longest } else { pause.mul_f64(1.0 + random.clamp(0.0, 1.0) / 2.0).min(longest) }
}

/// What a look was for: another generation, life or annotation is another one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// Annotations that ask for something.
    pub annotations: BTreeMap<String, String>,
}

/// How sinks and connector are, as far as it calls for a look when it changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Glance {
    /// What each living sink says of each target.
    pub states: BTreeMap<String, BTreeMap<String, SinkState>>,
    /// The reads of targets, without what moves while they go on.
    pub reads: BTreeMap<String, ReadFacts>,
    /// Dead letters of each partition of each target, and where the last is.
    pub letters: BTreeMap<(String, i32), (u64, (u16, u64))>,
    /// Age of the oldest partition, milliseconds.
    pub age_ms: Option<i64>,
    /// State of the connector and of its tasks.
    pub connector: Option<(String, Vec<(i32, String)>)>,
}

impl Glance {
    /// What a look saw, as a glance at the same moment would have.
    pub fn of_look(observed: &Observed, now_ms: i64) -> Self {
        let mut glance = Self::default();
        if let Some(facts) = observed.clickhouse.known() {
            glance.see(facts.states.clone(), facts.reads.clone(), &facts.progress, now_ms);
        }
        let connector = observed.connect.known().and_then(|facts| facts.connector.as_ref());
        glance.connector = connector.map(Self::of_connector);
        glance
    }

    /// Takes up what ClickHouse says.
    pub fn see(
        &mut self,
        states: BTreeMap<String, BTreeMap<String, SinkState>>,
        mut reads: BTreeMap<String, ReadFacts>,
        progress: &BTreeMap<String, ProgressFacts>,
        now_ms: i64,
    ) {
        for read in reads.values_mut() {
            (read.rows, read.estimated_rows, read.age_ms) = (0, 0, 0);
        }
        for (target, facts) in progress {
            for (partition, seen) in &facts.partitions {
                self.letters.insert((target.clone(), *partition), (seen.dead_letters, seen.dead_at));
            }
        }
        self.age_ms = progress.values().filter_map(|facts| oldest(&facts.partitions, now_ms)).max();
        (self.states, self.reads) = (states, reads);
    }

    /// The connector's part.
    pub fn of_connector(live: &ConnectorFacts) -> (String, Vec<(i32, String)>) {
        let mut tasks: Vec<(i32, String)> =
            live.tasks.iter().map(|task| (task.id, task.state.clone())).collect();
        tasks.sort();
        (live.state.clone(), tasks)
    }

    /// What is so different from `before` that a look is due; `None`: nothing. `objective_ms` is how old rows may be.
    pub fn differs(&self, before: &Self, objective_ms: i64) -> Option<&'static str> {
        let bucket = |age: Option<i64>, held: Option<&str>| age.map_or("", |age| age_bucket(age, held));
        let was = bucket(before.age_ms, None);
        let late = |age: Option<i64>| age.is_some_and(|age| age > objective_ms);
        if self.connector != before.connector {
            return Some("connector");
        }
        if self.states != before.states {
            return Some("sinks");
        }
        if self.reads != before.reads {
            return Some("reads");
        }
        if self.letters != before.letters {
            return Some("dead letters or partitions");
        }
        let aged = bucket(self.age_ms, Some(was)) != was || late(self.age_ms) != late(before.age_ms);
        aged.then_some("freshness")
    }
}

/// A pipeline that nothing is to be done for.
#[derive(Debug, Clone)]
struct Rest {
    asked: Asked,
    /// Looks in a row that found nothing new, the last one included.
    same: usize,
    /// From the last look to the next one.
    pause: Duration,
    /// From a glance, or the look, to the next glance.
    between: Duration,
    looked: Instant,
    glanced: Instant,
    seen: Glance,
}

/// What is due for a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// Nothing, for so long.
    Nothing(Duration),
    /// A glance; what is to be compared with.
    Glance(Glance),
    /// A look.
    Look,
}

impl Rest {
    fn due(&self, asked: &Asked, now: Instant) -> Due {
        let pause = self.pause;
        let since = |then: Instant| now.saturating_duration_since(then);
        if self.asked != *asked || since(self.looked) >= pause {
            return Due::Look;
        }
        if since(self.glanced) >= self.between {
            return Due::Glance(self.seen.clone());
        }
        let glance = self.between.saturating_sub(since(self.glanced));
        Due::Nothing(pause.saturating_sub(since(self.looked)).min(glance))
    }
}

/// The pipelines at rest; one that is not among them is looked at whenever its turn comes. All of it can be lost without
/// harm.
#[derive(Debug, Default)]
pub struct Rests(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    at_rest: BTreeMap<String, Rest>,
    /// Those that are being looked at, and that nothing has happened to since that began.
    looked_at: BTreeSet<String>,
}

impl Rests {
    fn with<T>(&self, use_it: impl FnOnce(&mut State) -> T) -> T {
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is due for a pipeline of which `asked` is asked now.
    pub fn due(&self, pipeline: &str, asked: &Asked, now: Instant) -> Due {
        self.with(|state| state.at_rest.get(pipeline).map_or(Due::Look, |rest| rest.due(asked, now)))
    }

    /// Notes that a look begins: what happened before it, it sees.
    pub fn begin(&self, pipeline: &str) {
        self.with(|state| state.looked_at.insert(pipeline.to_owned()));
    }

    /// Notes a look that found nothing to do, and whether it found anything new; `pipelines`: how many there are now.
    /// `random` lies in 0..=1.
    pub fn looked(
        &self,
        pipeline: &str,
        asked: Asked,
        (seen, changed): (Glance, bool),
        (now, pipelines, random): (Instant, usize, f64),
    ) {
        self.with(|state| {
            if !state.looked_at.remove(pipeline) {
                return;
            }
            let before = state.at_rest.get(pipeline).filter(|before| before.asked == asked && !changed);
            let same = before.map_or(1, |before| before.same.saturating_add(1));
            let pause = pause(same, pipelines, random);
            let between = between_glances(pipelines);
            let rest = Rest { asked, same, pause, between, looked: now, glanced: now, seen };
            state.at_rest.insert(pipeline.to_owned(), rest);
        });
    }

    /// Notes a glance that found nothing new.
    pub fn glanced(&self, pipeline: &str, now: Instant) {
        self.with(|state| {
            if let Some(rest) = state.at_rest.get_mut(pipeline) {
                rest.glanced = now;
            }
        });
    }

    /// Something happened to a pipeline, or to what is its own, or it is gone: it is looked at when its turn comes next.
    pub fn wake(&self, pipeline: &str) {
        self.with(|state| {
            state.at_rest.remove(pipeline);
            state.looked_at.remove(pipeline);
        });
    }
}

/// Whether every system that is asked answered.
pub fn all_answered(observed: &Observed) -> bool {
    fn answered<T>(observation: &Observation<T>) -> bool {
        !matches!(observation, Observation::Unreachable(_))
    }
    answered(&observed.postgres)
        && answered(&observed.kafka)
        && answered(&observed.connect)
        && answered(&observed.clickhouse)
        && answered(&observed.grafana)
        && answered(&observed.former_grafana)
        && answered(&observed.reader)
        && answered(&observed.kubernetes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(generation: i64) -> Asked {
        Asked { generation, ..Asked::default() }
    }

    #[test]
    fn looks_are_rarer_the_longer_nothing_changes_with_glances_between_and_anything_that_happens_brings_one()
    {
        let (rests, begin) = (Rests::default(), Instant::now());
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let due = |generation, seconds| match rests.due("a/b", &asked(generation), at(seconds)) {
            Due::Nothing(pause) => format!("{} s", pause.as_secs()),
            Due::Glance(_) => "glance".to_owned(),
            Due::Look => "look".to_owned(),
        };
        let looked = |seconds, changed| {
            rests.begin("a/b");
            rests.looked("a/b", asked(1), (Glance::default(), changed), (at(seconds), 500, 0.0));
        };
        assert_eq!(due(1, 0), "look", "nothing is known of it");
        looked(0, true);
        assert_eq!((due(1, 0), due(1, 9), due(1, 10)), ("10 s".into(), "1 s".into(), "look".into()));
        looked(10, false);
        assert_eq!((due(1, 12), due(1, 20), due(1, 30)), ("18 s".into(), "10 s".into(), "look".into()));
        rests.glanced("a/b", at(21));
        assert_eq!((due(1, 22), due(1, 30)), ("8 s".into(), "look".into()), "a glance is no look");
        for (from, until) in [(30, 70), (70, 130), (130, 190), (190, 250)] {
            looked(from, false);
            assert_eq!((due(1, from + 19), due(1, from + 20)), ("1 s".into(), "glance".into()), "{from}");
            rests.glanced("a/b", at(until - 5));
            assert_eq!((due(1, until - 1), due(1, until)), ("1 s".into(), "look".into()), "{from}");
        }
        assert_eq!(due(2, 195), "look", "another generation");
        looked(250, true);
        assert_eq!(due(1, 260), "look", "something was new, so it may go on");
        looked(260, false);
        rests.wake("a/b");
        assert_eq!(due(1, 261), "look");
        rests.begin("a/b");
        rests.wake("a/b");
        rests.looked("a/b", asked(1), (Glance::default(), false), (at(262), 500, 0.0));
        assert_eq!(due(1, 263), "look", "what happened during the look, it may not have seen");
        looked(264, false);
        assert_eq!(due(1, 265), "9 s");
    }

    #[test]
    fn few_pipelines_are_looked_at_every_ten_seconds_and_many_more_rarely_up_to_a_minute() {
        // Milliseconds from each look to the next one: the shortest, and with the most that chance adds.
        for (pipelines, least, most) in [
            (0, [10_000; 5], [10_000; 5]),
            (1, [10_000; 5], [10_000; 5]),
            (83, [10_000; 5], [10_000; 5]),
            (84, [10_000, 10_080, 10_080, 10_080, 10_080], [10_080; 5]),
            (150, [10_000, 18_000, 18_000, 18_000, 18_000], [15_000, 18_000, 18_000, 18_000, 18_000]),
            (250, [10_000, 20_000, 30_000, 30_000, 30_000], [15_000, 30_000, 30_000, 30_000, 30_000]),
            (500, [10_000, 20_000, 40_000, 60_000, 60_000], [15_000, 30_000, 60_000, 60_000, 60_000]),
            (100_000, [10_000, 20_000, 40_000, 60_000, 60_000], [15_000, 30_000, 60_000, 60_000, 60_000]),
        ] {
            for (random, expected) in [(0.0, least), (1.0, most)] {
                let (rests, now) = (Rests::default(), Instant::now());
                let pauses = expected.map(|_| {
                    rests.begin("a/b");
                    rests.looked("a/b", asked(1), (Glance::default(), false), (now, pipelines, random));
                    rests.with(|state| state.at_rest["a/b"].pause.as_millis())
                });
                assert_eq!(pauses, expected, "{pipelines} pipelines, {random}");
            }
        }
        for pipelines in [0, 1, usize::MAX] {
            assert_eq!(pause(usize::MAX, pipelines, 1.0), longest(pipelines), "neither count overflows");
        }
    }

    #[test]
    fn where_looks_come_every_ten_seconds_no_glance_comes_between() {
        let (rests, begin) = (Rests::default(), Instant::now());
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        for from in [0, 10, 20, 30, 40] {
            rests.begin("a/b");
            rests.looked("a/b", asked(1), (Glance::default(), false), (at(from), 83, 1.0));
            assert_eq!(rests.due("a/b", &asked(1), at(from + 9)), Due::Nothing(Duration::from_secs(1)));
            assert_eq!(rests.due("a/b", &asked(1), at(from + 10)), Due::Look);
        }
    }

    #[test]
    fn what_a_person_or_a_sink_waits_for_calls_for_a_look_and_what_only_moves_does_not() {
        use crate::core::facts::PartitionProgress;
        let state = |wants| SinkState { wants, layout: 3, ..SinkState::default() };
        let states = |wants| [("t".to_owned(), [("pod".to_owned(), state(wants))].into())].into();
        let reads = |state: &str, rows, age_ms| {
            let read = ReadFacts { request: 7, state: state.into(), rows, age_ms, ..ReadFacts::default() };
            [("t".to_owned(), read)].into()
        };
        let progress = |age_ms: i64, dead_letters, next_offset| {
            let partition = PartitionProgress {
                next_offset,
                fresh_to_ms: 100_000 - age_ms,
                applied_at_ms: 100_000,
                dead_letters,
                dead_at: (0, 0),
            };
            [("t".to_owned(), ProgressFacts { partitions: [(0, partition)].into() })].into()
        };
        let connector = |state: &str, task: &str| Some((state.to_owned(), vec![(0, task.to_owned())]));
        let seen = |wants, (read, rows, read_age), (age_ms, dead, offset), (state, task)| {
            let mut glance = Glance { connector: connector(state, task), ..Glance::default() };
            glance.see(states(wants), reads(read, rows, read_age), &progress(age_ms, dead, offset), 100_500);
            glance
        };
        let (read, now, runs) = (("read", 5, 9), (400, 0, 10), ("RUNNING", "RUNNING"));
        let before = seen((0, 0), read, now, runs);
        for (glance, expected) in [
            (seen((0, 0), read, now, runs), None),
            (seen((0, 0), ("read", 6, 9_000), (600, 0, 90), runs), None),
            // Near the bound the bucket holds.
            (seen((0, 0), read, (1_200, 0, 10), runs), None),
            (seen((1, 5), read, now, runs), Some("sinks")),
            (seen((0, 0), ("reading", 5, 9), now, runs), Some("reads")),
            (seen((0, 0), read, (400, 1, 10), runs), Some("dead letters or partitions")),
            (seen((0, 0), read, (3_000, 0, 10), runs), Some("freshness")),
            (seen((0, 0), read, now, ("RUNNING", "FAILED")), Some("connector")),
            (seen((0, 0), read, now, ("PAUSED", "PAUSED")), Some("connector")),
            (Glance { connector: None, ..before.clone() }, Some("connector")),
            (Glance { states: BTreeMap::new(), ..before.clone() }, Some("sinks")),
            (Glance { letters: BTreeMap::new(), ..before.clone() }, Some("dead letters or partitions")),
            (Glance { age_ms: None, ..before.clone() }, Some("freshness")),
        ] {
            assert_eq!(glance.differs(&before, 60_000), expected, "{glance:?}");
        }
        // The objective is another bound than those of the buckets.
        let (early, late) =
            (seen((0, 0), read, (14_000, 0, 1), runs), seen((0, 0), read, (16_000, 0, 1), runs));
        assert_eq!(late.differs(&early, 15_000), Some("freshness"));
        assert_eq!(late.differs(&early, 60_000), None);
    }
}
