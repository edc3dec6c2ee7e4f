//! A file with a pipeline and the Secrets and ConfigMaps that it names. I/O: reads the file.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};
use base64::Engine as _;
use serde::Deserialize;
use serde_json::Value;
use tidemark_crds::names::PipelineName;
use tidemark_crds::pipeline::AnalyticsPipeline;

use super::FileArgs;
use crate::credentials::{Holder, References};

/// A pipeline with everything that it refers to.
#[derive(Debug)]
pub struct Bundle {
    /// The pipeline, with the endpoints that were given.
    pub pipeline: AnalyticsPipeline,
    /// Namespace and name.
    pub name: PipelineName,
    /// Secrets and ConfigMaps of the file.
    pub references: References,
}

/// Reads the file and puts the given endpoints in place.
pub fn read(args: &FileArgs) -> anyhow::Result<Bundle> {
    let text = std::fs::read_to_string(&args.file)
        .with_context(|| format!("{} cannot be read", args.file.display()))?;
    let mut bundle = parse(&text, &args.file)?;
    for endpoint in &args.endpoints {
        override_endpoint(&mut bundle.pipeline, endpoint)?;
    }
    Ok(bundle)
}

fn parse(text: &str, file: &Path) -> anyhow::Result<Bundle> {
    let mut pipeline = None;
    let mut references = References::default();
    for document in serde_yaml_ng::Deserializer::from_str(text) {
        let value =
            Value::deserialize(document).with_context(|| format!("{} is not valid YAML", file.display()))?;
        let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        match value["kind"].as_str() {
            Some("AnalyticsPipeline") if pipeline.is_some() => {
                bail!("{} has more than one AnalyticsPipeline: use one file each", file.display())
            }
            Some("AnalyticsPipeline") => {
                let read: AnalyticsPipeline = serde_json::from_value(value)
                    .with_context(|| format!("AnalyticsPipeline {name} in {}", file.display()))?;
                pipeline = Some(read);
            }
            Some("Secret") => references.insert(Holder::Secret, name, secret_data(&value)?),
            Some("ConfigMap") => references.insert(Holder::ConfigMap, name, texts(&value["data"])),
            _ => {}
        }
    }
    let Some(pipeline) = pipeline else { bail!("{} has no AnalyticsPipeline", file.display()) };
    let namespace = pipeline.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let name = PipelineName::new(namespace, pipeline.metadata.name.clone().unwrap_or_default());
    Ok(Bundle { pipeline, name, references })
}

fn texts(value: &Value) -> BTreeMap<String, String> {
    let pairs = value.as_object().into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

fn secret_data(secret: &Value) -> anyhow::Result<BTreeMap<String, String>> {
    let mut data = BTreeMap::new();
    for (key, text) in texts(&secret["data"]) {
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(text.trim())
            .with_context(|| format!("key {key} of a Secret is not base64: use stringData for plain text"))?;
        data.insert(key, String::from_utf8_lossy(&bytes).into_owned());
    }
    data.extend(texts(&secret["stringData"]));
    Ok(data)
}

fn override_endpoint(pipeline: &mut AnalyticsPipeline, endpoint: &str) -> anyhow::Result<()> {
    let spec = &mut pipeline.spec;
    match endpoint.split_once('=') {
        Some(("postgres", address)) => {
            let (host, port) = address.rsplit_once(':').context("--endpoint postgres=HOST:PORT")?;
            host.clone_into(&mut spec.source.postgres.host);
            spec.source.postgres.port = port.parse().context("--endpoint postgres=HOST:PORT")?;
        }
        Some(("kafka", address)) => address.clone_into(&mut spec.kafka.bootstrap_servers),
        Some(("connect", url)) => url.clone_into(&mut spec.source.connect.url),
        Some(("clickhouse", url)) => url.clone_into(&mut spec.clickhouse.url),
        Some(("grafana", url)) => {
            url.clone_into(
                spec.grafana
                    .as_mut()
                    .and_then(|part| part.url.as_mut())
                    .context("--endpoint grafana=URL needs spec.grafana.url")?,
            );
        }
        _ => bail!(
            "--endpoint {endpoint}: write postgres=HOST:PORT, kafka=HOST:PORT, connect=URL, clickhouse=URL or grafana=URL"
        ),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_encoded_and_plain() {
        let secret = serde_json::json!({"data": {"a": "aGk="}, "stringData": {"b": "hello"}});
        let data = secret_data(&secret).unwrap();
        assert_eq!((data["a"].as_str(), data["b"].as_str()), ("hi", "hello"));
    }
}
