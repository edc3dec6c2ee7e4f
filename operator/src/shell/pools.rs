//! Workers: who may reconcile now. Pipelines whose systems are slow, or give no answer, have workers of their own, so
//! that the others always have theirs.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Workers for slow pipelines.
const SLOW: usize = 2;
/// A look that lasts longer makes a pipeline a slow one.
pub const SLOW_LOOK: Duration = Duration::from_secs(4);
/// How long a reconcile is taken for a quick one.
const PATIENCE: Duration = Duration::from_secs(2);

/// The workers.
#[derive(Debug)]
pub struct Pools {
    quick: Arc<Semaphore>,
    slow: Arc<Semaphore>,
    /// For reconciles that turn out to last: more of them than these keep their workers.
    lasting: Arc<Semaphore>,
    /// Workers that slow pipelines leave to the others.
    reserve: usize,
    /// Pipelines that were slow last.
    known: Mutex<BTreeSet<String>>,
    /// Time after which a reconcile gives its worker back to the quick ones, if it can go on elsewhere.
    patience: Duration,
}

impl Pools {
    /// So many workers for pipelines that are not slow.
    pub fn new(workers: u16) -> Self {
        let workers = usize::from(workers.max(1));
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self {
            quick: semaphore(workers),
            slow: semaphore(SLOW),
            lasting: semaphore(workers),
            reserve: workers.div_ceil(2),
            known: Mutex::default(),
            patience: PATIENCE,
        }
    }

    /// Waits for a worker of the pipeline's pool and lets it do the work. One that lasts goes on beside the others.
    pub async fn work<T>(&self, pipeline: &str, work: impl Future<Output = T>) -> T {
        if self.is_slow(pipeline) {
            // Where all are slow, as on a machine that has too much to do, nobody needs the others' workers: half of them
            // stay free.
            if self.quick.available_permits() > self.reserve
                && let Ok(_worker) = Arc::clone(&self.quick).try_acquire_owned()
            {
                return work.await;
            }
            let _worker = worker(&self.slow).await;
            return work.await;
        }
        let quick = worker(&self.quick).await;
        let mut work = std::pin::pin!(work);
        loop {
            if let Ok(done) = tokio::time::timeout(self.patience, &mut work).await {
                return done;
            }
            if let Ok(_lasting) = Arc::clone(&self.lasting).try_acquire_owned() {
                drop(quick);
                return work.await;
            }
        }
    }

    /// Notes whether the last reconcile of a pipeline was slow.
    pub fn note(&self, pipeline: &str, slow: bool) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if slow {
            known.insert(pipeline.to_owned());
        } else {
            known.remove(pipeline);
        }
    }

    /// Whether the last reconcile of a pipeline was slow.
    pub fn is_slow(&self, pipeline: &str) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(pipeline)
    }
}

/// A worker; `None` where there are no pools any more.
async fn worker(pool: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(pool).acquire_owned().await.ok()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn pools(workers: u16) -> Arc<Pools> {
        Arc::new(Pools { patience: Duration::from_millis(5), ..Pools::new(workers) })
    }

    #[tokio::test]
    async fn pipelines_that_hang_hold_up_none_of_the_others() {
        let pools = pools(2);
        let hang = |name: String| {
            let pools = Arc::clone(&pools);
            tokio::spawn(async move { pools.work(&name, std::future::pending::<()>()).await })
        };
        // Two of which nothing is known take both workers, for as long as it takes to find out; fifty that are known
        // have workers of their own.
        let hanging: Vec<_> = (0..2)
            .map(|number| hang(format!("new-{number}")))
            .chain((0..50).map(|number| {
                pools.note(&format!("known-{number}"), true);
                hang(format!("known-{number}"))
            }))
            .collect();
        let others = async {
            for _ in 0..100 {
                pools.work("quick", tokio::task::yield_now()).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), others).await.expect("the others have their turn");
        assert!(pools.lasting.available_permits() < 2, "one at least went on elsewhere");
        for task in hanging {
            task.abort();
        }
    }

    #[tokio::test]
    async fn no_more_work_is_under_way_than_there_are_workers() {
        let (at_once, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let pools = pools(2);
        let work = |_| {
            let (pools, at_once, most) = (Arc::clone(&pools), Arc::clone(&at_once), Arc::clone(&most));
            tokio::spawn(async move {
                let work = async {
                    let now = at_once.fetch_add(1, Ordering::Relaxed) + 1;
                    most.fetch_max(now, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    at_once.fetch_sub(1, Ordering::Relaxed);
                };
                pools.work("any", work).await;
            })
        };
        for task in (0..20).map(work).collect::<Vec<_>>() {
            task.await.unwrap();
        }
        let most = most.load(Ordering::Relaxed);
        assert!((1..=4).contains(&most), "two that are quick and two that last, not {most}");
    }

    #[tokio::test]
    async fn where_all_are_slow_they_use_half_of_the_others_workers_and_never_the_rest() {
        let pools = pools(8);
        let hanging: Vec<_> = (0..50)
            .map(|number| {
                let (pools, name) = (Arc::clone(&pools), format!("slow-{number}"));
                pools.note(&name, true);
                tokio::spawn(async move { pools.work(&name, std::future::pending::<()>()).await })
            })
            .collect();
        tokio::task::yield_now().await;
        assert_eq!(pools.quick.available_permits(), 4);
        assert_eq!(pools.slow.available_permits(), 0);
        for task in hanging {
            task.abort();
        }
    }

    #[test]
    fn a_pipeline_that_answers_in_time_is_quick_again() {
        let pools = Pools::new(8);
        pools.note("a", true);
        assert!(pools.is_slow("a") && !pools.is_slow("b"));
        pools.note("a", false);
        assert!(!pools.is_slow("a"));
    }
}
