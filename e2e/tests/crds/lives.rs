//! The look right before a write: another life of the name, another spec, or the wish to delete ends what was begun.

use anyhow::ensure;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tidemark_crds::names::{FINALIZER, PipelineName};
use tidemark_operator::core::desired::pipeline::Subject;
use tidemark_operator::edge::kubernetes::objects::ObjectStore;
use tidemark_operator::edge::kubernetes::resource::is_still;

use super::{Server, read};
use crate::fixture::fixture;

#[tokio::test]
async fn what_was_begun_for_another_life_another_spec_or_no_deletion_is_not_gone_on_with()
-> anyhow::Result<()> {
    let server = Server::start().await?;
    server.install_definition().await?;
    let mut minimal: Value = serde_yaml_ng::from_str(&read("crds/generated/examples/minimal.yaml")?)?;
    minimal["metadata"]["finalizers"] = json!([FINALIZER]);
    let pipelines = server.pipelines();
    let made: DynamicObject = serde_json::from_value(minimal.clone())?;
    let made = pipelines.create(&PostParams::default(), &made).await?;
    let (uid, generation) = (made.metadata.uid.clone(), made.metadata.generation.unwrap_or(0));

    let mut fixture = fixture();
    fixture.name = PipelineName::new("shop", "minimal");
    let store = ObjectStore::cluster(server.client.clone());
    let holds = async |uid: Option<&str>, generation, deleting| {
        let subject = Subject { uid, generation, deleting, ..fixture.subject() };
        is_still(&store, &subject).await.map_err(|failure| anyhow::anyhow!(failure.message))
    };
    let live = uid.as_deref();
    ensure!(holds(live, generation, false).await?, "it is the one that was made");
    ensure!(!holds(Some("another"), generation, false).await?, "another life");
    ensure!(!holds(live, generation, true).await?, "nobody deletes it");

    let spec = json!({"spec": {"suspend": true}});
    pipelines.patch("minimal", &PatchParams::default(), &Patch::Merge(spec)).await?;
    ensure!(!holds(live, generation, false).await?, "another spec");
    ensure!(holds(live, generation + 1, false).await?, "the spec of now");

    pipelines.delete("minimal", &DeleteParams::default()).await?;
    let deleted = pipelines.get("minimal").await?.metadata.generation.unwrap_or(0);
    ensure!(!holds(live, deleted, false).await?, "it is to go");
    ensure!(holds(live, deleted, true).await?, "its deletion");

    let free = json!({"metadata": {"finalizers": null}});
    pipelines.patch("minimal", &PatchParams::default(), &Patch::Merge(free)).await?;
    ensure!(!holds(live, deleted, true).await?, "it is gone");
    let again: DynamicObject = serde_json::from_value(minimal)?;
    let again = pipelines.create(&PostParams::default(), &again).await?;
    ensure!(again.metadata.generation == Some(generation), "the numbers begin anew");
    ensure!(!holds(live, generation, false).await?, "the next life of the name");
    Ok(())
}
