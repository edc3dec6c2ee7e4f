//! The look right before something is taken away: what has come under the name of a thing of ours since it was planned is
//! left alone, in each system.

use std::sync::Arc;

use anyhow::{Context, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tidemark_crds::pipeline::{CertificateCheck, TlsMode};
use tidemark_e2e::stack::{Role, User, shared, unique_name};
use tidemark_operator::core::credentials::ConnectLogin;
use tidemark_operator::core::effect::{ClickHouseEffect, ClickHouseName, ConnectEffect, PostgresEffect};
use tidemark_operator::core::facts::Failure;
use tidemark_operator::core::gate::{Proof, System};
use tidemark_operator::edge::connect::client::{Connect, Options as ConnectOptions};
use tidemark_operator::edge::postgres::client::PostgresTarget;
use tidemark_operator::edge::{clickhouse, connect, postgres};
use tidemark_runtime::clickhouse::{Authority, ClickHouse, Options};
use tidemark_runtime::credentials::{CredentialSource, Credentials};
use tidemark_runtime::foreign::Hidden;

use crate::fixture::fixture;

const MARK: &str = "tidemark here/local/looked-again";
const THEIRS: &str = "tidemark elsewhere/local/looked-again";

/// A proof, as a gate gives it that knows of no other system than these.
fn proof() -> anyhow::Result<Proof> {
    let fixture = fixture();
    fixture.subject().gate(&fixture.running()).proof(System::ClickHouse).context("the gate is open")
}

/// What was refused is said so, and whatever it was not.
fn refused(done: Result<(), Failure>, what: &str) -> anyhow::Result<()> {
    let failure = done.err().with_context(|| format!("{what} was carried out"))?;
    ensure!(
        failure.message.contains("another one than a moment ago")
            || failure.message.contains("another object than"),
        "{what}: {}",
        failure.message
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_of_somebody_else_in_the_place_of_ours_is_not_dropped() -> anyhow::Result<()> {
    let stack = shared().await?;
    let database = unique_name("looked_again");
    let credentials = Credentials::new(User::Tidemark.name(), User::Tidemark.password());
    let client = ClickHouse::new(Options {
        url: stack.clickhouse().url(),
        database: None,
        credentials: Arc::new(CredentialSource::memory(credentials)),
        authority: Authority::System,
    })?;
    client.execute(&format!("CREATE DATABASE {database}")).await?;
    let make = async |comment: &str| {
        let make = format!(
            "CREATE OR REPLACE TABLE {database}.orders (id UInt64) ENGINE = MergeTree ORDER BY id COMMENT '{comment}'"
        );
        client.execute(&make).await
    };
    let seen = ClickHouseName {
        database: database.clone(),
        name: "orders".into(),
        is_view: false,
        comment: MARK.into(),
    };
    let effect = ClickHouseEffect::Drop(proof()?.allow(seen));
    make(THEIRS).await?;
    refused(clickhouse::act::carry_out(&client, (MARK, "tidemark"), &effect).await, "the drop of a table")?;
    let there = format!("SELECT count() FROM system.tables WHERE database = '{database}'");
    ensure!(stack.clickhouse().query(&there).await?.trim() == "1");
    make(MARK).await?;
    clickhouse::act::carry_out(&client, (MARK, "tidemark"), &effect)
        .await
        .map_err(|failure| anyhow::anyhow!(failure.message))?;
    ensure!(stack.clickhouse().query(&there).await?.trim() == "0", "ours goes");
    client.execute(&format!("DROP DATABASE {database}")).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publication_and_a_slot_of_somebody_else_in_the_place_of_ours_are_not_dropped() -> anyhow::Result<()>
{
    let stack = shared().await?;
    let name = unique_name("looked_again");
    stack.postgres().create_database(&name).await?;
    let sql = async |sql: String| stack.postgres().execute(Role::Superuser, &name, &sql).await;
    let target = PostgresTarget {
        host: "127.0.0.1".into(),
        port: stack.postgres().port(),
        database: name.clone(),
        credentials: Credentials::new(Role::Superuser.name(), Role::Superuser.password()),
        tls: TlsMode::Disable,
        ca: None,
        deadline: tidemark_runtime::postgres::CONNECT_DEADLINE,
    };
    let count = async |sql: &str| -> anyhow::Result<String> {
        let rows = stack.postgres().query(Role::Superuser, &name, sql).await?;
        rows[0][0].clone().context("a number")
    };
    sql(format!("CREATE PUBLICATION {name}; COMMENT ON PUBLICATION {name} IS '{THEIRS}'")).await?;
    let effect = PostgresEffect::DropPublication(proof()?.allow(name.clone()));
    refused(postgres::act::carry_out(&target, MARK, &effect).await, "the drop of a publication")?;
    ensure!(count("SELECT count(*)::text FROM pg_publication").await? == "1");

    sql(format!("SELECT pg_create_logical_replication_slot('{name}', 'test_decoding')")).await?;
    let effect = PostgresEffect::DropSlot(proof()?.allow(name.clone()));
    refused(postgres::act::carry_out(&target, MARK, &effect).await, "the drop of a slot")?;
    let slots = format!("SELECT count(*)::text FROM pg_replication_slots WHERE slot_name = '{name}'");
    ensure!(count(&slots).await? == "1");
    sql(format!("SELECT pg_drop_replication_slot('{name}')")).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connector_of_somebody_else_in_the_place_of_ours_is_left_as_it_is() -> anyhow::Result<()> {
    let stack = shared().await?;
    let name = unique_name("looked_again");
    let client = Connect::new(&ConnectOptions {
        url: stack.connect().url(),
        login: ConnectLogin::default(),
        check: CertificateCheck::default(),
        hidden: Hidden::default(),
    })
    .map_err(|failure| anyhow::anyhow!(failure.message))?;
    stack.postgres().create_database(&name).await?;
    let config = json!({
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "database.hostname": "127.0.0.1", "database.port": stack.postgres().port().to_string(),
        "database.user": Role::Superuser.name(), "database.password": Role::Superuser.password(),
        "database.dbname": name, "topic.prefix": name, "plugin.name": "pgoutput", "tidemark.mark": THEIRS,
    });
    let body = json!({"name": name, "config": config, "initial_state": "STOPPED"});
    stack.connect().request(Method::POST, "/connectors", Some(&body)).await?;
    let ours = [("tidemark.mark".to_owned(), MARK.to_owned())].into();
    for effect in [
        ConnectEffect::PutConfig { name: name.clone(), config: proof()?.allow(ours) },
        ConnectEffect::DeleteOffsets(proof()?.allow(name.clone())),
        ConnectEffect::Delete(proof()?.allow(name.clone())),
    ] {
        refused(connect::act::execute(&client, MARK, &effect).await, &format!("{effect:?}"))?;
    }
    let path = format!("/connectors/{name}");
    let live: Value = serde_json::from_value(stack.connect().request(Method::GET, &path, None).await?)?;
    ensure!(live["config"]["tidemark.mark"] == THEIRS, "{live}");
    stack.connect().request(Method::DELETE, &path, None).await?;
    Ok(())
}
