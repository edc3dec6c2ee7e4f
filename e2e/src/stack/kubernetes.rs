//! Kubernetes without nodes: etcd and kube-apiserver. Objects are stored, validated and watched; no pod runs.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::cache;
use super::component::Component;
use super::http;
use super::ports::Port;
use super::process::{Process, Program, Signal};

/// The bearer token of the cluster's administrator.
const ADMIN_TOKEN: &str = "tidemark-admin";

/// etcd of the stack.
#[derive(Debug)]
pub struct Etcd {
    process: Process,
    client: Port,
    /// Reserved as long as etcd, whose flags name it.
    _peer: Port,
}

impl Etcd {
    /// Prepares etcd with an empty data folder.
    pub(super) fn prepare(stack: &Path) -> anyhow::Result<Self> {
        let (client, peer) = (Port::reserve()?, Port::reserve()?);
        let (client_url, peer_url) = (loopback(&client), loopback(&peer));
        let command = vec![
            tool("etcd")?.into(),
            "--name=tidemark".into(),
            format!("--data-dir={}", stack.join("etcd").display()).into(),
            format!("--listen-client-urls={client_url}").into(),
            format!("--advertise-client-urls={client_url}").into(),
            format!("--listen-peer-urls={peer_url}").into(),
            format!("--initial-advertise-peer-urls={peer_url}").into(),
            format!("--initial-cluster=tidemark={peer_url}").into(),
            // The data does not outlive the stack.
            "--unsafe-no-fsync".into(),
            "--log-level=warn".into(),
        ];
        let program =
            Program { name: "etcd", command, environment: vec![], stop: Signal::Term, end: Signal::Kill };
        Ok(Self { process: Process::new(stack, program), client, _peer: peer })
    }

    fn url(&self) -> String {
        loopback(&self.client)
    }
}

impl Component for Etcd {
    fn process(&self) -> &Process {
        &self.process
    }

    async fn probe(&self) -> anyhow::Result<()> {
        let client = http::client(Duration::from_secs(5)).build()?;
        client.get(format!("{}/health", self.url())).send().await?.error_for_status()?;
        Ok(())
    }

    fn advice(&self) -> &'static str {
        "it is one of the programs that e2e/setup/tools.sh builds"
    }
}

/// kube-apiserver of the stack.
#[derive(Debug)]
pub struct ApiServer {
    process: Process,
    port: Port,
    folder: PathBuf,
}

impl ApiServer {
    /// Makes the keys, the administrator's token and the kubeconfig.
    pub(super) fn prepare(stack: &Path, etcd: &Etcd) -> anyhow::Result<Self> {
        let port = Port::reserve()?;
        let folder = stack.join("kubernetes");
        fs::create_dir(&folder)?;
        let (private, public) = (folder.join("service-account.key"), folder.join("service-account.pub"));
        let generate = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
        openssl(&generate.map(OsString::from), &private)?;
        openssl(&["pkey".into(), "-in".into(), private.clone().into(), "-pubout".into()], &public)?;
        let tokens = folder.join("tokens.csv");
        fs::write(&tokens, format!("{ADMIN_TOKEN},admin,admin,system:masters\n"))?;
        let flag = |name: &str, value: &dyn std::fmt::Display| OsString::from(format!("--{name}={value}"));
        let command = vec![
            tool("kube-apiserver")?.into(),
            flag("etcd-servers", &etcd.url()),
            flag("bind-address", &"127.0.0.1"),
            flag("secure-port", &port.number()),
            flag("cert-dir", &folder.display()),
            flag("token-auth-file", &tokens.display()),
            flag("authorization-mode", &"RBAC"),
            flag("service-cluster-ip-range", &"10.96.0.0/16"),
            flag("service-account-issuer", &"https://kubernetes.default.svc"),
            // The public half: an EC key in PKCS#8 is refused here.
            flag("service-account-key-file", &public.display()),
            flag("service-account-signing-key-file", &private.display()),
            flag("endpoint-reconciler-type", &"none"),
            // No controller makes the default service accounts here.
            flag("disable-admission-plugins", &"ServiceAccount"),
        ];
        let program = Program {
            name: "kube-apiserver",
            command,
            environment: vec![],
            stop: Signal::Term,
            end: Signal::Kill,
        };
        let server = Self { process: Process::new(stack, program), port, folder };
        fs::write(server.kubeconfig(), server.kubeconfig_text())?;
        Ok(server)
    }

    /// Returns the server's URL.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port.number())
    }

    /// Returns the administrator's kubeconfig file.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig.yaml")
    }

    /// Returns a client with the administrator's rights, on the caller's runtime.
    pub async fn client(&self) -> anyhow::Result<kube::Client> {
        http::install_crypto();
        let file = kube::config::Kubeconfig::read_from(self.kubeconfig())?;
        let config =
            kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default()).await?;
        Ok(kube::Client::try_from(config)?)
    }

    fn kubeconfig_text(&self) -> String {
        // The server signs its own certificate at the first start.
        let authority = self.folder.join("apiserver.crt");
        format!(
            "apiVersion: v1
kind: Config
current-context: tidemark
clusters:
  - name: tidemark
    cluster: {{server: \"{}\", certificate-authority: \"{}\"}}
users:
  - name: admin
    user: {{token: {ADMIN_TOKEN}}}
contexts:
  - name: tidemark
    context: {{cluster: tidemark, user: admin}}
",
            self.url(),
            authority.display()
        )
    }
}

impl Component for ApiServer {
    fn process(&self) -> &Process {
        &self.process
    }

    async fn probe(&self) -> anyhow::Result<()> {
        let authority =
            fs::read(self.folder.join("apiserver.crt")).context("the server has no certificate yet")?;
        let client = http::client(Duration::from_secs(5))
            .tls_certs_only([reqwest::Certificate::from_pem(&authority)?])
            .build()?;
        let answer = client.get(format!("{}/readyz", self.url())).bearer_auth(ADMIN_TOKEN).send().await?;
        let status = answer.status();
        ensure!(status.is_success(), "/readyz: {status}: {}", answer.text().await?);
        Ok(())
    }

    fn advice(&self) -> &'static str {
        "it is one of the programs that e2e/setup/tools.sh builds, and needs a running etcd"
    }
}

fn loopback(port: &Port) -> String {
    format!("http://127.0.0.1:{}", port.number())
}

fn tool(name: &str) -> anyhow::Result<PathBuf> {
    Ok(cache::part("tools")?.join("bin").join(name))
}

/// Runs openssl and keeps what it prints in a file.
fn openssl(arguments: &[OsString], output: &Path) -> anyhow::Result<()> {
    let made = Command::new("openssl").args(arguments).output().context("running openssl")?;
    ensure!(made.status.success(), "openssl failed: {}", String::from_utf8_lossy(&made.stderr));
    fs::write(output, made.stdout).with_context(|| format!("writing {}", output.display()))
}
