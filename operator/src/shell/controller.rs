//! One reconcile of one resource in a cluster: finalizer, last valid spec, status, events, requeue. I/O.

mod unreadable;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{DeserializeGuard, ObjectMeta};
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde_json::json;
use tidemark_crds::names::{FIELD_MANAGER, FINALIZER, PipelineName};
use tidemark_crds::pipeline::{AnalyticsPipeline, AnalyticsPipelineSpec};
use tidemark_crds::status::AnalyticsPipelineStatus;

use crate::core::desired::neighbours::Neighbour;
use crate::core::finalize::LeftBehind;
use crate::core::pace::SLOW;
use crate::core::rest::{Asked, Due, Glance};
use crate::core::step::{Step, StepKind};
use crate::core::validate::validate;
use crate::core::{credentials, status};
use crate::edge::kubernetes::objects::{DEADLINE, ObjectStore, api};
use crate::edge::kubernetes::{references, revisions};
use crate::shell::context::{Context, Task};
use crate::shell::engine::{REQUEST_PREFIX, Report};
use crate::shell::error::Error;
use crate::shell::events::{Note, changes, table_changes};
use crate::shell::leader::Term;
use crate::shell::planned;
use crate::shell::reconcile::Mode;

/// A resource, or what could be read of one that is not valid.
pub type Guarded = DeserializeGuard<AnalyticsPipeline>;

/// Pause of a replica that does not lead.
const FOLLOW: Duration = Duration::from_secs(2);
/// Pause where something happened while a pipeline was looked at.
const AGAIN: Duration = Duration::from_millis(1500);

/// What came of a reconcile that reached its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Nothing was written.
    Unchanged,
    /// Something was written.
    Changed,
    /// Steps failed; they are in the status.
    Failed,
}

impl Ended {
    fn of(report: &Report, changed: bool) -> Self {
        match (report.outcome.failures.is_empty(), changed) {
            (false, _) => Self::Failed,
            (true, true) => Self::Changed,
            (true, false) => Self::Unchanged,
        }
    }
}

/// Reconciles one resource.
pub async fn reconcile(object: Arc<Guarded>, context: Arc<Context>) -> Result<Action, Error> {
    let meta = object.meta();
    let name = PipelineName::new(meta.namespace.clone().unwrap_or_default(), object.name_any());
    let key = name.to_string();
    if !context.term.holds() {
        // Another one acts meanwhile.
        context.engine.rests.wake(&key);
        return Ok(Action::requeue(FOLLOW));
    }
    let due = match &object.0 {
        Ok(pipeline) => due(pipeline, &key, &context),
        Err(_) => Due::Look,
    };
    if let Due::Nothing(pause) = due {
        return Ok(Action::requeue(pause));
    }
    let work = Box::pin(work(&object, &name, due, &context));
    context.pools.work(&key, work).await
}

/// Glances or looks, whichever is due.
async fn work(
    object: &Guarded,
    name: &PipelineName,
    due: Due,
    context: &Arc<Context>,
) -> Result<Action, Error> {
    let key = name.to_string();
    if let (Due::Glance(before), Ok(pipeline)) = (due, &object.0) {
        let (references, objects) = (context.seen(&key), ObjectStore::cluster(context.client.0.clone()));
        if Box::pin(context.engine.glance(name, &pipeline.spec, (&references, objects), &before)).await {
            context.engine.rests.glanced(&key, Instant::now());
            return Ok(Action::requeue(pause_of(&self::due(pipeline, &key, context))));
        }
    }
    context.engine.rests.begin(&key);
    let begin = Instant::now();
    let metrics = context.engine.metrics.clone();
    metrics.active().inc();
    let result = match &object.0 {
        Ok(pipeline) => Box::pin(reconcile_pipeline(pipeline, name, context)).await,
        Err(invalid) => Box::pin(unreadable::reconcile(invalid, context)).await,
    };
    metrics.active().dec();
    let outcome = match &result {
        Ok((_, Ended::Changed)) => "changed",
        Ok((_, Ended::Unchanged)) => "unchanged",
        Ok((_, Ended::Failed)) | Err(_) => "error",
    };
    if result.is_err() {
        context.engine.rests.wake(&key);
    }
    metrics.reconciled(outcome, begin.elapsed().as_secs_f64());
    result.map(|(action, _)| action)
}

