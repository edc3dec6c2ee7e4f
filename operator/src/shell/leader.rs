//! Leader election by a Lease: one replica acts, the others keep their caches warm and write nothing.
//!
//! The decision is pure ([`decide`]); [`run`] is the edge: it reads and writes the Lease, and tells whoever
//! asks whether this replica leads.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use tidemark_runtime::shell::Shutdown;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::edge::act::DEADLINE as STEP_DEADLINE;

/// How long a Lease holds without being renewed.
pub const LEASE_DURATION: Duration = Duration::from_secs(30);
/// How long a leader that cannot renew goes on leading.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(12);
// The last write that begins in a term has ended before another replica may begin its own.
const _: () = assert!(RENEW_DEADLINE.as_secs() + STEP_DEADLINE.as_secs() < LEASE_DURATION.as_secs());
/// Pause between two looks.
pub const RETRY_PERIOD: Duration = Duration::from_secs(2);
/// Name of the Lease where none is given.
pub const LEASE_NAME: &str = "tidemark-operator";

/// What a replica does about the Lease that it saw.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Nobody has it: make it or take it over with this spec.
    Take(LeaseSpec),
    /// It is ours: renew it with this spec.
    Renew(LeaseSpec),
    /// Another one leads.
    Follow,
}

/// What was seen of another's Lease, and when on our own clock: clocks of two machines are never compared.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    holder: Option<String>,
    renew_time: Option<MicroTime>,
    transitions: i32,
    since: Option<Timestamp>,
}

/// Judges a Lease: whose it is, and whether it ran out by our own clock since it last moved.
pub fn decide(lease: Option<&LeaseSpec>, seen: &mut Seen, identity: &str, now: Timestamp) -> Decision {
    let fresh = |transitions: i32, acquired: Option<MicroTime>| LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
        acquire_time: Some(acquired.unwrap_or(MicroTime(now))),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(transitions),
        ..LeaseSpec::default()
    };
    let Some(lease) = lease else {
        return Decision::Take(fresh(0, None));
    };
    let transitions = lease.lease_transitions.unwrap_or(0);
    let holder = lease.holder_identity.clone().filter(|holder| !holder.is_empty());
    if holder.as_deref() == Some(identity) {
        return Decision::Renew(fresh(transitions, lease.acquire_time.clone()));
    }
    let moved =
        seen.holder != holder || seen.renew_time != lease.renew_time || seen.transitions != transitions;
    if moved || seen.since.is_none() {
        *seen = Seen {
            holder: holder.clone(),
            renew_time: lease.renew_time.clone(),
            transitions,
            since: Some(now),
        };
    }
    let held_for = u64::try_from(lease.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
    let ran_out =
        seen.since.is_some_and(|since| now.duration_since(since).as_secs() >= held_for.cast_signed());
    if holder.is_none() || ran_out { Decision::Take(fresh(transitions + 1, None)) } else { Decision::Follow }
}

/// Whether this replica leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leadership {
    /// Another one does, or nobody.
    No,
    /// Until this instant, unless the Lease is renewed before.
    Until(Instant),
    /// There is no election.
    Always,
}

impl Leadership {
    /// Whether it leads at `now`. A process that was frozen finds its term over by itself.
    pub fn holds(self, now: Instant) -> bool {
        match self {
            Self::No => false,
            Self::Until(end) => now < end,
            Self::Always => true,
        }
    }
}

/// Whether this replica may write: while it leads, and was not told to end, and, of one reconcile, while the resource is
/// as it was read. Asked before each write.
#[derive(Debug, Clone)]
pub struct Term {
    /// Absent: without an election, and without an end.
    leads: Option<(watch::Receiver<Leadership>, Shutdown)>,
    current: Option<Current>,
}

/// Whether what was read is still what there is.
#[derive(Clone)]
struct Current(Arc<dyn Fn() -> bool + Send + Sync>);

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Current")
    }
}

impl Term {
    /// The term of a replica that leads while `leads` says so.
    pub fn new(leads: watch::Receiver<Leadership>, shutdown: Shutdown) -> Self {
        Self { leads: Some((leads, shutdown)), current: None }
    }

    /// The same for one reconcile: over, too, when the resource has become another. What it asks for now is carried out
    /// by the next reconcile, which need not wait for the rest of this one.
    #[must_use]
    pub fn of_reconcile(&self, is_current: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { current: Some(Current(Arc::new(is_current))), ..self.clone() }
    }

    /// Without an election, and without an end.
    pub fn without_end() -> Self {
        Self { leads: None, current: None }
    }

    /// Whether it leads now.
    pub fn leads(&self) -> bool {
        self.leads.as_ref().is_none_or(|(leads, _)| leads.borrow().holds(Instant::now()))
    }

    /// Whether another write may begin.
    pub fn holds(&self) -> bool {
        let told_to_end = self.leads.as_ref().is_some_and(|(_, shutdown)| shutdown.is_requested());
        let current = self.current.as_ref().is_none_or(|current| (current.0)());
        self.leads() && !told_to_end && current
    }
}

