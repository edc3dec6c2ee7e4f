//! The whole chain on a kind cluster, installed by Helm and driven by `kubectl`, as a user has it.
//!
//! One cluster serves all parts, in the order below; each part is a function of its own and is named when it
//! fails. A part that fails does not keep the later ones from saying what they find.
#![allow(clippy::print_stdout, reason = "times and figures are this test's output")]

mod dashboards;
mod deletion;
mod read;
mod sidecar;
mod silence;
mod workload;

use std::time::Instant;

use futures::future::LocalBoxFuture;
use tidemark_e2e::cluster::Cluster;

type Part = for<'a> fn(&'a Cluster) -> LocalBoxFuture<'a, anyhow::Result<()>>;

const PARTS: &[(&str, Part)] = &[
    ("tables and views equal postgresql through kills, schema changes and truncates", |cluster| {
        Box::pin(workload::equality(cluster))
    }),
    ("an operator that starts again writes nothing", |cluster| Box::pin(silence::restart(cluster))),
    (
        "dashboards come back, are silent, and while Grafana is away a read that is cut short leaves no ghost",
        |cluster| Box::pin(dashboards::come_back(cluster)),
    ),
    ("dashboards as objects for sidecars: said where the right lacks, silent, put right, gone", |cluster| {
        Box::pin(sidecar::objects(cluster))
    }),
    ("deletion leaves what the policy says and a second apply goes on right", |cluster| {
        Box::pin(deletion::and_return(cluster))
    }),
    ("a namespace that is deleted under load is cleaned up", |cluster| {
        Box::pin(deletion::of_the_namespace(cluster))
    }),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chain_on_kind_keeps_its_promises() -> anyhow::Result<()> {
    let begin = Instant::now();
    let cluster = Cluster::up("tidemark-e2e").await?;
    println!("[{:>4} s] the cluster, the components and the operator are up", begin.elapsed().as_secs());
    let mut failures = Vec::new();
    for (name, part) in PARTS {
        let start = Instant::now();
        let result = part(&cluster).await;
        let outcome = if result.is_ok() { "ok" } else { "FAILED" };
        println!(
            "[{:>4} s] {outcome} after {} s: {name}",
            begin.elapsed().as_secs(),
            start.elapsed().as_secs()
        );
        if let Err(error) = result {
            println!("{error:#}");
            failures.push(*name);
        }
    }
    if !failures.is_empty() {
        let logs = cluster.save_logs();
        anyhow::bail!(
            "{} of {} parts failed: {failures:?}; logs are in {}",
            failures.len(),
            PARTS.len(),
            logs.display()
        );
    }
    Ok(())
}