/// What is due for a pipeline.
fn due(pipeline: &AnalyticsPipeline, key: &str, context: &Context) -> Due {
    if pipeline.metadata.deletion_timestamp.is_some() {
        return Due::Look;
    }
    context.engine.rests.due(key, &asked(pipeline), Instant::now())
}

/// What a look at a resource is for.
fn asked(pipeline: &AnalyticsPipeline) -> Asked {
    let asks = |(key, _): &(&String, &String)| key.starts_with(REQUEST_PREFIX);
    Asked {
        uid: pipeline.uid().unwrap_or_default(),
        generation: pipeline.metadata.generation.unwrap_or(0),
        annotations: (pipeline.annotations().iter().filter(asks))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    }
}

/// What follows a failed reconcile: a growing pause of this object alone.
#[allow(clippy::needless_pass_by_value, reason = "the controller calls it with these types")]
pub fn error_policy(object: Arc<Guarded>, error: &Error, context: Arc<Context>) -> Action {
    let name = format!("{}/{}", object.meta().namespace.as_deref().unwrap_or_default(), object.name_any());
    let pause = context.backoff.failed(&name, rand::random());
    tracing::warn!(pipeline = name, %error, pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX), "reconcile failed");
    Action::requeue(pause)
}

/// One call of the API server, which ends in time.
pub(crate) async fn within<T>(
    what: &'static str,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Error> {
    Ok(tokio::time::timeout(DEADLINE, call).await.map_err(|_| Error::Deadline(what))??)
}

async fn reconcile_pipeline(
    pipeline: &AnalyticsPipeline,
    name: &PipelineName,
    context: &Arc<Context>,
) -> Result<(Action, Ended), Error> {
    let client = &context.client.0;
    let api = objects_of(context, name);
    let deleting = pipeline.metadata.deletion_timestamp.is_some();
    let finalizer = pipeline.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
    if deleting && !finalizer {
        context.forget(name);
        return Ok((Action::await_change(), Ended::Unchanged));
    }
    if !finalizer {
        // With the resourceVersion that was read, so that no finalizer of another is lost.
        let mut finalizers = pipeline.finalizers().to_vec();
        finalizers.push(FINALIZER.to_owned());
        let patch = json!({"metadata": {
            "finalizers": finalizers, "resourceVersion": pipeline.metadata.resource_version,
        }});
        within("adding the finalizer", api.patch(&name.name, &PatchParams::default(), &Patch::Merge(patch)))
            .await?;
    }
    let (spec, invalid, runs) = runnable_spec(pipeline, name, context).await?;
    let wanted = credentials::wanted(&spec);
    context.concerns.note(name, wanted.clone());
    let seen = references::read(client, &name.namespace, wanted).await;
    let known = context.remember(&name.to_string(), seen.clone());
    // The namespace may be half gone: what was seen last still cleans up.
    let references = if deleting { known } else { seen };
    let before = pipeline.status.clone().unwrap_or_default();
    let annotations = pipeline.annotations().clone();
    let term = of_reconcile(pipeline, name, context);
    let all = context.pipelines();
    let neighbours: Vec<Neighbour<'_>> = all.iter().filter_map(|object| neighbour(object)).collect();
    let task = Task {
        spec: &spec,
        invalid: invalid.as_deref(),
        annotations: &annotations,
        references: &references,
        neighbours: &neighbours,
        before: &before,
        term: &term,
        mode: mode(deleting, runs),
    };
    let input = context.input(pipeline, name, &task);
    let report = Box::pin(context.engine.run(&input, &|_, _: &[&Step]| {})).await;
    context.pools.note(&name.to_string(), report.slow);
    if !context.term.leads() {
        // What was seen is another's to say now.
        return Ok((Action::requeue(FOLLOW), Ended::Unchanged));
    }
    let reference = pipeline.object_ref(&());
    tell_what_changed(context, &before, &report, &reference).await;
    if deleting && finish_deletion(pipeline, name, &api, context, &report, &reference).await? {
        return Ok((Action::await_change(), Ended::Changed));
    }
    let status_changed = !status::same(&before, &report.status);
    if status_changed {
        write_status(&api, &pipeline.metadata, &report.status).await?;
    }
    Box::pin(planned::answer(pipeline, name, &neighbours, context)).await;
    let changed = status_changed || !report.outcome.done.is_empty();
    // A spec that is not valid is not the one that a glance would be made by.
    let may_rest = !deleting && invalid.is_none();
    let pause = pause(pipeline, name, context, &report, (changed, may_rest, all.len()));
    Ok((Action::requeue(pause), Ended::of(&report, changed)))
}

