//! The sink's Deployment and ConfigMap. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tidemark_crds::names::short_hash;
use tidemark_crds::pipeline::{CertificateAuthority, KeyReference, PodUser};
use tidemark_crds::sink_config::SinkConfig;

use super::sink_config::{CONFIG_FILE, Paths, SASL_USERNAME_FILE, roll_text};
use super::{SinkInput, labels, meta, selector_labels};

/// Annotation of the pod template that changes exactly when pods have to be replaced.
pub const ROLL_ANNOTATION: &str = "tidemark.dev/config-hash";
/// Port of probes and metrics.
pub const PROBE_PORT: i32 = 8080;
/// The C library keeps a heap for each thread that allocates, up to eight a core, and what one has freed no other uses.
/// Two are as fast, and a tenth smaller.
pub const ARENAS: (&str, &str) = ("MALLOC_ARENA_MAX", "2");
/// Seconds that a sink has between SIGTERM and its end, to write and commit what it holds.
const GRACE_SECONDS: i64 = 30;
/// Builds the ConfigMap with the sink's configuration.
pub fn config_map(input: &SinkInput<'_>, config: &SinkConfig) -> core::ConfigMap {
    let mut data = BTreeMap::new();
    let text = serde_json::to_string_pretty(config).expect("a sink configuration is plain data");
    data.insert(CONFIG_FILE.to_owned(), text + "\n");
    if let Some(username) = input.spec.kafka.sasl.as_ref().and_then(|sasl| sasl.credentials.username.clone())
    {
        data.insert(SASL_USERNAME_FILE.to_owned(), username);
    }
    core::ConfigMap { metadata: meta(input, &input.name.sink()), data: Some(data), ..Default::default() }
}

/// Builds the Deployment; only what needs new pods is in its pod template.
pub fn deployment(input: &SinkInput<'_>, config: &SinkConfig) -> Deployment {
    let sink = &input.spec.sink;
    let pod = sink.pod.clone().unwrap_or_default();
    let mut pod_labels = pod.labels;
    pod_labels.extend(labels(input.name));
    let mut annotations = pod.annotations;
    annotations.insert(ROLL_ANNOTATION.to_owned(), short_hash(&roll_text(config)));
    let (volumes, mounts) = volumes(input);
    Deployment {
        metadata: meta(input, &input.name.sink()),
        spec: Some(DeploymentSpec {
            replicas: Some(sink.replicas),
            revision_history_limit: Some(5),
            selector: LabelSelector { match_labels: Some(selector_labels(input.name)), ..Default::default() },
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            template: core::PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(pod_labels),
                    annotations: Some(annotations),
                    ..Default::default()
                }),
                spec: Some(core::PodSpec {
                    service_account_name: Some(input.name.sink()),
                    automount_service_account_token: Some(false),
                    enable_service_links: Some(false),
                    termination_grace_period_seconds: Some(GRACE_SECONDS),
                    security_context: Some(pod_user(&pod.security_context.unwrap_or_default())),
                    containers: vec![container(input, mounts)],
                    volumes: Some(volumes),
                    node_selector: (!pod.node_selector.is_empty()).then_some(pod.node_selector),
                    tolerations: (!pod.tolerations.is_empty()).then_some(pod.tolerations),
                    priority_class_name: pod.priority_class_name,
                    image_pull_secrets: (!pod.image_pull_secrets.is_empty())
                        .then_some(pod.image_pull_secrets),
                    ..Default::default()
                }),
            },
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// No user of ours: where none is named the image's runs, or the one that the cluster assigns to the namespace.
fn pod_user(user: &PodUser) -> core::PodSecurityContext {
    core::PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: user.run_as_user,
        run_as_group: user.run_as_group,
        fs_group: user.fs_group,
        seccomp_profile: Some(core::SeccompProfile { type_: "RuntimeDefault".into(), ..Default::default() }),
        ..Default::default()
    }
}

fn container(input: &SinkInput<'_>, mounts: Vec<core::VolumeMount>) -> core::Container {
    let probe = |path: &str, period: i32, failures: i32| core::Probe {
        http_get: Some(core::HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::String("metrics".into()),
            ..Default::default()
        }),
        period_seconds: Some(period),
        failure_threshold: Some(failures),
        timeout_seconds: Some(3),
        ..Default::default()
    };
    let variable = |name: &str, value: &str| core::EnvVar {
        name: name.into(),
        value: Some(value.into()),
        ..Default::default()
    };
    core::Container {
        name: "sink".into(),
        image: Some(input.image.to_owned()),
        image_pull_policy: Some("IfNotPresent".into()),
        args: Some(vec![
            "run".into(),
            "--config".into(),
            format!("{}/{CONFIG_FILE}", Paths::in_container().config),
        ]),
        env: Some(vec![
            variable(ARENAS.0, ARENAS.1),
            variable("TIDEMARK_LOG_FORMAT", "json"),
            variable("TIDEMARK_LISTEN", &format!("0.0.0.0:{PROBE_PORT}")),
            core::EnvVar {
                name: "TIDEMARK_REPLICA".into(),
                value_from: Some(core::EnvVarSource {
                    field_ref: Some(core::ObjectFieldSelector {
                        api_version: Some("v1".into()),
                        field_path: "metadata.name".into(),
                    }),
                    ..Default::default()
                }),
                ..Default::default()
            },
        ]),
        ports: Some(vec![core::ContainerPort {
            name: Some("metrics".into()),
            container_port: PROBE_PORT,
            protocol: Some("TCP".into()),
            ..Default::default()
        }]),
        resources: input.spec.sink.resources.clone(),
        liveness_probe: Some(probe("/healthz", 10, 6)),
        readiness_probe: Some(probe("/readyz", 2, 3)),
        security_context: Some(core::SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            capabilities: Some(core::Capabilities { drop: Some(vec!["ALL".into()]), ..Default::default() }),
            ..Default::default()
        }),
        volume_mounts: Some(mounts),
        ..Default::default()
    }
}

