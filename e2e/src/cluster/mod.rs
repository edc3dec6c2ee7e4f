//! A kind cluster with the real components as pods, for the end-to-end tests.
//!
//! The cluster, its images and its manifests are the demo's: this only runs `e2e/kind/cluster`,
//! `e2e/kind/components` and `e2e/images/tidemark`, and installs the chart as a user would. A cluster goes when
//! its value is dropped; a test binary that panics, is interrupted or killed leaves none (see [`janitor`]). I/O.

mod addresses;
mod command;
mod janitor;
mod kafka;
mod kubectl;
mod pipeline;
mod silence;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use tokio::process::Command;

pub use self::addresses::Addresses;
pub use self::kafka::Kafka;
pub use self::kubectl::Kubectl;
pub use self::pipeline::{Pipeline, example};
pub use self::silence::{Footprint, Writes};

use self::command::{run, script};
use self::janitor::Janitor;
use crate::chain::program;
use crate::stack::cache;

/// Namespace of the components, and of the shop's pipeline.
pub const SHOP: &str = "shop";
/// Namespace and release of the operator.
pub const OPERATOR: &str = "tidemark";

/// A user that no image knows of.
pub const ASSIGNED_USER: i64 = 1_000_690_000;

/// Time for the node, the components or the images: minutes on a busy machine.
const LONG: Duration = Duration::from_mins(10);

/// A running cluster with the components and the operator.
pub struct Cluster {
    name: String,
    kubectl: Kubectl,
    addresses: Addresses,
    client: kube::Client,
    /// Last, so that everything else is gone when the cluster goes.
    _janitor: Option<Janitor>,
}

impl Cluster {
    /// Upgrades the operator's release, with further arguments for helm such as `--set`.
    pub async fn upgrade(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let mut helm = Command::from(self.kubectl().helm(&["upgrade", OPERATOR])?);
        chart(&mut helm);
        helm.args(arguments);
        run(helm, LONG).await.context("upgrading the chart").map(drop)
    }

    /// Makes a cluster, starts the components in namespace [`SHOP`] and installs the chart with images of the
    /// programs beside this one.
    ///
    /// With `TIDEMARK_KEEP_CLUSTER=1` it stays when the value is dropped.
    pub async fn up(name: &str) -> anyhow::Result<Self> {
        let keep = std::env::var_os("TIDEMARK_KEEP_CLUSTER").is_some();
        let janitor = (!keep).then(|| Janitor::start(name)).transpose()?;
        let images = image_folder(name)?;
        let made = tokio::try_join!(run(script("kind/cluster", ["up", name]), LONG), make_images(&images),);
        made.context("making the cluster and the images")?;
        let kubeconfig = run(script("kind/cluster", ["kubeconfig", name]), LONG).await?;
        let kubectl = Kubectl::new(Path::new(kubeconfig.trim()))?;
        tokio::try_join!(
            run(script("kind/components", ["up", name, SHOP]), LONG),
            install(name, &images, &kubectl),
        )
        .context("starting the components and the operator")?;
        let addresses = run(script("kind/components", ["addresses", name]), LONG).await?;
        Ok(Self {
            name: name.to_owned(),
            client: kubectl.client().await?,
            kubectl,
            addresses: Addresses::parse(&addresses)?,
            _janitor: janitor,
        })
    }

    /// Returns the way to the API server by `kubectl`.
    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// Returns a client of the API server with the administrator's rights.
    pub fn kube(&self) -> kube::Client {
        self.client.clone()
    }

    /// Returns the address at which pods reach this machine.
    pub async fn gateway(&self) -> anyhow::Result<IpAddr> {
        let address = run(script("kind/cluster", ["gateway", &self.name]), LONG).await?;
        address.trim().parse().with_context(|| format!("the gateway is {address:?}"))
    }

    /// Returns the components as they are reached from beside the cluster.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Saves logs of all pods, the state of all objects and the events into `target/reports/cluster-logs`, and
    /// returns the folder. What cannot be read is left out.
    pub fn save_logs(&self) -> PathBuf {
        save_logs(&self.name, &self.kubectl)
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Cluster").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.save_logs();
        }
    }
}

fn save_logs(name: &str, kubectl: &Kubectl) -> PathBuf {
    let folder = cache::e2e_folder().join("../target/reports/cluster-logs");
    // A report of an earlier run would be taken for this one's.
    let _ = std::fs::remove_dir_all(&folder);
    if std::fs::create_dir_all(&folder).is_err() {
        return folder;
    }
    let state = [
        ("pods.txt", vec!["get", "pods", "--all-namespaces", "--output=wide"]),
        ("pipelines.yaml", vec!["get", "analyticspipelines", "--all-namespaces", "--output=yaml"]),
        ("events.txt", vec!["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"]),
        (
            "operator.log",
            vec!["logs", "--namespace", OPERATOR, "--selector=app.kubernetes.io/name=tidemark", "--tail=-1"],
        ),
        (
            "sinks.log",
            vec![
                "logs",
                "--namespace",
                SHOP,
                "--selector=app.kubernetes.io/component=sink",
                "--tail=-1",
                "--prefix",
            ],
        ),
    ];
    for (file, arguments) in state {
        // The report is of a failure: one more must not hide it.
        let output = kubectl.command(&arguments).output();
        let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
        let _ = std::fs::write(folder.join(file), text);
    }
    let mut logs = std::process::Command::new(cache::e2e_folder().join("kind/cluster"));
    logs.args(["logs", name]).arg(folder.join("node")).stdin(Stdio::null()).stdout(Stdio::null());
    let _ = logs.stderr(Stdio::null()).status();
    folder
}

/// The images' archives stay in the cache: a killed run leaves nothing that the next one does not replace.
fn image_folder(cluster: &str) -> anyhow::Result<PathBuf> {
    let folder = cache::folder()?.join("run").join(format!("images-{cluster}"));
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}

async fn make_images(folder: &Path) -> anyhow::Result<String> {
    let mut command = script("images/tidemark", [folder]);
    command.args([program("tidemark")?, program("tidemark-sink")?]);
    run(command, LONG).await.context("making the images of operator and sink")
}

/// A namespace that lets in only what restricted Pod Security allows.
fn restricted(namespace: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": namespace, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    })
}

fn chart(command: &mut Command) {
    command.arg(cache::e2e_folder().join("../charts/tidemark"));
    command.args(["--namespace", OPERATOR, "--wait", "--timeout=180s"]);
    command.args(["--set=image.tag=dev", "--set=sink.image.tag=dev"]);
    // A user that no image knows, as OpenShift assigns one.
    command.arg(format!("--set=podSecurityContext.runAsUser={ASSIGNED_USER}"));
}

async fn install(name: &str, images: &Path, kubectl: &Kubectl) -> anyhow::Result<String> {
    let mut load = script("kind/cluster", ["load", name]);
    load.args([images.join("operator.tar"), images.join("sink.tar")]);
    run(load, LONG).await.context("loading the images")?;
    kubectl.apply(&restricted(OPERATOR).to_string()).await.context("making the operator's namespace")?;
    let mut helm = Command::from(kubectl.helm(&["install", OPERATOR])?);
    chart(&mut helm);
    run(helm, LONG).await.context("installing the chart")
}
