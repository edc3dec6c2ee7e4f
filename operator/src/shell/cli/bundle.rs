//! A file with a pipeline and the Secrets and ConfigMaps that it names. I/O: reads the file.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidemark_crds::names::PipelineName;
use tidemark_crds::pipeline::{AnalyticsPipeline, AnalyticsPipelineSpec};

use super::FileArgs;
use crate::core::admission;
use crate::core::credentials::{Holder, References};
use crate::core::validate::{Invalid, problems};

/// A pipeline with everything that it refers to.
#[derive(Debug)]
pub struct Bundle {
    /// The pipeline, with the endpoints that were given.
    pub pipeline: AnalyticsPipeline,
    /// The pipeline as the file has it.
    pub manifest: Value,
    /// The spec as the file has it.
    pub written: AnalyticsPipelineSpec,
    /// Namespace and name.
    pub name: PipelineName,
    /// Secrets and ConfigMaps of the file.
    pub references: References,
}

/// Something that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Kind and name of the object, or the file itself.
    pub object: String,
    /// Its field; empty: all of it.
    pub field: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { object, field, problem } = self;
        if field.is_empty() {
            write!(f, "{object}: {problem}")
        } else {
            write!(f, "{object}: {field}: {problem}")
        }
    }
}

/// All that is wrong with a file; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// One fault.
    pub fn one(object: impl Into<String>, field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self(vec![Fault { object: object.into(), field: field.into(), problem: problem.into() }])
    }

    /// What is wrong with the pipeline's resource; none where nothing is.
    pub fn of_pipeline(name: &str, found: Vec<Invalid>) -> Result<(), Self> {
        let object = format!("AnalyticsPipeline {name}");
        let fault = |Invalid { field, problem }| Fault { object: object.clone(), field, problem };
        let faults: Vec<Fault> = found.into_iter().map(fault).collect();
        if faults.is_empty() { Ok(()) } else { Err(Self(faults)) }
    }
}

/// Reads the file and puts the given endpoints in place.
pub fn read(args: &FileArgs) -> Result<Bundle, Faults> {
    let mut bundle = parse(&text(&args.file)?, &args.file, |_| Vec::new())?;
    override_endpoints(&mut bundle.pipeline, &args.endpoints)?;
    Ok(bundle)
}

/// Reads the file as the API server would: one that breaks the schema, or a rule between fields, is refused with all that
/// is wrong.
pub fn read_as_applied(args: &FileArgs) -> Result<Bundle, Faults> {
    let mut bundle = parse(&text(&args.file)?, &args.file, |manifest| admission::check(manifest, None))?;
    override_endpoints(&mut bundle.pipeline, &args.endpoints)?;
    Faults::of_pipeline(&bundle.name.name, problems(&bundle.pipeline.spec))?;
    Ok(bundle)
}

fn text(file: &Path) -> Result<String, Faults> {
    let unread = |error| Faults::one(file.display().to_string(), "", format!("it cannot be read: {error}"));
    std::fs::read_to_string(file).map_err(unread)
}

/// Reads all documents, and goes on behind one that is wrong.
fn parse(text: &str, file: &Path, check: impl Fn(&Value) -> Vec<Invalid>) -> Result<Bundle, Faults> {
    let mut pipelines = Vec::new();
    let mut references = References::default();
    let mut faults = Vec::new();
    let file = file.display().to_string();
    for document in serde_yaml_ng::Deserializer::from_str(text) {
        let value = match Value::deserialize(document) {
            Ok(value) => value,
            Err(error) => {
                // What follows cannot be told apart from it.
                faults.extend(Faults::one(file.as_str(), "", format!("it is not valid YAML: {error}")).0);
                break;
            }
        };
        let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        match value["kind"].as_str() {
            Some("AnalyticsPipeline") => pipelines.push((name, value)),
            Some("Secret") => match secret_data(&name, &value) {
                Ok(data) => references.insert(Holder::Secret, name, data),
                Err(wrong) => faults.extend(wrong.0),
            },
            Some("ConfigMap") => references.insert(Holder::ConfigMap, name, texts(&value["data"])),
            _ => {}
        }
    }
    let mut all = pipelines.into_iter();
    let (first, others) = (all.next(), all.len());
    if others > 0 {
        faults.extend(
            Faults::one(file.as_str(), "", "it has more than one AnalyticsPipeline: use one file each").0,
        );
    }
    let Some((name, manifest)) = first else {
        if faults.is_empty() {
            faults.extend(
                Faults::one(file, "", "it has no AnalyticsPipeline: add one, with kind and metadata").0,
            );
        }
        return Err(Faults(faults));
    };
    faults.extend(Faults::of_pipeline(&name, check(&manifest)).err().into_iter().flat_map(|wrong| wrong.0));
    if !faults.is_empty() {
        return Err(Faults(faults));
    }
    let pipeline: AnalyticsPipeline = serde_json::from_value(manifest.clone())
        .map_err(|error| Faults::one(format!("AnalyticsPipeline {name}"), "", error.to_string()))?;
    let namespace = pipeline.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let written = pipeline.spec.clone();
    Ok(Bundle { pipeline, manifest, written, name: PipelineName::new(namespace, name), references })
}

