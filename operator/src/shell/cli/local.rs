//! A pipeline without a cluster: a folder in place of Kubernetes, the same waves. I/O.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use tidemark_crds::pipeline::AnalyticsPipelineSpec;
use tidemark_crds::status::AnalyticsPipelineStatus;
use tidemark_runtime::shell::Shutdown;

use super::bundle::{self, Bundle};
use super::print;
use super::{ApplyArgs, CLUSTER, FileArgs, LocalArgs};
use crate::core::credentials::{Resolved, resolve};
use crate::core::desired::sink_config::{CONFIG_FILE, Paths, SASL_USERNAME_FILE};
use crate::core::step::Step;
use crate::core::validate::validate;
use crate::edge::kubernetes::objects::{ObjectStore, file};
use crate::shell::config::DEFAULT_SINK_IMAGE;
use crate::shell::engine::{Engine, Input, Report};
use crate::shell::leader::Term;
use crate::shell::reconcile::Mode;

/// Time in which an apply without `--wait` has to come to rest.
const SETTLE: Duration = Duration::from_secs(90);
const FAST: Duration = Duration::from_secs(1);
const SLOW: Duration = Duration::from_secs(3);

/// File of the folder with the word that stands in marks in place of a cluster's uid: each folder has its own, or two
/// people with one file would keep, and remove, each other's pipeline. It stays behind a deletion: what the policy keeps
/// is the folder's.
const OWNER: &str = "owner";

/// Reads whose objects a folder's pipeline makes; `None`: it has made none.
///
/// # Errors
/// The file is there and cannot be read, or is none that was written here: what is whose is not known then.
pub(super) fn owner_in(out: &Path) -> anyhow::Result<Option<String>> {
    let path = out.join(OWNER);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
    };
    let owner = text.trim();
    let number = owner.strip_prefix(CLUSTER).and_then(|rest| rest.strip_prefix('-'));
    anyhow::ensure!(
        number.is_some_and(|number| u32::from_str_radix(number, 16).is_ok()),
        "{}: {owner:?} is no owner of a pipeline: put the file back as it was, or take another folder",
        path.display()
    );
    Ok(Some(owner.to_owned()))
}

/// The folder of one pipeline.
struct Local {
    args: FileArgs,
    bundle: Bundle,
    generation: i64,
    /// Why the file as it is now does not run.
    invalid: Option<String>,
    out: PathBuf,
    /// Whose objects it makes: the folder's.
    owner: String,
    paths: Paths,
    engine: Engine,
    before: AnalyticsPipelineStatus,
}

impl Local {
    fn open(args: &FileArgs, out: &Path) -> anyhow::Result<Self> {
        let bundle = bundle::read(args)?;
        validate(&bundle.pipeline.spec)?;
        let args = args.clone();
        fs::create_dir_all(out).with_context(|| format!("folder {} cannot be made", out.display()))?;
        let out = out.canonicalize()?;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let paths = Paths { config: text(&out), secrets: text(&out.join("secrets")) };
        let before = match fs::read_to_string(out.join("status.yaml")) {
            Ok(text) => serde_yaml_ng::from_str(&text).unwrap_or_default(),
            Err(_) => AnalyticsPipelineStatus::default(),
        };
        let generation = before.observed_generation.unwrap_or(1);
        let owner = if let Some(owner) = owner_in(&out)? {
            owner
        } else {
            let owner = format!("{CLUSTER}-{:08x}", rand::random::<u32>());
            write_if_changed(&out.join(OWNER), &format!("{owner}\n"), 0o644)?;
            owner
        };
        let engine = Engine::default();
        Ok(Self { args, bundle, generation, invalid: None, out, owner, paths, engine, before })
    }

    /// Reads the file again; one that cannot be carried out leaves the last good one running.
    fn reload(&mut self) {
        let read = bundle::read(&self.args).map_err(anyhow::Error::from).and_then(|bundle| {
            validate(&bundle.pipeline.spec)?;
            Ok(bundle)
        });
        match read {
            Ok(bundle) => {
                self.generation += i64::from(bundle.pipeline.spec != self.bundle.pipeline.spec);
                self.bundle = bundle;
                self.invalid = None;
            }
            Err(error) => self.invalid = Some(format!("{error:#}")),
        }
    }

    fn spec(&self) -> &AnalyticsPipelineSpec {
        &self.bundle.pipeline.spec
    }

    async fn run(&mut self, mode: Mode) -> anyhow::Result<Report> {
        let annotations = self.bundle.pipeline.metadata.annotations.clone().unwrap_or_default();
        let manifests = self.out.join("manifests");
        let input = Input {
            name: &self.bundle.name,
            uid: None,
            generation: self.generation,
            spec: self.spec(),
            addresses: self.spec(),
            invalid: self.invalid.as_deref(),
            annotations: &annotations,
            references: &self.bundle.references,
            objects: ObjectStore::Folder(manifests.clone()),
            cluster: &self.owner,
            paths: &self.paths,
            image: DEFAULT_SINK_IMAGE,
            created: None,
            neighbours: &[],
            before: &self.before,
            term: &Term::without_end(),
            mode,
        };
        let progress = |number: u32, steps: &[&Step]| print::wave(number, steps);
        let report = Box::pin(self.engine.run(&input, &progress)).await;
        self.write_sink_files(&manifests)?;
        let status = serde_yaml_ng::to_string(&report.status)?;
        write_if_changed(&self.out.join("status.yaml"), &status, 0o644)?;
        self.before.clone_from(&report.status);
        Ok(report)
    }

