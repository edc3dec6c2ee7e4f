//! `kubectl` and `helm` on one cluster, as a user has them. I/O.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::command::{run, run_with_input};
use crate::stack::cache;

/// Time for one call that waits for nothing.
const CALL: Duration = Duration::from_mins(1);

/// The programs, with the cluster's kubeconfig.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    pub(super) fn new(kubeconfig: &Path) -> anyhow::Result<Self> {
        Ok(Self { program: cache::part("tools")?.join("bin/kubectl"), kubeconfig: kubeconfig.to_owned() })
    }

    /// Returns a client with the administrator's rights, on the caller's runtime.
    pub(super) async fn client(&self) -> anyhow::Result<kube::Client> {
        // An error means that the program has chosen one already, which is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let file = kube::config::Kubeconfig::read_from(&self.kubeconfig)?;
        let config =
            kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default()).await?;
        Ok(kube::Client::try_from(config)?)
    }

    /// Returns a `kubectl` command that was not started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(arguments);
        command
    }

    /// Returns a `helm` command that was not started.
    pub(super) fn helm(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(cache::part("tools")?.join("bin/helm"));
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(arguments);
        Ok(command)
    }

    /// Runs `kubectl` and returns what it printed.
    pub async fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        run(self.command(arguments).into(), CALL).await
    }

    /// Runs `kubectl` with a deadline of the caller's: for what waits.
    pub async fn run_for(&self, arguments: &[&str], deadline: Duration) -> anyhow::Result<String> {
        run(self.command(arguments).into(), deadline).await
    }

    /// Applies a manifest by server-side apply.
    pub async fn apply(&self, manifest: &str) -> anyhow::Result<()> {
        let arguments = ["apply", "--server-side", "--filename", "-"];
        run_with_input(self.command(&arguments).into(), manifest, CALL).await?;
        Ok(())
    }

    /// Reads an object, or a list with `kind: List`.
    pub async fn get(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let mut all = vec!["get", "--output=json"];
        all.extend(arguments);
        let text = self.run(&all).await?;
        serde_json::from_str(&text).with_context(|| format!("reading the answer of kubectl {all:?}"))
    }

    /// Returns the names of the pods that a selector finds, without those that are going.
    pub async fn pods(&self, namespace: &str, selector: &str) -> anyhow::Result<Vec<String>> {
        let list = self.get(&["pods", "--namespace", namespace, "--selector", selector]).await?;
        let pods = list["items"].as_array().context("a list of pods")?;
        let there = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        Ok(there.filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned)).collect())
    }

    /// Kills one pod of a selector, as a lost node would: at once and without a word. Returns its name.
    pub async fn kill_pod(&self, namespace: &str, selector: &str) -> anyhow::Result<String> {
        let mut pods = self.pods(namespace, selector).await?;
        ensure!(!pods.is_empty(), "no pod in {namespace} has {selector}");
        let pod = pods.swap_remove(0);
        self.run(&[
            "delete",
            "pod",
            &pod,
            "--namespace",
            namespace,
            "--force",
            "--grace-period=0",
            "--wait=false",
        ])
        .await?;
        Ok(pod)
    }

    /// Waits until a workload, such as `deployment/shop-sink`, has all its pods ready.
    pub async fn rolled_out(
        &self,
        namespace: &str,
        workload: &str,
        deadline: Duration,
    ) -> anyhow::Result<()> {
        let limit = format!("--timeout={}s", deadline.as_secs());
        let arguments = ["rollout", "status", workload, "--namespace", namespace, &limit];
        self.run_for(&arguments, deadline + Duration::from_secs(10)).await?;
        Ok(())
    }
}
