//! What a reconcile reaches of the world outside: five questions and one kind of deed. The real world behind it; tests
//! have another. I/O.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::core::desired::grafana::place::Place;
use crate::core::desired::pipeline::{Question, Subject};
use crate::core::desired::views::Probe;
use crate::core::facts::{Failure, Observed};
use crate::core::step::Step;
use crate::edge::breaker::{Advice, Breakers};
use crate::edge::clickhouse::probe;
use crate::edge::clickhouse::probe::Accounts;
use crate::edge::grafana::former::Opener;
use crate::edge::metrics::Metrics;
use crate::edge::systems::{Access, Systems};
use crate::edge::{act, kubernetes, look};

/// Everything outside that a reconcile of one pipeline asks and changes.
pub trait World: Send + Sync {
    /// Looks at every system; `former` is where dashboards were before the spec named another Grafana.
    fn look(
        &mut self,
        subject: &Subject<'_>,
        former: Option<&Place>,
    ) -> impl Future<Output = Observed> + Send;

    /// Asks ClickHouse what only it can judge; what gets no answer is not part of it.
    fn ask(
        &self,
        subject: &Subject<'_>,
        questions: &[Question],
    ) -> impl Future<Output = BTreeMap<String, Probe>> + Send;

    /// Whether the resource is still the one that the subject was made of.
    fn is_still(&self, subject: &Subject<'_>) -> impl Future<Output = Result<bool, Failure>> + Send;

    /// Carries out one step: the only thing that changes anything.
    fn act(&self, subject: &Subject<'_>, step: &Step) -> impl Future<Output = Result<(), Failure>> + Send;

    /// What time it is.
    fn now(&self) -> Timestamp;

    /// A number that nobody has chosen before.
    fn new_id(&self) -> u32;
}

/// The systems themselves.
#[derive(Debug)]
pub struct Remote<'a> {
    /// Handles of the systems.
    pub systems: Systems,
    /// What opens the Grafana that the spec no longer names.
    pub opener: Opener<'a>,
    /// Counts how long looks take.
    pub metrics: Metrics,
    /// What pipelines heard of systems that are silent.
    pub breakers: &'a Breakers,
    /// How long the slowest look took.
    pub slowest: Duration,
}

impl World for Remote<'_> {
    async fn look(&mut self, subject: &Subject<'_>, former: Option<&Place>) -> Observed {
        let known = self.systems.former_grafana.as_ref().map(|(place, _)| place);
        if let Some(place) = former.filter(|place| known != Some(*place)) {
            let access = self.opener.open(place, subject.name, &self.systems.objects).await;
            self.systems.former_grafana = Some((place.clone(), access));
        }
        let begin = Instant::now();
        let shared = (&self.metrics, self.breakers);
        let mut observed = Box::pin(look::observe(shared, &self.systems, subject)).await;
        Box::pin(look::key_ranges(&self.systems, subject, &mut observed)).await;
        self.slowest = self.slowest.max(begin.elapsed());
        observed
    }

    async fn ask(&self, subject: &Subject<'_>, questions: &[Question]) -> BTreeMap<String, Probe> {
        let Access::Open(client) = &self.systems.clickhouse else {
            return BTreeMap::new();
        };
        // A user's view names its tables without their database.
        let database = Some(subject.spec.clickhouse.database.as_str());
        let reader = self.systems.reader.open().ok().map(|reader| reader.with_database(database));
        let endpoint = self.systems.endpoints.get("viewer");
        // Questions that are not asked stay open, as those do that get no answer.
        let is_asked = || endpoint.is_none_or(|it| self.breakers.advice(it, Instant::now()) == Advice::Ask);
        let asks = questions.iter().any(|question| question.asked.as_viewer()) && is_asked();
        let viewer = self.systems.viewer.open().ok().filter(|_| asks);
        let viewer = viewer.map(|viewer| viewer.with_database(database));
        let accounts = Accounts { own: client.with_database(database), reader, viewer };
        let (answers, heard) = Box::pin(probe::ask(&accounts, questions)).await;
        if let Some(endpoint) = endpoint {
            self.breakers.heard(endpoint, &subject.name.to_string(), &heard, Instant::now());
        }
        answers
    }

    async fn is_still(&self, subject: &Subject<'_>) -> Result<bool, Failure> {
        kubernetes::resource::is_still(&self.systems.objects, subject).await
    }

    async fn act(&self, subject: &Subject<'_>, step: &Step) -> Result<(), Failure> {
        Box::pin(act::apply(&self.systems, subject, step)).await
    }

    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn new_id(&self) -> u32 {
        rand::random()
    }
}
