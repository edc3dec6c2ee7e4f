//! `GET /visible`: the question over HTTP. I/O.

use std::borrow::Cow;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::{Value, json};
use tidemark_crds::duration;
use tidemark_runtime::shell::Shutdown;

use super::demand::Demand;
use super::lsn::Lsn;
use super::question::{Answer, Asker, Question};

/// Longest patience.
const MOST: Duration = Duration::from_secs(30);

/// Where questions come in: it stays from one configuration to the next.
#[derive(Debug, Clone, Default)]
pub struct Desk {
    asker: Arc<RwLock<Option<Arc<Asker>>>>,
    demand: Demand,
}

impl Desk {
    /// Answers by this one from now on.
    pub fn open(&self, asker: Asker) {
        *self.asker.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(asker));
    }

    /// What is asked here.
    pub fn demand(&self) -> &Demand {
        &self.demand
    }

    fn asker(&self) -> Option<Arc<Asker>> {
        self.asker.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The routes of the questions; `end` ends those that wait.
pub fn routes(desk: Desk, end: Shutdown) -> Router {
    Router::new().route("/visible", get(visible)).with_state((desk, end))
}

async fn visible(
    State((desk, end)): State<(Desk, Shutdown)>,
    RawQuery(query): RawQuery,
) -> impl IntoResponse {
    let (status, body) = match (parse(query.as_deref().unwrap_or_default()), desk.asker()) {
        (Err(wrong), _) => (StatusCode::BAD_REQUEST, json!({"error": wrong})),
        (Ok(question), None) => respond(&question, Answer::Unknown("the sink is starting".to_owned())),
        (Ok(question), Some(asker)) => {
            desk.demand.note();
            let answer = tokio::select! {
                answer = Box::pin(asker.ask(&question)) => answer,
                () = end.requested() => Answer::Unknown("the sink is ending: ask again".to_owned()),
            };
            respond(&question, answer)
        }
    };
    (
        status,
        [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")],
        format!("{body}\n"),
    )
}

/// The status and the body of an answer.
fn respond(question: &Question, answer: Answer) -> (StatusCode, Value) {
    let lsn = question.lsn.to_string();
    match answer {
        Answer::Visible(upto) => {
            (StatusCode::OK, json!({"visible": true, "lsn": lsn, "position": upto.to_string()}))
        }
        Answer::NotYet(upto) => {
            (StatusCode::OK, json!({"visible": false, "lsn": lsn, "position": upto.to_string()}))
        }
        Answer::Unknown(cause) => {
            (StatusCode::SERVICE_UNAVAILABLE, json!({"visible": false, "lsn": lsn, "cause": cause}))
        }
        Answer::NoTable => {
            let name = question.table.as_deref().unwrap_or_default();
            let text = format!(
                "table: {name} is not followed: it is none of spec.tables, or was refused, which status.tables says"
            );
            (StatusCode::NOT_FOUND, json!({"error": text}))
        }
    }
}

/// Reads a question from a query string, or says which parameter is wrong.
fn parse(query: &str) -> Result<Question, String> {
    let url = reqwest::Url::parse(&format!("http://sink/?{query}")).map_err(|error| error.to_string())?;
    let (mut lsn, mut table, mut timeout, mut server) = (None, None, None, None);
    for (name, value) in url.query_pairs() {
        let place: &mut Option<Cow<'_, str>> = match &*name {
            "lsn" => &mut lsn,
            "table" => &mut table,
            "timeout" => &mut timeout,
            "server" => &mut server,
            _ => {
                return Err(format!(
                    "{name}: there is no such parameter: lsn, table, timeout and server are"
                ));
            }
        };
        if place.replace(value).is_some() {
            return Err(format!("{name}: it is given twice"));
        }
    }
    let lsn = lsn.ok_or("lsn: it is missing: lsn=16/B374D848, as pg_current_wal_insert_lsn() says it")?;
    let lsn: Lsn = lsn.parse().map_err(|wrong| format!("lsn: {lsn} {wrong}"))?;
    let patience = |text: Cow<'_, str>| {
        let ms = if text == "0" { Ok(0) } else { duration::milliseconds(&text) };
        let patience = ms.ok().map(Duration::from_millis).filter(|patience| *patience <= MOST);
        patience.ok_or_else(|| {
            format!("timeout: {text} is no duration such as 5s, of at most {}s", MOST.as_secs())
        })
    };
    Ok(Question {
        lsn,
        table: table.map(Cow::into_owned),
        timeout: timeout.map_or(Ok(Duration::ZERO), patience)?,
        server: server.map(Cow::into_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_question_names_the_parameter() {
        let question = |lsn, table: Option<&str>, ms| Question {
            lsn: Lsn(lsn),
            table: table.map(str::to_owned),
            timeout: Duration::from_millis(ms),
            server: None,
        };
        for (query, right) in [
            ("lsn=16/B374D848", question(0x16_B374_D848, None, 0)),
            ("lsn=0%2F1&table=public.orders&timeout=5s", question(1, Some("public.orders"), 5000)),
            ("timeout=30s&lsn=0/1", question(1, None, 30_000)),
            ("timeout=0&lsn=0/1&table=a%26b.%C3%BC", question(1, Some("a&b.ü"), 0)),
        ] {
            assert_eq!(parse(query), Ok(right), "{query}");
        }
        for (query, name) in [
            ("", "lsn"),
            ("lsn=", "lsn"),
            ("lsn=100", "lsn"),
            ("lsn=0/1&lsn=0/2", "lsn"),
            ("lsn=0/1&timeout=31s", "timeout"),
            ("lsn=0/1&timeout=soon", "timeout"),
            ("lsn=0/1&timeout=-1s", "timeout"),
            ("lsn=0/1&tabel=public.orders", "tabel"),
        ] {
            let wrong = parse(query).unwrap_err();
            assert!(wrong.starts_with(&format!("{name}: ")), "{query}: {wrong}");
        }
    }

    #[test]
    fn only_what_is_known_is_a_success() {
        let question = parse("lsn=0/A&table=public.x").unwrap();
        let status = |answer| respond(&question, answer).0.as_u16();
        assert_eq!(status(Answer::Visible(Lsn(11))), 200);
        assert_eq!(status(Answer::NotYet(Lsn(9))), 200);
        assert_eq!(status(Answer::Unknown("x".to_owned())), 503);
        assert_eq!(status(Answer::NoTable), 404);
        let (_, body) = respond(&question, Answer::NotYet(Lsn(9)));
        assert_eq!(body, json!({"visible": false, "lsn": "0/A", "position": "0/9"}));
    }
}