/// Events of what a reconcile found and did.
async fn tell_what_changed(
    context: &Context,
    before: &AnalyticsPipelineStatus,
    report: &Report,
    reference: &ObjectReference,
) {
    let tables = |status: &AnalyticsPipelineStatus| status.tables.clone().unwrap_or_default();
    let notes = changes(&before.conditions, &report.status.conditions);
    for note in notes.into_iter().chain(table_changes(&tables(before), &tables(&report.status))) {
        context.events.publish(reference, &note).await;
    }
    for done in report.outcome.done.iter().filter(|done| done.kind == StepKind::Revert) {
        let note = Note { warning: false, reason: "Reverted".into(), text: done.what.clone() };
        context.events.publish(reference, &note).await;
    }
}

/// The pause until a pipeline, one of so many, is asked about again; notes whether it is at rest.
fn pause(
    pipeline: &AnalyticsPipeline,
    name: &PipelineName,
    context: &Context,
    report: &Report,
    (changed, may_rest, pipelines): (bool, bool, usize),
) -> Duration {
    let (key, rests) = (name.to_string(), &context.engine.rests);
    let backoff = if report.outcome.failures.is_empty() {
        context.backoff.succeeded(&key);
        Duration::ZERO
    } else {
        context.backoff.failed(&key, rand::random())
    };
    let next = report.next(backoff);
    if next.is_some() || !may_rest {
        rests.wake(&key);
        return next.unwrap_or(SLOW);
    }
    let observed = &report.outcome.observed;
    let now = Timestamp::now().as_millisecond();
    let seen = (Glance::of_look(observed, now), changed);
    rests.looked(&key, asked(pipeline), seen, (Instant::now(), pipelines, rand::random()));
    pause_of(&due(pipeline, &key, context))
}

/// The pause until something is due.
fn pause_of(due: &Due) -> Duration {
    match due {
        Due::Nothing(pause) => *pause,
        // Something happened meanwhile.
        Due::Glance(_) | Due::Look => AGAIN,
    }
}

/// The term of one reconcile: as long as the cache has the spec, and the wish to delete it, that the reconcile began with.
fn of_reconcile(pipeline: &AnalyticsPipeline, name: &PipelineName, context: &Arc<Context>) -> Term {
    let asked = |metadata: &ObjectMeta| (metadata.generation, metadata.deletion_timestamp.is_some());
    let begun = asked(&pipeline.metadata);
    let (context, name) = (Arc::clone(context), name.clone());
    let term = context.term.clone();
    term.of_reconcile(move || context.metadata(&name).is_none_or(|metadata| asked(&metadata) == begun))
}

