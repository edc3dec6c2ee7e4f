//! I14: every field of the spec does something, or is said to do nothing, and why.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::dashboards::shown;
use super::plans::{Plan, merge};
use super::shell::Operator;
use super::world::Model;

/// What a change of a field does; those of `spec.grafana` where there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    /// It makes a write.
    Acts,
    /// The status says something else.
    Says,
    /// Nothing is seen of it, for this reason.
    Nothing(&'static str),
}
use Does::{Acts, Nothing, Says};

/// Every leaf of the schema, a change of it, and what that does.
#[rustfmt::skip]
const LEAVES: &[(&str, &str, Does)] = &[
    (".clickhouse.cleanup.after", r#"{"clickhouse":{"cleanup":{"after":"2h"}}}"#, Acts),
    (".clickhouse.cleanup.enabled", r#"{"clickhouse":{"cleanup":{"enabled":false}}}"#, Acts),
    (".clickhouse.credentials.passwordKey", r#"{"clickhouse":{"credentials":{"passwordKey":"token"}}}"#, Acts),
    (".clickhouse.credentials.secretName", r#"{"clickhouse":{"credentials":{"secretName":"pg"}}}"#, Acts),
    (".clickhouse.credentials.usernameKey", r#"{"clickhouse":{"credentials":{"usernameKey":"login"}}}"#, Acts),
    (".clickhouse.database", r#"{"clickhouse":{"database":"other"}}"#, Says),
    (".clickhouse.tls.ca.configMapKeyRef.key", r#"{"clickhouse":{"url":"https://ch:8443","tls":{"ca":{"configMapKeyRef":{"name":"ca","key":"k"}}}}}"#, Says),
    (".clickhouse.tls.ca.configMapKeyRef.name", r#"{"clickhouse":{"url":"https://ch:8443","tls":{"ca":{"configMapKeyRef":{"name":"other","key":"k"}}}}}"#, Says),
    (".clickhouse.tls.ca.secretKeyRef.key", r#"{"clickhouse":{"url":"https://ch:8443","tls":{"ca":{"secretKeyRef":{"name":"ca","key":"k"}}}}}"#, Says),
    (".clickhouse.tls.ca.secretKeyRef.name", r#"{"clickhouse":{"url":"https://ch:8443","tls":{"ca":{"secretKeyRef":{"name":"other","key":"k"}}}}}"#, Says),
    (".clickhouse.viewer.passwordKey", r#"{"clickhouse":{"viewer":{"secretName":"ch","passwordKey":"none"}}}"#, Says),
    (".clickhouse.viewer.secretName", r#"{"clickhouse":{"viewer":{"secretName":"none"}}}"#, Says),
    (".clickhouse.viewer.usernameKey", r#"{"clickhouse":{"viewer":{"secretName":"ch","usernameKey":"none"}}}"#, Says),
    (".clickhouse.url", r#"{"clickhouse":{"url":"http://nowhere:8123"}}"#, Says),
    (".deletionPolicy.clickhouse", r#"{"deletionPolicy":{"clickhouse":"Delete"}}"#, Nothing("until the pipeline is deleted")),
    (".deletionPolicy.connector", r#"{"deletionPolicy":{"connector":"Retain"}}"#, Nothing("until the pipeline is deleted")),
    (".deletionPolicy.grafana", r#"{"deletionPolicy":{"grafana":"Retain"}}"#, Nothing("until the pipeline is deleted")),
    (".deletionPolicy.replicationSlot", r#"{"deletionPolicy":{"replicationSlot":"Retain"}}"#, Nothing("until the pipeline is deleted")),
    (".deletionPolicy.timeout", r#"{"deletionPolicy":{"timeout":"3m"}}"#, Nothing("until the pipeline is deleted")),
    (".deletionPolicy.topics", r#"{"deletionPolicy":{"topics":"Delete"}}"#, Nothing("until the pipeline is deleted")),
    (".freshness.rows", r#"{"freshness":{"rows":"1ms"}}"#, Nothing("the model's rows are fresh")),
    (".freshness.views", r#"{"freshness":{"views":"1ms"}}"#, Nothing("the model's views are fresh")),
    (".grafana.adoptionPolicy", r#"{"grafana":{"adoptionPolicy":"Adopt"}}"#, Nothing("until something of somebody else has our uid")),
    (".grafana.alerts", r#"{"grafana":{"alerts":"Disabled"}}"#, Nothing("rules are over the preset's views")),
    (".grafana.credentials.passwordKey", r#"{"grafana":{"credentials":{"tokenKey":null,"usernameKey":"username","passwordKey":"none"}}}"#, Says),
    (".grafana.credentials.secretName", r#"{"grafana":{"credentials":{"secretName":"none"}}}"#, Says),
    (".grafana.credentials.tokenKey", r#"{"grafana":{"credentials":{"tokenKey":"none"}}}"#, Says),
    (".grafana.credentials.usernameKey", r#"{"grafana":{"credentials":{"tokenKey":null,"usernameKey":"none","passwordKey":"password"}}}"#, Says),
    (".grafana.dashboards.extra[].json.configMapKeyRef.key", r#"{"grafana":{"dashboards":{"extra":[{"name":"sales","json":{"configMapKeyRef":{"name":"views","key":"none"}}}]}}}"#, Says),
    (".grafana.dashboards.extra[].json.configMapKeyRef.name", r#"{"grafana":{"dashboards":{"extra":[{"name":"sales","json":{"configMapKeyRef":{"name":"none","key":"daily.sql"}}}]}}}"#, Says),
    (".grafana.dashboards.extra[].json.inline", r#"{"grafana":{"dashboards":{"extra":[{"name":"sales","json":{"inline":"{}"}}]}}}"#, Says),
    (".grafana.dashboards.extra[].name", r#"{"grafana":{"dashboards":{"extra":[]}}}"#, Acts),
    (".grafana.dashboards.preset", r#"{"grafana":{"dashboards":{"preset":"Ecommerce"}}}"#, Nothing("without the preset's views")),
    (".grafana.dashboards.refresh", r#"{"grafana":{"dashboards":{"refresh":"7s"}}}"#, Nothing("of the preset's dashboards alone")),
    (".grafana.driftPolicy", r#"{"grafana":{"driftPolicy":"Keep"}}"#, Nothing("until somebody changes something by hand")),
    (".grafana.folder", r#"{"grafana":{"folder":"Other"}}"#, Acts),
    (".grafana.mode", r#"{"grafana":{"mode":"Sidecar","url":null,"credentials":null,"alerts":"Disabled"}}"#, Acts),
    (".grafana.organizationId", r#"{"grafana":{"organizationId":7,"credentials":{"tokenKey":null,"usernameKey":"username","passwordKey":"password"}}}"#, Acts),
    (".grafana.reader.passwordKey", r#"{"grafana":{"reader":{"passwordKey":"token"}}}"#, Nothing("the password is the same in the model")),
    (".grafana.reader.secretName", r#"{"grafana":{"reader":{"secretName":"none"}}}"#, Says),
    (".grafana.reader.usernameKey", r#"{"grafana":{"reader":{"usernameKey":"login"}}}"#, Acts),
    (".grafana.sidecar.dashboardLabels", r#"{"grafana":{"mode":"Sidecar","url":null,"credentials":null,"alerts":"Disabled","sidecar":{"dashboardLabels":{"a":"b"}}}}"#, Acts),
    (".grafana.sidecar.dataSourceLabels", r#"{"grafana":{"mode":"Sidecar","url":null,"credentials":null,"alerts":"Disabled","sidecar":{"dataSourceLabels":{"a":"b"}}}}"#, Acts),
    (".grafana.sidecar.folderAnnotation", r#"{"grafana":{"mode":"Sidecar","url":null,"credentials":null,"alerts":"Disabled","sidecar":{"folderAnnotation":"a/b"}}}"#, Acts),
    (".grafana.tls.ca.configMapKeyRef.key", r#"{"grafana":{"url":"https://grafana:3000","tls":{"ca":{"configMapKeyRef":{"name":"ca","key":"k"}}}}}"#, Says),
    (".grafana.tls.ca.configMapKeyRef.name", r#"{"grafana":{"url":"https://grafana:3000","tls":{"ca":{"configMapKeyRef":{"name":"other","key":"k"}}}}}"#, Says),
    (".grafana.tls.ca.secretKeyRef.key", r#"{"grafana":{"url":"https://grafana:3000","tls":{"ca":{"secretKeyRef":{"name":"ca","key":"k"}}}}}"#, Says),
    (".grafana.tls.ca.secretKeyRef.name", r#"{"grafana":{"url":"https://grafana:3000","tls":{"ca":{"secretKeyRef":{"name":"other","key":"k"}}}}}"#, Says),
    (".grafana.url", r#"{"grafana":{"url":"http://nowhere:3000"}}"#, Says),
    (".kafka.bootstrapServers", r#"{"kafka":{"bootstrapServers":"nowhere:9092"}}"#, Says),
    (".kafka.consumerProperties", r#"{"kafka":{"consumerProperties":{"fetch.min.bytes":"7"}}}"#, Acts),
    (".kafka.maxMessageBytes", r#"{"kafka":{"maxMessageBytes":"32Mi"}}"#, Acts),
    (".kafka.sasl.credentials.passwordKey", r#"{"kafka":{"sasl":{"mechanism":"Plain","credentials":{"secretName":"kafka-user","username":"shop","passwordKey":"token"}}}}"#, Acts),
    (".kafka.sasl.credentials.secretName", r#"{"kafka":{"sasl":{"mechanism":"Plain","credentials":{"secretName":"pg","username":"shop"}}}}"#, Acts),
    (".kafka.sasl.credentials.username", r#"{"kafka":{"sasl":{"mechanism":"Plain","credentials":{"secretName":"pg","username":"other"}}}}"#, Acts),
    (".kafka.sasl.credentials.usernameKey", r#"{"kafka":{"sasl":{"mechanism":"Plain","credentials":{"secretName":"pg","usernameKey":"login"}}}}"#, Acts),
    (".kafka.sasl.mechanism", r#"{"kafka":{"sasl":{"mechanism":"ScramSha256","credentials":{"secretName":"pg"}}}}"#, Acts),
    (".kafka.tls.ca.configMapKeyRef.key", r#"{"kafka":{"tls":{"ca":{"configMapKeyRef":{"name":"ca","key":"k"}}}}}"#, Says),
    (".kafka.tls.ca.configMapKeyRef.name", r#"{"kafka":{"tls":{"ca":{"configMapKeyRef":{"name":"other","key":"k"}}}}}"#, Says),
    (".kafka.tls.ca.secretKeyRef.key", r#"{"kafka":{"tls":{"ca":{"secretKeyRef":{"name":"ca","key":"k"}}}}}"#, Says),
    (".kafka.tls.ca.secretKeyRef.name", r#"{"kafka":{"tls":{"ca":{"secretKeyRef":{"name":"other","key":"k"}}}}}"#, Says),
    (".kafka.tls.clientCertificate.certificateKey", r#"{"kafka":{"tls":{"clientCertificate":{"secretName":"pg","certificateKey":"c"}}}}"#, Says),
    (".kafka.tls.clientCertificate.privateKeyKey", r#"{"kafka":{"tls":{"clientCertificate":{"secretName":"pg","privateKeyKey":"c"}}}}"#, Says),
    (".kafka.tls.clientCertificate.secretName", r#"{"kafka":{"tls":{"clientCertificate":{"secretName":"ch"}}}}"#, Says),
    (".kafka.topicPrefix", r#"{"kafka":{"topicPrefix":"other"}}"#, Acts),
    (".kafka.topics.partitions", r#"{"kafka":{"topics":{"partitions":8}}}"#, Says),
    (".kafka.topics.replicationFactor", r#"{"kafka":{"topics":{"replicationFactor":3}}}"#, Says),
    (".kafka.topics.retention", r#"{"kafka":{"topics":{"retention":"24h"}}}"#, Acts),
    (".sink.batch.insertsPerSecond", r#"{"sink":{"batch":{"insertsPerSecond":7}}}"#, Acts),
    (".sink.batch.maxAge", r#"{"sink":{"batch":{"maxAge":"70ms"}}}"#, Acts),
    (".sink.batch.maxBytes", r#"{"sink":{"batch":{"maxBytes":"7Mi"}}}"#, Acts),
    (".sink.batch.maxRows", r#"{"sink":{"batch":{"maxRows":77}}}"#, Acts),
    (".sink.deadLetter.maxShare", r#"{"sink":{"deadLetter":{"maxShare":"7%"}}}"#, Acts),
    (".sink.deadLetter.topic", r#"{"sink":{"deadLetter":{"topic":"letters"}}}"#, Acts),
    (".sink.pod.annotations", r#"{"sink":{"pod":{"annotations":{"a":"b"}}}}"#, Acts),
    (".sink.pod.imagePullSecrets[].name", r#"{"sink":{"pod":{"imagePullSecrets":[{"name":"pull"}]}}}"#, Acts),
    (".sink.pod.labels", r#"{"sink":{"pod":{"labels":{"a":"b"}}}}"#, Acts),
    (".sink.pod.nodeSelector", r#"{"sink":{"pod":{"nodeSelector":{"a":"b"}}}}"#, Acts),
    (".sink.pod.priorityClassName", r#"{"sink":{"pod":{"priorityClassName":"high"}}}"#, Acts),
    (".sink.pod.securityContext.fsGroup", r#"{"sink":{"pod":{"securityContext":{"fsGroup":7}}}}"#, Acts),
    (".sink.pod.securityContext.runAsGroup", r#"{"sink":{"pod":{"securityContext":{"runAsGroup":7}}}}"#, Acts),
    (".sink.pod.securityContext.runAsUser", r#"{"sink":{"pod":{"securityContext":{"runAsUser":7}}}}"#, Acts),
    (".sink.pod.tolerations[].effect", r#"{"sink":{"pod":{"tolerations":[{"operator":"Exists","effect":"NoSchedule"}]}}}"#, Acts),
    (".sink.pod.tolerations[].key", r#"{"sink":{"pod":{"tolerations":[{"operator":"Exists","key":"k"}]}}}"#, Acts),
    (".sink.pod.tolerations[].operator", r#"{"sink":{"pod":{"tolerations":[{"operator":"Exists"}]}}}"#, Acts),
    (".sink.pod.tolerations[].tolerationSeconds", r#"{"sink":{"pod":{"tolerations":[{"operator":"Exists","effect":"NoExecute","tolerationSeconds":7}]}}}"#, Acts),
    (".sink.pod.tolerations[].value", r#"{"sink":{"pod":{"tolerations":[{"operator":"Equal","key":"k","value":"v"}]}}}"#, Acts),
    (".sink.replicas", r#"{"sink":{"replicas":3}}"#, Acts),
    (".sink.resources.limits", r#"{"sink":{"resources":{"limits":{"memory":"1Gi"}}}}"#, Acts),
    (".sink.resources.requests", r#"{"sink":{"resources":{"requests":{"cpu":"7m"}}}}"#, Acts),
    (".source.connect.config", r#"{"source":{"connect":{"config":{"max.batch.size":"77"}}}}"#, Says),
    (".source.connect.credentials.passwordKey", r#"{"source":{"connect":{"credentials":{"secretName":"pg","passwordKey":"none"}}}}"#, Says),
    (".source.connect.credentials.secretName", r#"{"source":{"connect":{"credentials":{"secretName":"none"}}}}"#, Says),
    (".source.connect.credentials.usernameKey", r#"{"source":{"connect":{"credentials":{"secretName":"pg","usernameKey":"none"}}}}"#, Says),
    (".source.connect.databaseCredentials.password", r#"{"source":{"connect":{"databaseCredentials":{"type":"ConfigProvider","username":"${file:/a:u}","password":"${file:/a:p}"}}}}"#, Acts),
    (".source.connect.databaseCredentials.type", r#"{"source":{"connect":{"databaseCredentials":{"type":"ConfigProvider","username":"${file:/b:u}","password":"${file:/b:p}"}}}}"#, Acts),
    (".source.connect.databaseCredentials.username", r#"{"source":{"connect":{"databaseCredentials":{"type":"ConfigProvider","username":"${file:/c:u}","password":"${file:/c:p}"}}}}"#, Acts),
    (".source.connect.state", r#"{"source":{"connect":{"state":"Paused"}}}"#, Acts),
    (".source.connect.tls.ca.configMapKeyRef.key", r#"{"source":{"connect":{"url":"https://connect:8083","tls":{"ca":{"configMapKeyRef":{"name":"ca","key":"k"}}}}}}"#, Says),
    (".source.connect.tls.ca.configMapKeyRef.name", r#"{"source":{"connect":{"url":"https://connect:8083","tls":{"ca":{"configMapKeyRef":{"name":"other","key":"k"}}}}}}"#, Says),
    (".source.connect.tls.ca.secretKeyRef.key", r#"{"source":{"connect":{"url":"https://connect:8083","tls":{"ca":{"secretKeyRef":{"name":"ca","key":"k"}}}}}}"#, Says),
    (".source.connect.tls.ca.secretKeyRef.name", r#"{"source":{"connect":{"url":"https://connect:8083","tls":{"ca":{"secretKeyRef":{"name":"other","key":"k"}}}}}}"#, Says),
    (".source.connect.tls.mode", r#"{"source":{"connect":{"url":"https://connect:8083","tls":{"mode":"VerifyCa"}}}}"#, Says),
    (".source.connect.url", r#"{"source":{"connect":{"url":"http://nowhere:8083"}}}"#, Says),
    (".source.onSlotLost", r#"{"source":{"onSlotLost":"Resnapshot"}}"#, Nothing("until a slot is lost")),
    (".source.postgres.credentials.passwordKey", r#"{"source":{"postgres":{"credentials":{"passwordKey":"token"}}}}"#, Acts),
    (".source.postgres.credentials.secretName", r#"{"source":{"postgres":{"credentials":{"secretName":"ch"}}}}"#, Acts),
    (".source.postgres.credentials.usernameKey", r#"{"source":{"postgres":{"credentials":{"usernameKey":"none"}}}}"#, Says),
    (".source.postgres.database", r#"{"source":{"postgres":{"database":"bank"}}}"#, Says),
    (".source.postgres.host", r#"{"source":{"postgres":{"host":"nowhere"}}}"#, Says),
    (".source.postgres.port", r#"{"source":{"postgres":{"port":5433}}}"#, Acts),
    (".source.postgres.reads.host", r#"{"source":{"postgres":{"reads":{"host":"replica"}}}}"#, Acts),
    (".source.postgres.reads.maxConnections", r#"{"source":{"postgres":{"reads":{"maxConnections":3}}}}"#, Acts),
    (".source.postgres.reads.port", r#"{"source":{"postgres":{"reads":{"host":"replica","port":5433}}}}"#, Acts),
    (".source.postgres.reads.rowsPerSecond", r#"{"source":{"postgres":{"reads":{"rowsPerSecond":1000}}}}"#, Acts),
    (".source.postgres.tls.ca.configMapKeyRef.key", r#"{"source":{"postgres":{"tls":{"mode":"VerifyFull","ca":{"configMapKeyRef":{"name":"ca","key":"k"}}}}}}"#, Says),
    (".source.postgres.tls.ca.configMapKeyRef.name", r#"{"source":{"postgres":{"tls":{"mode":"VerifyFull","ca":{"configMapKeyRef":{"name":"other","key":"k"}}}}}}"#, Says),
    (".source.postgres.tls.ca.secretKeyRef.key", r#"{"source":{"postgres":{"tls":{"mode":"VerifyFull","ca":{"secretKeyRef":{"name":"ca","key":"k"}}}}}}"#, Says),
    (".source.postgres.tls.ca.secretKeyRef.name", r#"{"source":{"postgres":{"tls":{"mode":"VerifyFull","ca":{"secretKeyRef":{"name":"other","key":"k"}}}}}}"#, Says),
    (".source.postgres.tls.mode", r#"{"source":{"postgres":{"tls":{"mode":"VerifyFull"}}}}"#, Acts),
    (".suspend", r#"{"suspend":true}"#, Says),
    (".tables[].columns[].exclude", r#"{"tables":[{"name":"public.orders","columns":[{"name":"note","exclude":true}]},{"name":"public.customers"}]}"#, Acts),
    (".tables[].columns[].name", r#"{"tables":[{"name":"public.orders","columns":[{"name":"nothing","exclude":true}]},{"name":"public.customers"}]}"#, Says),
    (".tables[].columns[].outOfRange", r#"{"tables":[{"name":"public.orders","columns":[{"name":"note","outOfRange":"DeadLetter"}]},{"name":"public.customers"}]}"#, Acts),
    (".tables[].columns[].target", r#"{"tables":[{"name":"public.orders","columns":[{"name":"note","target":"remark"}]},{"name":"public.customers"}]}"#, Acts),
    (".tables[].columns[].type", r#"{"tables":[{"name":"public.orders","columns":[{"name":"note","type":"LowCardinality(Nullable(String))"}]},{"name":"public.customers"}]}"#, Acts),
    (".tables[].name", r#"{"tables":[{"name":"public.orders"},{"name":"public.customers"},{"name":"public.items"}]}"#, Acts),
    (".tables[].partitionBy", r#"{"tables":[{"name":"public.orders","partitionBy":"intDiv(id, 1000000)"},{"name":"public.customers"}]}"#, Nothing("the API server refuses it on a table that is there")),
    (".tables[].target", r#"{"tables":[{"name":"public.orders","target":"sales"},{"name":"public.customers"}]}"#, Acts),
    (".verification.enabled", r#"{"verification":{"enabled":false}}"#, Acts),
    (".verification.interval", r#"{"verification":{"interval":"2h"}}"#, Acts),
    (".verification.maxAge", r#"{"verification":{"maxAge":"1000h"}}"#, Nothing("the model's tables were compared lately")),
    (".verification.rowsPerSecond", r#"{"verification":{"rowsPerSecond":7}}"#, Acts),
    (".views.ecommerce.cancelledStatuses[]", r#"{"views":{"ecommerce":{"cancelledStatuses":["gone"]}}}"#, Nothing("without the preset")),
    (".views.ecommerce.currency", r#"{"views":{"ecommerce":{"currency":"USD"}}}"#, Nothing("without the preset")),
    (".views.ecommerce.refundedStatuses[]", r#"{"views":{"ecommerce":{"refundedStatuses":["back"]}}}"#, Nothing("without the preset")),
    (".views.ecommerce.viewerLogins", r#"{"views":{"ecommerce":{"viewerLogins":"Shown"}}}"#, Nothing("without the preset")),
    (".views.extra[].materialization.every", r#"{"views":{"extra":[{"name":"n","sql":{"inline":"SELECT 1 AS n"},"materialization":{"type":"Refresh","every":"7s"}}]}}"#, Acts),
    (".views.extra[].materialization.type", r#"{"views":{"extra":[{"name":"n","sql":{"inline":"SELECT 1 AS n"},"materialization":{"type":"Refresh"}}]}}"#, Acts),
    (".views.extra[].name", r#"{"views":{"extra":[{"name":"m","sql":{"inline":"SELECT 1 AS n"}}]}}"#, Acts),
    (".views.extra[].sql.configMapKeyRef.key", r#"{"views":{"extra":[{"name":"m","sql":{"configMapKeyRef":{"name":"views","key":"none"}}}]}}"#, Says),
    (".views.extra[].sql.configMapKeyRef.name", r#"{"views":{"extra":[{"name":"m","sql":{"configMapKeyRef":{"name":"views","key":"daily.sql"}}}]}}"#, Acts),
    (".views.extra[].sql.inline", r#"{"views":{"extra":[{"name":"m","sql":{"inline":"SELECT 2 AS n"}}]}}"#, Acts),
    (".views.preset", r#"{"views":{"preset":"Ecommerce"}}"#, Acts),
    (".views.refreshInterval", r#"{"views":{"refreshInterval":"7s"}}"#, Nothing("without a refreshed view")),
    (".views.timeZone", r#"{"views":{"timeZone":"Europe/Berlin"}}"#, Nothing("without the preset")),
];

/// The path of each leaf, and a change of it.
pub(super) fn changes() -> impl Iterator<Item = (&'static str, Value)> {
    LEAVES.iter().map(|(path, patch, _)| (*path, serde_json::from_str(patch).unwrap()))
}

/// The leaves of the generated schema.
fn leaves() -> BTreeSet<String> {
    fn walk(path: String, node: &Value, found: &mut BTreeSet<String>) {
        match (node["type"].as_str(), node["properties"].as_object()) {
            (Some("object"), Some(fields)) => {
                fields.iter().for_each(|(name, field)| walk(format!("{path}.{name}"), field, found));
            }
            (Some("array"), _) => walk(format!("{path}[]"), &node["items"], found),
            _ => drop(found.insert(path)),
        }
    }
    let text = include_str!("../../../crds/generated/analyticspipelines.yaml");
    let definition: Value = serde_yaml_ng::from_str(text).unwrap();
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut found = BTreeSet::new();
    walk(String::new(), schema, &mut found);
    found
}

#[test]
fn every_leaf_of_the_schema_is_in_the_table() {
    let named: BTreeSet<String> = LEAVES.iter().map(|(path, ..)| (*path).to_owned()).collect();
    let all = leaves();
    let missing: Vec<&String> = all.difference(&named).collect();
    let gone: Vec<&String> = named.difference(&all).collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "not in the table {missing:?}; not in the schema {gone:?}"
    );
}

#[test]
fn every_leaf_does_something_or_says_why_not() {
    let is_of_grafana = |path: &str| path.starts_with(".grafana");
    let mut wrong = changed_and_taken_back(&Plan::applied("leaves"), |path| !is_of_grafana(path));
    wrong.extend(changed_and_taken_back(&shown("leaves of Grafana"), is_of_grafana));
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), LEAVES.len(), wrong.join("\n"));
}

/// Changes each of the chosen leaves at the end of a plan, and takes it back: what is not as the table says.
fn changed_and_taken_back(plan: &Plan, chosen: impl Fn(&str) -> bool) -> Vec<String> {
    let (model, operator) = (&mut Model::new(plan.start()), Operator::new());
    for (_, change) in &plan.moves {
        change(&mut model.inner().estate);
        operator.rest(model).unwrap();
    }
    let settled = model.inner().estate.clone();
    let before = settled.namespace.resource.clone().unwrap();
    let mut wrong = Vec::new();
    for (path, patch, does) in LEAVES.iter().filter(|(path, ..)| chosen(path)) {
        let model = &mut Model::new(settled.clone());
        let patch: Value = serde_json::from_str(patch).unwrap();
        merge(&mut model.inner().estate, &patch);
        let operator = Operator::new();
        let rested = operator.rest(model);
        let mut inner = model.inner();
        let acts = std::mem::take(&mut inner.acts);
        let after = inner.estate.namespace.resource.clone().unwrap();
        let said = |resource: &super::kubernetes::Resource| {
            let conditions = resource.status.conditions.iter();
            let conditions: Vec<Value> =
                conditions.map(|it| json!([it.type_, it.status, it.reason, it.message])).collect();
            json!([conditions, resource.status.tables])
        };
        let found = match (acts.is_empty(), said(&after) == said(&before)) {
            (false, _) => Acts,
            (true, false) => Says,
            (true, true) => Nothing(""),
        };
        let is_right = match does {
            Acts => found == Acts,
            Says => found != Nothing(""),
            Nothing(_) => found == Nothing(""),
        };
        if !is_right || rested.is_none() {
            let acts: Vec<String> = acts.into_iter().map(|act| act.id.what).take(4).collect();
            let unwell = super::run::unwell(&inner.estate);
            wrong.push(format!(
                "{path}: {found:?} instead of {does:?}: {acts:?}, {unwell:?}\n{}\n{}",
                said(&before),
                said(&after)
            ));
            continue;
        }
        drop(inner);
        // Taken back, everything is well again.
        super::plans::apply(&mut model.inner().estate, before.spec.clone());
        let rested = operator.rest(model);
        let after = model.inner().estate.namespace.resource.clone().unwrap();
        if rested.is_none() || said(&after) != said(&before) {
            let not: Vec<String> = (after.status.conditions.iter())
                .filter(|it| it.status != "True" || rested.is_none())
                .map(|it| format!("{} {} {}", it.type_, it.reason, it.message))
                .collect();
            wrong.push(format!("{path}: taken back, and not as before: {not:?}"));
        }
    }
    wrong
}
