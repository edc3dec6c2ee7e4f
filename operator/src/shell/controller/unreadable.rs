//! A reconcile of a resource that cannot be read: its status, or its deletion by the last spec that could. I/O.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::error_boundary::InvalidObject;
use kube::core::{ObjectMeta, PartialObjectMetaExt as _};
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use serde_json::Value;
use tidemark_crds::names::PipelineName;
use tidemark_crds::pipeline::AnalyticsPipeline;

use super::{Ended, objects_of, reconcile_pipeline, release, tell_what_is_left, within, write_status};
use crate::core::unreadable;
use crate::edge::kubernetes::revisions;
use crate::shell::context::Context;
use crate::shell::error::Error;

/// Reconciles once.
pub(super) async fn reconcile(
    invalid: &InvalidObject,
    context: &Arc<Context>,
) -> Result<(Action, Ended), Error> {
    let metadata = &invalid.metadata;
    let name = PipelineName::new(
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    );
    tracing::error!(pipeline = %name, error = %invalid.error, "resource cannot be read");
    let api = objects_of(context, &name);
    let Some(live) = within("reading the resource", api.get_opt(&name.name)).await? else {
        return Ok((Action::await_change(), Ended::Unchanged));
    };
    let metadata = live.metadata.clone();
    let raw = serde_json::to_value(&live).unwrap_or_default();
    if metadata.deletion_timestamp.is_some() {
        return Box::pin(end(metadata, &name, &raw, context)).await;
    }
    let status = unreadable::status(&raw, &invalid.error, &Time(Timestamp::now()));
    let changed = status != raw["status"];
    if changed {
        write_status(&api, &live.metadata, &status).await?;
    }
    Ok((Action::await_change(), of(changed)))
}

/// Cleans up by the last spec of this resource that can be read; without one it is let go when time is up.
async fn end(
    metadata: ObjectMeta,
    name: &PipelineName,
    raw: &Value,
    context: &Arc<Context>,
) -> Result<(Action, Ended), Error> {
    let last = revisions::last_valid(&context.client.0, &metadata);
    if let Some(spec) = within("reading the last valid spec", last).await? {
        let status = serde_json::from_value(raw["status"].clone()).ok();
        let pipeline = AnalyticsPipeline { metadata, spec, status };
        return Box::pin(reconcile_pipeline(&pipeline, name, context)).await;
    }
    let pipeline = metadata.into_response_partial::<AnalyticsPipeline>();
    if let Some(pause) = unreadable::wait(raw, Timestamp::now()) {
        return Ok((Action::requeue(pause), Ended::Unchanged));
    }
    if pipeline.finalizers().is_empty() {
        return Ok((Action::await_change(), Ended::Unchanged));
    }
    let left = unreadable::left_behind(name, &name.mark(&context.cluster), raw);
    tell_what_is_left(name, context, &left, &pipeline.object_ref(&())).await;
    let gone = release(&objects_of(context, name), name, &pipeline.metadata, context).await?;
    Ok((Action::await_change(), of(gone)))
}

fn of(changed: bool) -> Ended {
    if changed { Ended::Changed } else { Ended::Unchanged }
}
