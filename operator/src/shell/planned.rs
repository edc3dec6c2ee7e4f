//! Plans that are asked for in the cluster: an annotation of the pipeline asks, a `ConfigMap` that the pipeline owns answers.
//! I/O.
//!
//! Whoever asks needs the right to change the pipeline and no other: what is looked at, and with whose login, is what would
//! be looked at once the spec that is asked about was applied.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidemark_crds::names::{FIELD_MANAGER, PipelineName, short_hash};
use tidemark_crds::pipeline::{AnalyticsPipeline, AnalyticsPipelineSpec};

use crate::core::blind::blind;
use crate::core::desired::neighbours::Neighbour;
use crate::core::{admission, credentials, validate};
use crate::edge::kubernetes::references;
use crate::shell::cli::bundle::Faults;
use crate::shell::cli::plan::PlanView;
use crate::shell::context::{Context, Task};
use crate::shell::controller::within;
use crate::shell::engine::{Engine, REQUEST_PREFIX};
use crate::shell::error::Error;
use crate::shell::reconcile::Mode;

/// The annotation that asks, behind [`REQUEST_PREFIX`].
pub const PLAN: &str = "plan";
/// Key of the answer that says what it answers: [`Request::token_of`] the annotation.
pub const TOKEN: &str = "token";
/// Key of the answer that has the plan, as `tidemark plan -o json` prints it.
pub const ANSWER: &str = "plan.json";
/// Longest answer, bytes: a `ConfigMap` has 1 MiB at most.
const LONGEST: usize = 900_000;

/// What is asked. A text that is no JSON object asks about the spec that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Request {
    /// Makes one request another than the one before.
    pub id: String,
    /// Whether it is about deleting the pipeline.
    pub deletion: bool,
    /// The spec that would be applied; absent: the one that is there.
    pub spec: Option<Value>,
    /// Annotations that would be applied with it.
    pub annotations: BTreeMap<String, String>,
}

impl Request {
    /// Reads an annotation.
    ///
    /// # Errors
    ///
    /// What is wrong with one that is a JSON object.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.trim_start().starts_with('{') {
            return Ok(Self::default());
        }
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// What an answer to an annotation is known by.
    pub fn token_of(text: &str) -> String {
        short_hash(text)
    }
}

/// The annotation that asks.
pub fn annotation() -> String {
    format!("{REQUEST_PREFIX}{PLAN}")
}

/// Answers where something is asked that was not answered yet. What somebody only asks about is no reason for a reconcile
/// to fail.
pub async fn answer(
    pipeline: &AnalyticsPipeline,
    name: &PipelineName,
    neighbours: &[Neighbour<'_>],
    context: &Context,
) {
    if let Err(error) = Box::pin(try_answer(pipeline, name, neighbours, context)).await {
        tracing::warn!(pipeline = %name, %error, "no plan was written");
    }
}

async fn try_answer(
    pipeline: &AnalyticsPipeline,
    name: &PipelineName,
    neighbours: &[Neighbour<'_>],
    context: &Context,
) -> Result<(), Error> {
    let key = name.to_string();
    let Some(text) = pipeline.annotations().get(&annotation()) else { return Ok(()) };
    let token = Request::token_of(text);
    if context.answered(&key) == Some(token.clone()) {
        return Ok(());
    }
    let maps: Api<ConfigMap> = Api::namespaced(context.client.0.clone(), &name.namespace);
    let live = within("reading the last plan", maps.get_opt(&name.plan())).await?;
    let is_ours = |live: &ConfigMap| {
        live.owner_references().iter().any(|owner| Some(&owner.uid) == pipeline.metadata.uid.as_ref())
    };
    match &live {
        Some(live) if !is_ours(live) => {
            tracing::warn!(
                pipeline = key,
                "ConfigMap {} is somebody else's: no plan is written: rename or remove it",
                name.plan()
            );
        }
        Some(live) if live.data.as_ref().and_then(|data| data.get(TOKEN)) == Some(&token) => {}
        _ => {
            let view = planned(pipeline, name, text, neighbours, context).await;
            if !context.term.leads() {
                return Ok(());
            }
            let object = json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {
                    "name": name.plan(),
                    "labels": {"tidemark.dev/pipeline": name.name},
                    "ownerReferences": [pipeline.controller_owner_ref(&())],
                },
                "data": {TOKEN: token, ANSWER: in_bounds(view)},
            });
            let params = PatchParams::apply(FIELD_MANAGER).force();
            within("writing a plan", maps.patch(&name.plan(), &params, &Patch::Apply(object))).await?;
        }
    }
    context.answer(&key, token);
    Ok(())
}