/// Another pipeline as far as it can be read. One that is being deleted has its topics until it is gone: its connector may
/// run that long.
fn neighbour(object: &Guarded) -> Option<Neighbour<'_>> {
    let pipeline = object.0.as_ref().ok()?;
    let kafka = pipeline.status.as_ref().and_then(|status| status.identities.get("kafka"));
    Some(Neighbour {
        name: PipelineName::new(pipeline.namespace().unwrap_or_default(), pipeline.name_any()),
        created: pipeline.metadata.creation_timestamp.as_ref().map(|time| time.0),
        kafka: kafka.map(String::as_str),
        spec: &pipeline.spec,
    })
}

/// A spec that was never valid is looked at and not carried out, but for its deletion: names are enough for that.
fn mode(deleting: bool, runs: bool) -> Mode {
    match (deleting, runs) {
        (true, _) => Mode::Delete,
        (false, true) => Mode::Run,
        (false, false) => Mode::PlanOnly,
    }
}

/// The spec that runs: the one that was read, or the last valid one and why; and whether it may be carried out. Where no
/// spec of this resource was ever valid there is none, and the one that was read is judged and not carried out.
async fn runnable_spec(
    pipeline: &AnalyticsPipeline,
    name: &PipelineName,
    context: &Context,
) -> Result<(AnalyticsPipelineSpec, Option<String>, bool), Error> {
    let client = &context.client.0;
    let generation = pipeline.metadata.generation.unwrap_or(0);
    let Err(invalid) = validate(&pipeline.spec) else {
        let deleting = pipeline.metadata.deletion_timestamp.is_some();
        let key = format!("{name} {}", pipeline.uid().unwrap_or_default());
        if !deleting && context.kept_revision(&key) != Some(generation) {
            // It is for a later spec that is not valid: this one runs without.
            match within("keeping the spec", revisions::keep(client, pipeline)).await {
                Ok(()) => context.keep_revision(&key, generation),
                Err(error) => tracing::warn!(pipeline = %name, %error, "the valid spec could not be kept"),
            }
        }
        return Ok((pipeline.spec.clone(), None, true));
    };
    let last = match within("reading the last valid spec", revisions::last_valid(client, &pipeline.metadata))
        .await
    {
        Ok(last) => last,
        // What it was decides what a deletion removes.
        Err(error) if pipeline.metadata.deletion_timestamp.is_some() => return Err(error),
        Err(error) => {
            tracing::warn!(pipeline = %name, %error, "the last valid spec cannot be read: nothing is written");
            None
        }
    };
    let runs = last.is_some();
    Ok((last.unwrap_or_else(|| pipeline.spec.clone()), Some(invalid.to_string()), runs))
}

