//! The charts: every object accepted, the operator's rights as narrow as its values say, definitions that stay.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context, ensure};
use kube::api::{Patch, PatchParams};
use serde::Deserialize;
use serde_json::{Value, json};
use tidemark_crds::names::PipelineName;
use tidemark_e2e::stack::wait_until;
use tidemark_operator::core::desired::SinkInput;
use tidemark_operator::core::desired::sink_config::{Paths, sink_config};
use tidemark_operator::core::desired::sink_objects::sink_objects;

use super::{SOON, Server, path, printed, read};

/// What an account may do, in the words of `kubectl auth can-i`; a subresource stands behind a colon.
struct Right {
    allowed: bool,
    verb: &'static str,
    resource: &'static str,
    namespace: &'static str,
}

const fn may(verb: &'static str, resource: &'static str, namespace: &'static str) -> Right {
    Right { allowed: true, verb, resource, namespace }
}

const fn may_not(verb: &'static str, resource: &'static str, namespace: &'static str) -> Right {
    Right { allowed: false, verb, resource, namespace }
}

const OPERATOR: &str = "system:serviceaccount:tidemark:tidemark";

async fn helm(server: &Server, arguments: &[&str]) -> anyhow::Result<String> {
    let output = server.tool("helm", arguments, None).await?;
    printed(&output).with_context(|| format!("helm {}", arguments.join(" ")))
}

fn chart() -> String {
    path("charts/tidemark").display().to_string()
}

async fn check(server: &Server, account: &str, rights: &[Right]) -> anyhow::Result<()> {
    let account = format!("--as={account}");
    for right in rights {
        let namespace = format!("--namespace={}", right.namespace);
        // A slash would name an object, so a subresource stands behind a colon.
        let (resource, subresource) = right.resource.split_once(':').unwrap_or((right.resource, ""));
        let subresource = format!("--subresource={subresource}");
        let arguments = ["auth", "can-i", right.verb, resource, &subresource, &account, &namespace];
        let answer = String::from_utf8(server.kubectl(&arguments).await?.stdout)?;
        ensure!(
            answer.trim() == if right.allowed { "yes" } else { "no" },
            "{account} {} {} in {}: {answer}",
            right.verb,
            right.resource,
            right.namespace
        );
    }
    Ok(())
}

#[tokio::test]
async fn the_api_server_accepts_every_object_of_every_set_of_values() -> anyhow::Result<()> {
    let server = Server::start().await?;
    for namespace in ["tidemark", "shop", "other-shop"] {
        server.create_namespace(namespace).await?;
    }
    // The Prometheus operator's, as far as it matters here: that there is such a kind.
    let rules = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "prometheusrules.monitoring.coreos.com"},
        "spec": {
            "group": "monitoring.coreos.com", "scope": "Namespaced",
            "names": {"kind": "PrometheusRule", "plural": "prometheusrules"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": {
                    "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                }},
            }}}],
        },
    });
    let output = server.tool("kubectl", &["apply", "-f", "-"], Some(&rules.to_string())).await?;
    printed(&output)?;
    server
        .kubectl_ok(&[
            "wait",
            "--for=condition=Established",
            "--timeout=30s",
            "crd/prometheusrules.monitoring.coreos.com",
        ])
        .await?;
    for entry in std::fs::read_dir(path("charts/tests/values"))? {
        let values = entry?.path().display().to_string();
        let arguments = ["template", "tidemark", &chart(), "--namespace=tidemark", "--values", &values];
        let manifests = helm(&server, &arguments).await?;
        let dry_run = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"];
        let output = server.tool("kubectl", &dry_run, Some(&manifests)).await?;
        let applied = printed(&output).with_context(|| values.clone())?;
        let objects = manifests.lines().filter(|line| line.starts_with("kind: ")).count();
        ensure!(
            objects > 1 && applied.lines().count() == objects,
            "{values}: {objects} objects, but:\n{applied}"
        );
    }
    Ok(())
}

/// Creates a pod of a workload's template in a namespace, without keeping it, and returns what the API server says.
async fn admitted(server: &Server, template: &Value, namespace: &str) -> anyhow::Result<Result<(), String>> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "asked", "namespace": namespace},
        "spec": template["spec"],
    });
    let arguments = ["create", "--dry-run=server", "--validate=strict", "-f", "-"];
    let output = server.tool("kubectl", &arguments, Some(&pod.to_string())).await?;
    Ok(printed(&output).map(drop).map_err(|error| error.to_string()))
}

/// The pod templates of all Deployments among manifests.
fn templates(manifests: &str) -> anyhow::Result<Vec<Value>> {
    let mut found = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(manifests) {
        let object = Value::deserialize(document)?;
        if object["kind"] == "Deployment" {
            found.push(object["spec"]["template"].clone());
        }
    }
    Ok(found)
}