fn texts(value: &Value) -> BTreeMap<String, String> {
    let pairs = value.as_object().into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

fn secret_data(name: &str, secret: &Value) -> Result<BTreeMap<String, String>, Faults> {
    let mut data = BTreeMap::new();
    for (key, text) in texts(&secret["data"]) {
        let bytes = base64::engine::general_purpose::STANDARD.decode(text.trim()).map_err(|_| {
            let problem = "it is not base64: encode it, or use stringData for plain text";
            Faults::one(format!("Secret {name}"), format!("data.{key}"), problem)
        })?;
        data.insert(key, String::from_utf8_lossy(&bytes).into_owned());
    }
    data.extend(texts(&secret["stringData"]));
    Ok(data)
}

/// Puts addresses in the place of the spec's: from here a system may have another one than from the cluster.
pub fn override_endpoints(pipeline: &mut AnalyticsPipeline, endpoints: &[String]) -> Result<(), Faults> {
    endpoints.iter().try_for_each(|endpoint| override_endpoint(pipeline, endpoint))
}

fn override_endpoint(pipeline: &mut AnalyticsPipeline, endpoint: &str) -> Result<(), Faults> {
    let spec = &mut pipeline.spec;
    let wrong = |problem: &str| Faults::one(format!("--endpoint {endpoint}"), "", problem);
    match endpoint.split_once('=') {
        Some(("postgres", address)) => {
            let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
            let (host, port) = parts.ok_or_else(|| wrong("write postgres=HOST:PORT"))?;
            host.clone_into(&mut spec.source.postgres.host);
            spec.source.postgres.port = port;
        }
        Some(("kafka", address)) => address.clone_into(&mut spec.kafka.bootstrap_servers),
        Some(("connect", url)) => url.clone_into(&mut spec.source.connect.url),
        Some(("clickhouse", url)) => url.clone_into(&mut spec.clickhouse.url),
        Some(("grafana", url)) => {
            let known = spec.grafana.as_mut().and_then(|part| part.url.as_mut());
            url.clone_into(known.ok_or_else(|| wrong("it needs spec.grafana.url"))?);
        }
        _ => {
            return Err(wrong(
                "write postgres=HOST:PORT, kafka=HOST:PORT, connect=URL, clickhouse=URL or grafana=URL",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_encoded_and_plain() {
        let secret = serde_json::json!({"data": {"a": "aGk="}, "stringData": {"b": "hello"}});
        let data = secret_data("s", &secret).unwrap();
        assert_eq!((data["a"].as_str(), data["b"].as_str()), ("hi", "hello"));
    }

    const MINIMAL: &str = include_str!("../../../../crds/generated/examples/minimal.yaml");

    fn faults(text: &str) -> String {
        let check = |manifest: &Value| admission::check(manifest, None);
        let faults = parse(text, Path::new("shop.yaml"), check).map(|_| ()).unwrap_err();
        faults.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn all_that_is_wrong_with_a_file_is_named_by_object_and_field() {
        let secret = "---\nkind: Secret\nmetadata: {name: pg}\ndata: {password: plain}\n";
        let wrong = MINIMAL.replace("topicPrefix:", "topicsPrefix:");
        insta::assert_snapshot!(faults(&format!("{wrong}\n{secret}")), @r#"
        Secret pg: data.password: it is not base64: encode it, or use stringData for plain text
        AnalyticsPipeline minimal: spec.kafka.topicPrefix: Required value: add it (Prefix of all topics of this pipeline; immutable)
        AnalyticsPipeline minimal: spec.kafka.topicsPrefix: unknown field: did you mean "topicPrefix"?
        "#);
        insta::assert_snapshot!(faults(&format!("{MINIMAL}\n---\n{MINIMAL}")), @"shop.yaml: it has more than one AnalyticsPipeline: use one file each");
        insta::assert_snapshot!(faults("kind: ConfigMap\n---\n- {a: [}\n"), @"shop.yaml: it is not valid YAML: did not find expected node content at line 3 column 8, while parsing a flow node");
        insta::assert_snapshot!(faults("kind: ConfigMap"), @"shop.yaml: it has no AnalyticsPipeline: add one, with kind and metadata");
    }

    #[test]
    fn an_endpoint_takes_the_place_of_the_specs() {
        let mut pipeline: AnalyticsPipeline = serde_yaml_ng::from_str(MINIMAL).unwrap();
        let given = ["postgres=[::1]:15432", "clickhouse=http://127.0.0.1:8123"].map(str::to_owned);
        override_endpoints(&mut pipeline, &given).unwrap();
        let source = &pipeline.spec.source.postgres;
        assert_eq!((source.host.as_str(), source.port), ("[::1]", 15432));
        assert_eq!(pipeline.spec.clickhouse.url, "http://127.0.0.1:8123");
        for wrong in ["postgres=pg", "grafana=http://g:3000", "redis=a", "kafka"] {
            let error = override_endpoints(&mut pipeline, &[wrong.to_owned()]).unwrap_err();
            assert!(error.to_string().starts_with("--endpoint "), "{error}");
        }
    }
}