/// Writes the status of this life of the name. The API server takes a status whatever uid it is for, so the one that has
/// the name now is looked at first: the cache may be late, and what was true of one life, or of the spec before this one,
/// would be said of another, and take back what that one's status remembers.
pub async fn write_status(
    api: &Api<DynamicObject>,
    metadata: &ObjectMeta,
    status: &impl Serialize,
) -> Result<(), Error> {
    let name = metadata.name.as_deref().unwrap_or_default();
    let live = within("reading the resource", api.get_metadata_opt(name)).await?;
    let is_its = |live: &ObjectMeta| live.uid == metadata.uid && live.generation <= metadata.generation;
    if !live.is_some_and(|live| is_its(&live.metadata)) {
        return Ok(());
    }
    let object = json!({
        "apiVersion": AnalyticsPipeline::api_version(&()), "kind": AnalyticsPipeline::kind(&()),
        "metadata": {"name": name}, "status": status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    match within("writing the status", api.patch_status(name, &params, &Patch::Apply(object))).await {
        // Deleted meanwhile.
        Err(Error::Kubernetes(kube::Error::Api(status))) if status.code == 404 => Ok(()),
        other => other.map(|_| ()),
    }
}

/// Takes the finalizer off when all is clean or time is up; says what is left behind.
async fn finish_deletion(
    pipeline: &AnalyticsPipeline,
    name: &PipelineName,
    api: &Api<DynamicObject>,
    context: &Context,
    report: &Report,
    reference: &ObjectReference,
) -> Result<bool, Error> {
    if !report.clean && !report.time_is_up {
        return Ok(false);
    }
    if !report.clean {
        tell_what_is_left(name, context, &report.left_behind, reference).await;
    }
    if !release(api, name, &pipeline.metadata, context).await? {
        return Ok(false);
    }
    tracing::info!(pipeline = %name, clean = report.clean, "deleted");
    Ok(true)
}

/// Takes the finalizer off and forgets the pipeline; false: a newer version is on its way.
async fn release(
    api: &Api<DynamicObject>,
    name: &PipelineName,
    metadata: &ObjectMeta,
    context: &Context,
) -> Result<bool, Error> {
    let finalizers: Vec<&String> =
        metadata.finalizers.iter().flatten().filter(|finalizer| *finalizer != FINALIZER).collect();
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": metadata.resource_version}});
    let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
    match within("removing the finalizer", api.patch(&name.name, &params, &patch)).await {
        Err(Error::Kubernetes(kube::Error::Api(status))) if status.code == 404 => {}
        // It brings the next reconcile.
        Err(Error::Kubernetes(kube::Error::Api(status))) if status.code == 409 => return Ok(false),
        other => drop(other?),
    }
    context.forget(name);
    Ok(true)
}

/// The resources of a namespace, whatever is in them: what cannot be read has a status and finalizers, too.
fn objects_of(context: &Context, name: &PipelineName) -> Api<DynamicObject> {
    let (version, kind) = (AnalyticsPipeline::api_version(&()), AnalyticsPipeline::kind(&()));
    api(&context.client.0, &name.namespace, &version, &kind)
}

async fn tell_what_is_left(
    name: &PipelineName,
    context: &Context,
    left_behind: &[LeftBehind],
    reference: &ObjectReference,
) {
    let mut lines: BTreeMap<usize, String> = BTreeMap::new();
    for (index, left) in left_behind.iter().enumerate() {
        context.engine.metrics.left_behind(left.lane);
        tracing::error!(pipeline = %name, object = left.what, command = left.command, "left behind by a deletion");
        lines.insert(index, format!("{}: {}", left.what, left.command));
    }
    let text = lines.into_values().collect::<Vec<_>>().join("; ");
    let note =
        Note { warning: true, reason: "LeftBehind".into(), text: format!("not removed in time: {text}") };
    context.events.publish(reference, &note).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_that_is_being_deleted_keeps_its_topics_until_it_is_gone() {
        let object = json!({
            "apiVersion": "tidemark.dev/v1alpha1", "kind": "AnalyticsPipeline",
            "metadata": {"namespace": "ns", "name": "a", "creationTimestamp": "2026-01-01T00:00:00Z",
                "deletionTimestamp": "2026-01-02T00:00:00Z"},
            "status": {"identities": {"kafka": "id"}},
            "spec": {
                "source": {
                    "postgres": {"host": "pg", "database": "shop", "credentials": {"secretName": "pg"}},
                    "connect": {"url": "http://connect:8083"},
                },
                "kafka": {"bootstrapServers": "kafka:9092", "topicPrefix": "shop"},
                "tables": [{"name": "public.orders"}],
                "clickhouse": {"url": "http://ch:8123", "credentials": {"secretName": "ch"}},
            },
        });
        let object: Guarded = serde_json::from_value(object).unwrap();
        let found = neighbour(&object).unwrap();
        assert_eq!((found.name.to_string().as_str(), found.kafka), ("ns/a", Some("id")));
        assert_eq!(found.created, Some("2026-01-01T00:00:00Z".parse().unwrap()));
    }

    #[test]
    fn what_was_never_valid_is_not_carried_out_and_can_be_deleted() {
        assert_eq!((mode(false, false), mode(false, true)), (Mode::PlanOnly, Mode::Run));
        assert_eq!((mode(true, false), mode(true, true)), (Mode::Delete, Mode::Delete));
    }
}