/// The pod templates of the sinks of all shipped examples.
fn sinks() -> anyhow::Result<Vec<Value>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path("crds/generated/examples"))? {
        let text = std::fs::read_to_string(entry?.path())?;
        for document in serde_yaml_ng::Deserializer::from_str(&text) {
            let object = Value::deserialize(document)?;
            if object["kind"] != "AnalyticsPipeline" {
                continue;
            }
            let spec = serde_json::from_value(object["spec"].clone())?;
            let name = PipelineName::new("shop", "shop");
            let input = SinkInput { name: &name, uid: None, image: "tidemark/sink:dev", spec: &spec };
            let paths = Paths::in_container();
            let config = sink_config(&spec, &name, "0badcafe", &[], &paths)
                .map_err(|error| anyhow::anyhow!("the sink of {object}: {error:?}"))?;
            let objects = sink_objects(&input, &config);
            let deployment = objects.iter().find(|object| object["kind"] == "Deployment");
            found.push(deployment.context("a Deployment")?["spec"]["template"].clone());
        }
    }
    Ok(found)
}

/// Restricted Pod Security, which is enforced here by the namespace's label as many clusters do, lets operator and sinks in:
/// as they are, and as a user whom the cluster assigns. OpenShift does that where the pod names none.
#[tokio::test]
async fn restricted_pod_security_lets_operator_and_sinks_in_as_any_user() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "guarded", "labels": labels},
    });
    let api = server.api("v1", "Namespace", None);
    api.patch("guarded", &PatchParams::apply("test"), &Patch::Apply(namespace)).await?;
    let mut all = sinks()?;
    for entry in std::fs::read_dir(path("charts/tests/values"))? {
        let values = entry?.path().display().to_string();
        all.extend(templates(
            &helm(&server, &["template", "tidemark", &chart(), "--values", &values]).await?,
        )?);
    }
    ensure!(all.len() > 6, "only {} templates", all.len());
    for template in &mut all {
        // A priority class of an example need not exist here.
        template["spec"].as_object_mut().context("a pod's spec")?.remove("priorityClassName");
        let as_it_is = admitted(&server, template, "guarded").await?;
        ensure!(as_it_is.is_ok(), "{template:#} is not let in: {as_it_is:?}");
        template["spec"]["securityContext"]["runAsUser"] = json!(1_000_690_000);
        template["spec"]["securityContext"]["fsGroup"] = json!(1_000_690_000);
        let assigned = admitted(&server, template, "guarded").await?;
        ensure!(assigned.is_ok(), "{template:#} is not let in as an assigned user: {assigned:?}");
        template["spec"]["securityContext"]["runAsUser"] = json!(0);
        let root = admitted(&server, template, "guarded").await?;
        let said = root.err().unwrap_or_default();
        ensure!(
            said.contains("violates PodSecurity"),
            "root is let in, or refused for something else: {said}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn the_operator_may_do_what_its_values_say_and_no_more() -> anyhow::Result<()> {
    let server = Server::start().await?;
    for namespace in ["shop", "elsewhere"] {
        server.create_namespace(namespace).await?;
    }
    let install = ["install", "tidemark", &chart(), "--namespace=tidemark", "--create-namespace"];
    helm(&server, &[&install[..], &["--set=watchNamespaces={shop}"]].concat()).await?;
    server.definition_is_served().await?;
    let everywhere = [
        may("watch", "analyticspipelines", "shop"),
        may("patch", "analyticspipelines:status", "shop"),
        may("update", "analyticspipelines:finalizers", "shop"),
        may("list", "secrets", "shop"),
        may("create", "deployments.apps", "shop"),
        may("patch", "networkpolicies.networking.k8s.io", "shop"),
        may("delete", "poddisruptionbudgets.policy", "shop"),
        may("create", "controllerrevisions.apps", "shop"),
        may("create", "events.events.k8s.io", "shop"),
        may("create", "leases.coordination.k8s.io", "tidemark"),
        may("update", "leases.coordination.k8s.io/tidemark", "tidemark"),
        may_not("update", "leases.coordination.k8s.io/another", "tidemark"),
        may("get", "namespaces/kube-system", "default"),
        may_not("get", "namespaces/shop", "default"),
        may_not("create", "analyticspipelines", "shop"),
        may_not("create", "secrets", "shop"),
        may_not("patch", "secrets", "shop"),
        may_not("create", "pods", "shop"),
        may_not("create", "pods:exec", "shop"),
        may_not("create", "roles.rbac.authorization.k8s.io", "shop"),
        may_not("update", "leases.coordination.k8s.io", "shop"),
        may_not("get", "nodes", "default"),
    ];
    check(&server, OPERATOR, &everywhere).await.context("in its namespace")?;
    let outside = [
        may_not("list", "secrets", "elsewhere"),
        may_not("list", "analyticspipelines", "elsewhere"),
        may_not("list", "configmaps", "elsewhere"),
        may_not("create", "deployments.apps", "elsewhere"),
    ];
    check(&server, OPERATOR, &outside).await.context("outside its namespaces")?;

    helm(&server, &["upgrade", "tidemark", &chart(), "--namespace=tidemark", "--reset-values"]).await?;
    check(&server, OPERATOR, &everywhere).await.context("with all namespaces")?;
    let now_inside = [may("list", "secrets", "elsewhere"), may("create", "deployments.apps", "elsewhere")];
    check(&server, OPERATOR, &now_inside).await.context("with all namespaces")?;
    Ok(())
}

/// What an account may in a namespace, as `kubectl auth can-i --list` asks for it: `GROUP/RESOURCE NAME` and its verbs.
async fn rules(
    server: &Server,
    account: &str,
    namespace: &str,
) -> anyhow::Result<BTreeMap<String, BTreeSet<String>>> {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    });
    let account = format!("--as={account}");
    // kubectl would list definitions to check it, which the account may not.
    let arguments = ["create", "--validate=false", "--output=json", &account, "-f", "-"];
    let output = server.tool("kubectl", &arguments, Some(&review.to_string())).await?;
    let answer: Value = serde_json::from_str(&printed(&output)?)?;
    let status = &answer["status"];
    ensure!(status["incomplete"] == false, "not all rules are told: {status}");
    let words = |value: &Value| {
        let words = value.as_array().into_iter().flatten().filter_map(Value::as_str);
        words.map(str::to_owned).collect::<Vec<String>>()
    };
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for rule in status["resourceRules"].as_array().into_iter().flatten() {
        let mut names: Vec<String> =
            words(&rule["resourceNames"]).into_iter().map(|name| format!(" {name}")).collect();
        if names.is_empty() {
            names.push(String::new());
        }
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                for name in &names {
                    let verbs = all.entry(format!("{group}/{resource}{name}")).or_default();
                    verbs.extend(words(&rule["verbs"]));
                }
            }
        }
    }
    for rule in status["nonResourceRules"].as_array().into_iter().flatten() {
        for url in words(&rule["nonResourceURLs"]) {
            all.entry(format!("url {url}")).or_default().extend(words(&rule["verbs"]));
        }
    }
    Ok(all)
}