/// Keeps the Lease up to date until `ended`, then gives it back; `leads` tells whether we have it. `ended` comes when
/// nothing is written any more, so that no other replica writes beside a reconcile that goes on.
pub async fn run(
    client: kube::Client,
    (namespace, lease): (String, String),
    identity: String,
    leads: watch::Sender<Leadership>,
    ended: Shutdown,
) {
    let api: Api<Lease> = Api::namespaced(client, &namespace);
    let mut seen = Seen::default();
    while !ended.is_requested() {
        // What it is renewed to counts from before the call.
        let begin = Instant::now();
        let step = step(&api, &lease, &mut seen, &identity);
        let before = *leads.borrow();
        let now = match tokio::time::timeout(RETRY_PERIOD.saturating_mul(2), step).await {
            Ok(Ok(true)) => Leadership::Until(begin + RENEW_DEADLINE),
            Ok(Ok(false)) => Leadership::No,
            failed => {
                let error = match failed {
                    Ok(Err(error)) => error.to_string(),
                    _ => "no answer in time".to_owned(),
                };
                tracing::warn!(lease = %format!("{namespace}/{lease}"), %error, "lease not renewed");
                // Our term ends before another replica may take over.
                if before.holds(Instant::now()) { before } else { Leadership::No }
            }
        };
        leads.send_replace(now);
        let leading = now != Leadership::No;
        if leading != (before != Leadership::No) {
            tracing::info!(identity, leading, "leadership changed");
        }
        let _ = tokio::time::timeout(RETRY_PERIOD, ended.requested()).await;
    }
    if leads.send_replace(Leadership::No) != Leadership::No {
        let _ = tokio::time::timeout(RETRY_PERIOD, release(&api, &lease, &identity)).await;
    }
}

async fn step(api: &Api<Lease>, lease: &str, seen: &mut Seen, identity: &str) -> Result<bool, kube::Error> {
    let live = api.get_opt(lease).await?;
    let decision =
        decide(live.as_ref().and_then(|lease| lease.spec.as_ref()), seen, identity, Timestamp::now());
    let spec = match decision {
        Decision::Follow => return Ok(false),
        Decision::Take(spec) | Decision::Renew(spec) => Some(spec),
    };
    let written = match live {
        None => {
            let metadata = ObjectMeta { name: Some(lease.to_owned()), ..ObjectMeta::default() };
            api.create(&PostParams::default(), &Lease { metadata, spec }).await
        }
        // The resourceVersion that was read goes along: of two that try, one is refused.
        Some(live) => api.replace(lease, &PostParams::default(), &Lease { spec, ..live }).await,
    };
    match written {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

/// Gives the Lease back, so that the next replica need not wait for it to run out.
async fn release(api: &Api<Lease>, lease: &str, identity: &str) -> Result<(), kube::Error> {
    let Some(mut live) = api.get_opt(lease).await? else {
        return Ok(());
    };
    if let Some(spec) = live.spec.as_mut().filter(|spec| spec.holder_identity.as_deref() == Some(identity)) {
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        api.replace(lease, &PostParams::default(), &live).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn held_by(holder: &str, renewed: i64) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.into()),
            lease_duration_seconds: Some(30),
            renew_time: Some(MicroTime(at(renewed))),
            lease_transitions: Some(3),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_term_ends_by_itself_whether_or_not_anybody_says_so() {
        let begin = Instant::now();
        let until = Leadership::Until(begin + RENEW_DEADLINE);
        assert!(until.holds(begin + RENEW_DEADLINE - Duration::from_millis(1)));
        assert!(!until.holds(begin + RENEW_DEADLINE));
        assert!(Leadership::Always.holds(begin) && !Leadership::No.holds(begin));
        let (sender, receiver) = watch::channel(until);
        let term = Term::new(receiver, Shutdown::default());
        assert!(term.holds());
        sender.send_replace(Leadership::Until(begin));
        assert!(!term.holds() && !term.leads());
    }

    #[test]
    fn a_reconcile_writes_no_more_when_its_resource_has_become_another_and_the_replica_still_leads() {
        let is_current = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let asked = Arc::clone(&is_current);
        let whole = Term::without_end();
        let term = whole.of_reconcile(move || asked.load(std::sync::atomic::Ordering::Relaxed));
        assert!(term.holds());
        is_current.store(false, std::sync::atomic::Ordering::Relaxed);
        assert!(!term.holds() && term.leads() && whole.holds());
    }

    #[test]
    fn a_lease_that_nobody_has_is_taken_and_our_own_is_renewed() {
        let mut seen = Seen::default();
        assert!(matches!(decide(None, &mut seen, "a", at(0)), Decision::Take(_)));
        let Decision::Renew(spec) = decide(Some(&held_by("a", 0)), &mut seen, "a", at(2)) else {
            unreachable!()
        };
        assert_eq!((spec.renew_time, spec.lease_transitions), (Some(MicroTime(at(2))), Some(3)));
        assert!(matches!(decide(Some(&held_by("", 0)), &mut seen, "a", at(0)), Decision::Take(_)));
    }

    #[test]
    fn anothers_lease_is_taken_only_when_it_has_not_moved_for_its_whole_duration_on_our_clock() {
        let mut seen = Seen::default();
        // Its clock is an hour behind ours: that alone says nothing.
        let stale = held_by("b", -3600);
        assert_eq!(decide(Some(&stale), &mut seen, "a", at(0)), Decision::Follow);
        assert_eq!(decide(Some(&stale), &mut seen, "a", at(29)), Decision::Follow);
        assert_eq!(decide(Some(&held_by("b", -3590)), &mut seen, "a", at(30)), Decision::Follow);
        assert_eq!(decide(Some(&held_by("b", -3590)), &mut seen, "a", at(59)), Decision::Follow);
        let Decision::Take(spec) = decide(Some(&held_by("b", -3590)), &mut seen, "a", at(60)) else {
            unreachable!()
        };
        assert_eq!(spec.lease_transitions, Some(4));
    }
}
