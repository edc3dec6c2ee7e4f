//! The data source in Grafana: how panels reach ClickHouse. Pure.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tidemark_crds::conditions::Reason;
use tidemark_crds::pipeline::{AdoptionPolicy, AnalyticsPipelineSpec, DriftPolicy};

use super::{Comparison, GrafanaInput, MOST_FIELDS, Problem, changed, place, save, saving, source_fact};
use crate::core::dashboards::{PLUGIN, subset};
use crate::core::effect::{Effect, Saving, Verb};
use crate::core::facts::SourceHealth;
use crate::core::step::{Stage, StepKind};

/// First Grafana that takes a data source's uid in the path of a change.
const UID_PATHS: u32 = 9;

/// How the data source reaches ClickHouse: its `jsonData`.
pub fn connection(spec: &AnalyticsPipelineSpec, username: &str) -> Value {
    let clickhouse = &spec.clickhouse;
    let secure = clickhouse.url.starts_with("https://");
    let rest = clickhouse.url.split_once("://").map_or("", |(_, rest)| rest);
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().unwrap_or(8123)),
        _ => (authority, if secure { 443 } else { 80 }),
    };
    json!({
        "host": host, "port": port, "protocol": "http", "secure": secure, "path": path,
        "username": username, "defaultDatabase": clickhouse.database,
        "dialTimeout": "10", "queryTimeout": "30", "validateSql": true,
    })
}

/// The data source without its password.
fn source_body(input: &GrafanaInput<'_>, based_on: i64) -> Value {
    let mut settings = connection(input.spec, &input.reader.username);
    settings["tidemark"] = json!({
        "mark": input.mark,
        "secret": secret_hash(input.key, &input.names.prefix, input.reader.password.expose()),
        "basedOn": based_on,
        "place": place::current(input.spec).map(|place| place.key),
    });
    json!({
        "uid": input.names.prefix,
        "name": input.names.source_name,
        "type": PLUGIN,
        "access": "proxy",
        "url": "",
        "basicAuth": false,
        "isDefault": false,
        "jsonData": settings,
    })
}

/// Tells one password from the next to whoever has the key, and nothing to others: RFC 2104 over SHA-256.
fn secret_hash(key: &str, uid: &str, password: &str) -> String {
    const BLOCK: usize = 64;
    let mut block = [0_u8; BLOCK];
    let digest = Sha256::digest(key.as_bytes());
    block[..digest.len()].copy_from_slice(&digest);
    let pad = |with: u8| block.map(|byte| byte ^ with);
    let inner =
        Sha256::new().chain_update(pad(0x36)).chain_update(uid).chain_update([0]).chain_update(password);
    let outer = Sha256::new().chain_update(pad(0x5c)).chain_update(inner.finalize()).finalize();
    outer.iter().take(16).fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// Compares the data source with what it should be.
pub(super) fn compare(input: &GrafanaInput<'_>, out: &mut Comparison) {
    let uid = &input.names.prefix;
    let name = &input.names.source_name;
    let Some(live) = &input.facts.source else {
        if let Some(other) = &input.facts.source_name_taken {
            let message = format!(
                "grafana has another data source with the name {name:?} (uid {other}): it is left alone; rename or \
                 remove it"
            );
            out.part.problems.push(Problem::new("data source", Reason::Conflict, message));
            return;
        }
        let body = source_body(input, 0);
        let effect = with_password(saving(Verb::Post, &["api", "datasources"], body), input);
        let what = format!("create data source {name:?} in Grafana");
        let (needs, gives) = (vec![place::fact()], Some(source_fact()));
        out.part.step((Stage::DataSource, StepKind::Create), what, needs, gives, effect);
        return;
    };
    let sign = &live["jsonData"]["tidemark"];
    if sign["mark"] != *input.mark && input.grafana.adoption_policy == AdoptionPolicy::Never {
        let message = format!(
            "grafana has a data source with the uid {uid} that this pipeline did not make: it is left alone; remove \
             it, or set spec.grafana.adoptionPolicy to Adopt"
        );
        out.part.problems.push(Problem::new("data source", Reason::Conflict, message));
        return;
    }
    if live["readOnly"] == true {
        let message = format!(
            "the data source {name:?} is provisioned from a file in Grafana, which wins over the API: remove the file"
        );
        out.part.problems.push(Problem::new("data source", Reason::Conflict, message));
        return;
    }
    let version = live["version"].as_i64().unwrap_or(0);
    let based_on = sign["basedOn"].as_i64().unwrap_or(-1);
    // Our write made the version that follows the one it was based on: another one is another's write, and may have
    // changed the password, which nobody can read back.
    let untouched = version == based_on || version == based_on + 1;
    let ours = source_body(input, based_on);
    let mut fields = subset::differences(live, &ours, MOST_FIELDS);
    if !untouched {
        fields.push("version".to_owned());
    }
    if fields.is_empty() {
        match &input.facts.source_health {
            SourceHealth::Bad(text) => {
                let message = format!(
                    "grafana's check of the data source {name:?} fails: {text}: see that the plugin {PLUGIN} (4.15 or \
                     newer) is installed and that Grafana reaches {}",
                    input.spec.clickhouse.url
                );
                out.part.problems.push(Problem::new("data source", Reason::DataSourceFailed, message));
            }
            SourceHealth::Good | SourceHealth::NotOffered => {}
        }
        return;
    }
    // Where the address changed, the data source has to say so before the former place is left (see `place`).
    let same = |key: &str| sign[key] == ours["jsonData"]["tidemark"][key];
    let by_hand = !untouched && same("secret") && same("place");
    if by_hand && input.grafana.drift_policy == DriftPolicy::Keep {
        out.kept.push(format!("data source: {}", fields.join(", ")));
        return;
    }
    let mut body = source_body(input, version);
    body["version"] = json!(version);
    let id = live["id"].to_string();
    let path: &[&str] = if input.facts.major() >= UID_PATHS {
        &["api", "datasources", "uid", uid]
    } else {
        &["api", "datasources", &id]
    };
    let effect = with_password(saving(Verb::Put, path, body), input);
    let (kind, verb) = changed(by_hand);
    let what = format!("{verb} data source {name:?} in Grafana: {}", fields.join(", "));
    let gives = Some(source_fact());
    out.part.step((Stage::DataSource, kind), what, vec![place::fact()], gives, effect);
}

fn with_password(saving: Saving, input: &GrafanaInput<'_>) -> Effect {
    save(Saving { password: Some(input.reader.password.clone()), ..saving })
}