/// Volumes of the configuration, of each Secret and of the scratch folder, with their mounts.
fn volumes(input: &SinkInput<'_>) -> (Vec<core::Volume>, Vec<core::VolumeMount>) {
    let spec = input.spec;
    let paths = Paths::in_container();
    let mut volumes = vec![
        core::Volume {
            name: "config".into(),
            config_map: Some(core::ConfigMapVolumeSource { name: input.name.sink(), ..Default::default() }),
            ..Default::default()
        },
        core::Volume {
            name: "tmp".into(),
            empty_dir: Some(core::EmptyDirVolumeSource::default()),
            ..Default::default()
        },
        secret_volume(
            "clickhouse",
            &spec.clickhouse.credentials.secret_name,
            &[
                (&spec.clickhouse.credentials.username_key, "username"),
                (&spec.clickhouse.credentials.password_key, "password"),
            ],
        ),
    ];
    if let Some(authority) = spec.clickhouse.tls.as_ref().and_then(|tls| tls.ca.as_ref()) {
        volumes.extend(authority_volume("clickhouse-ca", authority));
    }
    let postgres = &spec.source.postgres;
    volumes.push(secret_volume(
        "postgres",
        &postgres.credentials.secret_name,
        &[(&postgres.credentials.username_key, "username"), (&postgres.credentials.password_key, "password")],
    ));
    if let Some(authority) = &postgres.tls.ca {
        volumes.extend(authority_volume("postgres-ca", authority));
    }
    let connect = &spec.source.connect;
    if let Some(login) = &connect.credentials {
        let items = [(&login.username_key, "username"), (&login.password_key, "password")];
        volumes.push(secret_volume("connect", &login.secret_name, &items));
    }
    if let Some(authority) = connect.tls.as_ref().and_then(|tls| tls.ca.as_ref()) {
        volumes.extend(authority_volume("connect-ca", authority));
    }
    if let Some(tls) = &spec.kafka.tls {
        volumes.extend(tls.ca.as_ref().and_then(|authority| authority_volume("kafka-ca", authority)));
        if let Some(client) = &tls.client_certificate {
            let items = [(&client.certificate_key, "tls.crt"), (&client.private_key_key, "tls.key")];
            volumes.push(secret_volume("kafka-client", &client.secret_name, &items));
        }
    }
    if let Some(sasl) = &spec.kafka.sasl {
        let reference = &sasl.credentials;
        let mut items = vec![(&reference.password_key, "password")];
        if reference.username.is_none() {
            items.push((&reference.username_key, "username"));
        }
        volumes.push(secret_volume("kafka", &reference.secret_name, &items));
    }
    let mounts = volumes
        .iter()
        .map(|volume| core::VolumeMount {
            name: volume.name.clone(),
            mount_path: match volume.name.as_str() {
                "config" => paths.config.clone(),
                "tmp" => "/tmp".to_owned(),
                name => format!("{}/{name}", paths.secrets),
            },
            read_only: (volume.name != "tmp").then_some(true),
            ..Default::default()
        })
        .collect();
    (volumes, mounts)
}

fn secret_volume(name: &str, secret: &str, items: &[(&String, &str)]) -> core::Volume {
    core::Volume {
        name: name.into(),
        secret: Some(core::SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            items: Some(items.iter().map(|(key, path)| item(key, path)).collect()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn authority_volume(name: &str, authority: &CertificateAuthority) -> Option<core::Volume> {
    match (&authority.secret_key_ref, &authority.config_map_key_ref) {
        (Some(KeyReference { name: secret, key }), _) => {
            Some(secret_volume(name, secret, &[(key, "ca.crt")]))
        }
        (None, Some(KeyReference { name: map, key })) => Some(core::Volume {
            name: name.into(),
            config_map: Some(core::ConfigMapVolumeSource {
                name: map.clone(),
                items: Some(vec![item(key, "ca.crt")]),
                ..Default::default()
            }),
            ..Default::default()
        }),
        (None, None) => None,
    }
}

fn item(key: &str, path: &str) -> core::KeyToPath {
    core::KeyToPath { key: key.to_owned(), path: path.to_owned(), mode: None }
}