    /// Takes the sink's files out of the ConfigMap's manifest, where they change with it.
    fn write_sink_files(&self, manifests: &Path) -> anyhow::Result<()> {
        let manifest = file(manifests, "ConfigMap", &self.bundle.name.sink());
        let Ok(text) = fs::read_to_string(manifest) else {
            return Ok(());
        };
        let map: serde_json::Value = serde_yaml_ng::from_str(&text)?;
        for name in [CONFIG_FILE, SASL_USERNAME_FILE] {
            if let Some(text) = map["data"][name].as_str() {
                write_if_changed(&self.out.join(name), text, 0o644)?;
            }
        }
        Ok(())
    }

    /// Writes what Kubernetes would mount into the sink, readable by nobody else.
    fn write_secrets(&self) -> anyhow::Result<()> {
        let resolved: Resolved = resolve(self.spec(), &self.bundle.references);
        let folder = self.out.join("secrets");
        let write = |name: &str, text: &str| write_if_changed(&folder.join(name), text, 0o600);
        if let Ok(account) = &resolved.clickhouse {
            write("clickhouse/username", &account.credentials.username)?;
            write("clickhouse/password", account.credentials.password.expose())?;
            if let Some(ca) = &account.ca {
                write("clickhouse-ca/ca.crt", ca)?;
            }
        }
        if let Ok(account) = &resolved.postgres {
            write("postgres/username", &account.credentials.username)?;
            write("postgres/password", account.credentials.password.expose())?;
            if let Some(ca) = &account.ca {
                write("postgres-ca/ca.crt", ca)?;
            }
        }
        if let Ok(kafka) = &resolved.kafka {
            if let Some(sasl) = &kafka.sasl {
                write("kafka/username", &sasl.credentials.username)?;
                write("kafka/password", sasl.credentials.password.expose())?;
            }
            if let Some(tls) = &kafka.tls {
                for (name, pem) in [("kafka-ca/ca.crt", &tls.ca), ("kafka-client/tls.crt", &tls.certificate)]
                {
                    pem.as_ref().map_or(Ok(()), |pem| write(name, pem))?;
                }
                tls.key.as_ref().map_or(Ok(()), |key| write("kafka-client/tls.key", key.expose()))?;
            }
        }
        Ok(())
    }
}

/// Writes a file that appears whole; one that is as it should be is left alone.
fn write_if_changed(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    if fs::read_to_string(path).is_ok_and(|before| before == text) {
        return Ok(());
    }
    let context = || format!("{} cannot be written", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(context)?;
    }
    let unfinished = path.with_extension("unfinished");
    let _ = fs::remove_file(&unfinished);
    let mut opened = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&unfinished)
        .with_context(context)?;
    opened.write_all(text.as_bytes()).with_context(context)?;
    fs::rename(&unfinished, path).with_context(context)
}

/// `tidemark apply --without-cluster`.
pub async fn apply(args: &ApplyArgs) -> anyhow::Result<()> {
    let mut local = Local::open(&args.local.file, &args.local.out)?;
    let shutdown = Shutdown::on_signals()?;
    let begin = Instant::now();
    let mut did_anything = false;
    let mut said = String::new();
    loop {
        local.write_secrets()?;
        let report = Box::pin(local.run(Mode::Run)).await?;
        did_anything |= !report.outcome.done.is_empty();
        print::failures(&report.outcome);
        let settled = report.outcome.plan.is_empty();
        let ready = print::condition(&report.status, "Ready") == "True";
        let wait = args.local.wait;
        let finished = if wait.is_zero() { settled } else { ready };
        let stalled = print::condition(&report.status, "Stalled") == "True";
        if args.watch {
            let now = print::headline(&report.status);
            if now != said {
                print::line(&now);
                said = now;
            }
        } else if finished {
            print::result(&report.status, did_anything, begin.elapsed());
            return Ok(());
        } else if stalled || begin.elapsed() > if wait.is_zero() { SETTLE } else { wait } {
            print::result(&report.status, did_anything, begin.elapsed());
            anyhow::bail!("the pipeline {} did not get there: see the conditions above", local.bundle.name);
        }
        let pause = report.next(SLOW).unwrap_or(SLOW).min(SLOW);
        if tokio::time::timeout(pause, shutdown.requested()).await.is_ok() {
            return Ok(());
        }
        local.reload();
    }
}

/// `tidemark delete --without-cluster`.
pub async fn delete(args: &LocalArgs) -> anyhow::Result<()> {
    let mut local = Local::open(&args.file, &args.out)?;
    let begin = Instant::now();
    let timeout = match args.wait {
        Duration::ZERO => tidemark_crds::duration::duration(&local.spec().deletion_policy.timeout)?,
        wait => wait,
    };
    loop {
        let report = Box::pin(local.run(Mode::Delete)).await?;
        print::failures(&report.outcome);
        if report.clean {
            for name in ["sink.json", "status.yaml", "secrets", "manifests"] {
                let path = local.out.join(name);
                let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            }
            print::line(&format!(
                "{} is gone after {:.1} s",
                local.bundle.name,
                begin.elapsed().as_secs_f64()
            ));
            return Ok(());
        }
        if begin.elapsed() > timeout {
            for left in &report.left_behind {
                print::line(&format!("left behind: {}\n  remove it with: {}", left.what, left.command));
            }
            anyhow::bail!("not everything could be removed within {} s", timeout.as_secs());
        }
        tokio::time::sleep(FAST).await;
    }
}