/// The plan as text; without what each step sends where that is too long.
fn in_bounds(mut view: PlanView) -> String {
    let text = |view: &PlanView| serde_json::to_string(view).unwrap_or_default();
    let whole = text(&view);
    if whole.len() <= LONGEST {
        return whole;
    }
    view.steps.iter_mut().for_each(|step| step.details = Vec::new());
    let short = text(&view);
    if short.len() <= LONGEST {
        return short;
    }
    let problem = format!(
        "its {} steps are more than a ConfigMap takes: plan from a place that sees the systems",
        view.steps.len()
    );
    text(&PlanView::invalid(view.pipeline, Faults::one("plan", "", problem)))
}

async fn planned(
    pipeline: &AnalyticsPipeline,
    name: &PipelineName,
    text: &str,
    neighbours: &[Neighbour<'_>],
    context: &Context,
) -> PlanView {
    match asked_for(pipeline, name, text) {
        Err(faults) => PlanView::invalid(name.to_string(), faults),
        Ok((request, spec)) => {
            Box::pin(foreseen(pipeline, name, (&request, &spec), neighbours, context)).await
        }
    }
}

/// The request, and the spec that it is about, judged as the API server would judge it.
fn asked_for(
    pipeline: &AnalyticsPipeline,
    name: &PipelineName,
    text: &str,
) -> Result<(Request, AnalyticsPipelineSpec), Faults> {
    let wrong = |problem: String| {
        Faults::one(
            format!("AnalyticsPipeline {name}"),
            format!("metadata.annotations[{}]", annotation()),
            problem,
        )
    };
    let request = Request::parse(text).map_err(wrong)?;
    let Some(candidate) = &request.spec else { return Ok((request, pipeline.spec.clone())) };
    let manifest = json!({
        "apiVersion": AnalyticsPipeline::api_version(&()), "kind": AnalyticsPipeline::kind(&()),
        "metadata": {"name": name.name, "namespace": name.namespace}, "spec": candidate,
    });
    let before = serde_json::to_value(pipeline).unwrap_or(Value::Null);
    Faults::of_pipeline(&name.name, admission::check(&manifest, Some(&before)))?;
    let spec = serde_json::from_value(candidate.clone()).map_err(|error| wrong(error.to_string()))?;
    Faults::of_pipeline(&name.name, validate::problems(&spec))?;
    Ok((request, spec))
}

async fn foreseen(
    pipeline: &AnalyticsPipeline,
    name: &PipelineName,
    (request, spec): (&Request, &AnalyticsPipelineSpec),
    neighbours: &[Neighbour<'_>],
    context: &Context,
) -> PlanView {
    let client = &context.client.0;
    let references = references::read(client, &name.namespace, credentials::wanted(spec)).await;
    let mut annotations = pipeline.annotations().clone();
    annotations.extend(request.annotations.clone());
    let before = pipeline.status.clone().unwrap_or_default();
    let deletes = request.deletion || pipeline.metadata.deletion_timestamp.is_some();
    let task = Task {
        spec,
        invalid: None,
        annotations: &annotations,
        references: &references,
        neighbours,
        before: &before,
        term: &context.term,
        mode: if deletes { Mode::ForeseeDeletion } else { Mode::Foresee },
    };
    let input = context.input(pipeline, name, &task);
    // Its own memory and connections: what is only asked about leaves no trace in what runs.
    let report = Box::pin(Engine::default().run(&input, &|_, _| {})).await;
    let resolved = credentials::resolve(spec, &references);
    let blind = blind(spec, &report.outcome.observed, &resolved);
    let view = PlanView::new(name.to_string(), &report, blind);
    PlanView { suspended: spec.suspend && !deletes, ..view }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::cli::plan::StepView;

    #[test]
    fn any_word_asks_about_the_spec_that_is_there_and_json_about_another() {
        assert_eq!(Request::parse("1").unwrap(), Request::default());
        let asked = Request { id: "a".into(), spec: Some(json!({"suspend": true})), ..Request::default() };
        let text = serde_json::to_string(&asked).unwrap();
        assert_eq!(Request::parse(&text).unwrap(), asked);
        assert!(Request::parse("{\"spce\": {}}").unwrap_err().contains("spce"));
        assert_ne!(Request::token_of("1"), Request::token_of("2"));
    }

    #[test]
    fn a_plan_that_no_configmap_takes_is_shortened_and_at_last_refused() {
        let step = |length: usize| StepView {
            wave: Some(1),
            lane: "clickhouse".into(),
            kind: "create".into(),
            what: "w".repeat(length),
            waits_for: None,
            details: vec!["d".repeat(1000)],
            cost: None,
        };
        let read = |steps| {
            let text =
                in_bounds(PlanView { pipeline: "a/b".into(), complete: true, steps, ..PlanView::default() });
            assert!(text.len() <= LONGEST);
            serde_json::from_str::<PlanView>(&text).unwrap()
        };
        assert_eq!(read(vec![step(1); 10]).steps[0].details.len(), 1);
        let short = read(vec![step(1); 2000]);
        assert!(short.steps.len() == 2000 && short.steps[0].details.is_empty());
        assert!(read(vec![step(1000); 2000]).invalid[0].problem.contains("2000 steps"));
    }
}
