//! Systems that give no answer, by address and account: what one pipeline found, others need not find out again. Pure:
//! the clock is an argument.
//!
//! When two pipelines in a row got no answer of the same system by the same account, the others get that failure at once,
//! and one of them asks now and then for all. A pipeline alone opens nothing: a statement that waits for a lock on its own
//! table says nothing of the server. An answer, also one that refuses, closes it for all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::core::facts::{Failure, FailureClass, Observation};

/// Pipelines that have to find a system silent.
const WITNESSES: usize = 2;
/// Pause until the first probe; each that fails doubles it.
const FIRST: Duration = Duration::from_secs(2);
/// Longest pause between two probes: as soon as that a system that is back is found.
const LONGEST: Duration = Duration::from_secs(10);
/// How long a probe may be on its way until another one asks: longer than any look.
const PROBE: Duration = Duration::from_secs(30);
/// How long a failure counts.
const MEMORY: Duration = Duration::from_mins(2);

/// A system as an account sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// `postgres`, `kafka`, `connect`, `clickhouse`, `grafana`, `reader` or `viewer`.
    pub system: &'static str,
    /// Its address.
    pub address: String,
    /// Hash of everything that a connection is made of beside it: user, password, certificates.
    pub account: u64,
}

/// What is known of a system that did not answer.
#[derive(Debug, Clone)]
struct Silent {
    witnesses: BTreeSet<String>,
    failure: Failure,
    /// When it was found last.
    at: Instant,
    pause: Duration,
    /// When it may be asked again, once it is open.
    next: Instant,
}

impl Silent {
    fn is_open(&self) -> bool {
        self.witnesses.len() >= WITNESSES
    }
}

/// Whether a system is to be asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Advice {
    /// It is.
    Ask,
    /// It was asked so long ago, and this is what it said.
    Known(Failure, Duration),
}

/// The systems that gave no answer. All of it can be lost without harm.
#[derive(Debug, Default)]
pub struct Breakers(Mutex<BTreeMap<Endpoint, Silent>>);

impl Breakers {
    /// Whether to ask a system now.
    pub fn advice(&self, endpoint: &Endpoint, now: Instant) -> Advice {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(silent) = all.get_mut(endpoint).filter(|silent| silent.is_open()) else {
            return Advice::Ask;
        };
        if now >= silent.next {
            // One asks for all.
            silent.next = now + PROBE;
            return Advice::Ask;
        }
        Advice::Known(silent.failure.clone(), now.saturating_duration_since(silent.at))
    }

    /// Notes what a pipeline heard of a system.
    pub fn heard<T>(&self, endpoint: &Endpoint, pipeline: &str, answer: &Observation<T>, now: Instant) {
        if matches!(answer, Observation::NotAsked) {
            return;
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Observation::Unreachable(failure) = answer else {
            all.remove(endpoint);
            return;
        };
        if failure.class != FailureClass::Unreachable {
            all.remove(endpoint);
            return;
        }
        all.retain(|_, silent| now.saturating_duration_since(silent.at) < MEMORY);
        let silent = all.entry(endpoint.clone()).or_insert_with(|| Silent {
            witnesses: BTreeSet::new(),
            failure: failure.clone(),
            at: now,
            pause: FIRST,
            next: now,
        });
        if silent.is_open() {
            silent.pause = (silent.pause * 2).min(LONGEST);
        } else {
            silent.witnesses.insert(pipeline.to_owned());
        }
        silent.failure = failure.clone();
        (silent.at, silent.next) = (now, now + silent.pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(account: u64) -> Endpoint {
        Endpoint { system: "connect", address: "http://connect:8083".into(), account }
    }

    fn silence(class: FailureClass) -> Observation<()> {
        Observation::Unreachable(Failure { class, message: "no answer".into() })
    }

    #[test]
    fn two_pipelines_that_hear_nothing_spare_the_others_and_one_of_them_asks_for_all() {
        let (breakers, begin) = (Breakers::default(), Instant::now());
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let advice = |seconds| match breakers.advice(&endpoint(1), at(seconds)) {
            Advice::Ask => "ask".to_owned(),
            Advice::Known(failure, age) => format!("{} {} s ago", failure.message, age.as_secs()),
        };
        let silent = silence(FailureClass::Unreachable);
        let heard = |pipeline, seconds| breakers.heard(&endpoint(1), pipeline, &silent, at(seconds));
        assert_eq!(advice(0), "ask");
        heard("a", 0);
        heard("a", 1);
        assert_eq!(advice(1), "ask", "it may be the pipeline's own fault");
        heard("b", 1);
        assert_eq!(advice(2), "no answer 1 s ago");
        assert_eq!(breakers.advice(&endpoint(2), at(2)), Advice::Ask, "another account");
        assert_eq!((advice(3), advice(3)), ("ask".into(), "no answer 2 s ago".into()), "one probe");
        heard("c", 12);
        assert_eq!((advice(15), advice(16)), ("no answer 3 s ago".into(), "ask".into()), "a longer pause");
        assert_eq!(
            (advice(45), advice(46)),
            ("no answer 33 s ago".into(), "ask".into()),
            "a probe that was lost"
        );
        for probe in 0..5 {
            heard("c", 50 + 10 * probe);
            assert_eq!(advice(50 + 10 * probe + 10), "ask", "never longer than ten seconds");
        }
        breakers.heard(&endpoint(1), "d", &Observation::Known(()), at(100));
        assert_eq!(advice(100), "ask");
        heard("a", 101);
        assert_eq!(advice(101), "ask", "what was before the answer counts no more");
    }

    #[test]
    fn an_answer_that_refuses_is_an_answer_and_old_silence_is_forgotten() {
        for class in [FailureClass::Authentication, FailureClass::Permission, FailureClass::Remote] {
            let (breakers, now) = (Breakers::default(), Instant::now());
            breakers.heard(&endpoint(1), "a", &silence(FailureClass::Unreachable), now);
            breakers.heard(&endpoint(1), "b", &silence(class), now);
            breakers.heard(&endpoint(1), "c", &silence(FailureClass::Unreachable), now);
            assert_eq!(breakers.advice(&endpoint(1), now), Advice::Ask, "{class:?}");
        }
        let (breakers, now) = (Breakers::default(), Instant::now());
        breakers.heard(&endpoint(1), "a", &silence(FailureClass::Unreachable), now);
        breakers.heard(&endpoint(1), "b", &Observation::<()>::NotAsked, now);
        breakers.heard(&endpoint(1), "c", &silence(FailureClass::Unreachable), now);
        assert_ne!(breakers.advice(&endpoint(1), now), Advice::Ask, "who asks nothing hears nothing");
        let (breakers, now) = (Breakers::default(), Instant::now());
        breakers.heard(&endpoint(1), "a", &silence(FailureClass::Unreachable), now);
        let later = now + MEMORY;
        breakers.heard(&endpoint(1), "b", &silence(FailureClass::Unreachable), later);
        assert_eq!(breakers.advice(&endpoint(1), later), Advice::Ask);
    }
}