/// What the operator may in each namespace beyond what any account may, a line a resource.
async fn rights(server: &Server, namespaces: &[&str]) -> anyhow::Result<String> {
    let mut text = String::new();
    for namespace in namespaces {
        let _ = writeln!(text, "in {namespace}:");
        let everybody = rules(server, "system:serviceaccount:tidemark:nobody", namespace).await?;
        for (what, verbs) in rules(server, OPERATOR, namespace).await? {
            let more: Vec<String> = match everybody.get(&what) {
                Some(common) => verbs.difference(common).cloned().collect(),
                None => verbs.into_iter().collect(),
            };
            if !more.is_empty() {
                let _ = writeln!(text, "  {what}: {}", more.join(" "));
            }
        }
    }
    Ok(text)
}

/// All rules that the operator's account has, in all namespaces, in some, and in one without any ClusterRole: each against a file
/// that is looked at when it changes.
#[tokio::test]
async fn the_operators_rights_are_those_that_were_reviewed() -> anyhow::Result<()> {
    const NAMESPACES: [&str; 5] = ["shop", "other-shop", "elsewhere", "tidemark", "kube-system"];
    let server = Server::start().await?;
    for namespace in NAMESPACES {
        server.create_namespace(namespace).await?;
    }
    for values in ["default", "namespaced", "alone"] {
        let file = path(&format!("charts/tests/values/{values}.yaml")).display().to_string();
        let arguments =
            ["upgrade", "--install", "tidemark", &chart(), "--namespace=tidemark", "--reset-values"];
        helm(&server, &[&arguments[..], &["--values", &file]].concat()).await?;
        let golden = format!("e2e/tests/crds/rights/{values}.txt");
        let reviewed = read(&golden)?;
        // The authorizer hears of new roles a moment later.
        wait_until(SOON, &format!("the rights of {golden}"), || async {
            let now = rights(&server, &NAMESPACES).await?;
            ensure!(now == reviewed, "they are, to be written there if they are right:\n{now}");
            Ok(Some(()))
        })
        .await?;
    }
    let alone = read("e2e/tests/crds/rights/alone.txt")?;
    for namespace in ["other-shop", "elsewhere", "kube-system"] {
        let nothing = format!("in {namespace}:\nin ");
        ensure!(
            format!("{alone}in ").contains(&nothing),
            "without a ClusterRole it may something in {namespace}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn definitions_and_pipelines_outlive_the_release_and_move_to_another() -> anyhow::Result<()> {
    let server = Server::start().await?;
    server.create_namespace("shop").await?;
    let install = ["install", "tidemark", &chart(), "--namespace=tidemark", "--create-namespace"];
    let notes = helm(&server, &install).await?;
    ensure!(notes.contains("kubectl apply -f shop.yaml"), "the notes do not say what to do next:\n{notes}");
    server.definition_is_served().await?;
    let minimal = path("crds/generated/examples/minimal.yaml").display().to_string();
    server.kubectl_ok(&["apply", "-f", &minimal]).await?;
    helm(&server, &["uninstall", "tidemark", "--namespace=tidemark"]).await?;
    ensure!(server.pipelines().get_opt("minimal").await?.is_some(), "the pipeline went with the release");
    let again = ["install", "another", &chart(), "--namespace=tidemark", "--take-ownership"];
    helm(&server, &again).await?;
    ensure!(server.pipelines().get_opt("minimal").await?.is_some(), "the pipeline went with the new release");
    Ok(())
}
