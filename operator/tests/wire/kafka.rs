//! Kafka: brokers that are none, and librdkafka's own mock of a cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::mocking::MockCluster;
use rdkafka::types::RDKafkaApiKey as Key;
use rdkafka::types::RDKafkaRespErr as Code;
use tidemark_operator::core::effect::{Effect, KafkaEffect};
use tidemark_operator::edge;
use tidemark_operator::edge::kafka::client::KafkaAdmin;
use tidemark_operator::edge::kafka::look::KafkaQuestion;
use tidemark_runtime::foreign::Hidden;
use tidemark_runtime::kafka::Connection;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::server::PAGE;
use super::{Call, Row, SECRET, failed, look};

/// Deadline of a call: librdkafka tells only when it is over that nobody answers.
const DEADLINE: Duration = Duration::from_millis(800);
const TOPIC: &str = "shop.public.orders";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Refused,
    Closes,
    Garbage,
    Silent,
}

impl Fault {
    const ALL: [Self; 4] = [Self::Refused, Self::Closes, Self::Garbage, Self::Silent];

    fn title(self) -> &'static str {
        match self {
            Self::Refused => "connection refused",
            Self::Closes => "closes after the first request",
            Self::Garbage => "another protocol",
            Self::Silent => "no answer in time",
        }
    }
}

async fn serve(mut stream: TcpStream, fault: Fault) {
    let mut part = [0; 1024];
    let asked = stream.read(&mut part).await.is_ok_and(|count| count > 0);
    if asked && fault == Fault::Garbage {
        let _ = stream.write_all(format!("HTTP/1.1 400 Bad Request\r\n\r\n{PAGE}").as_bytes()).await;
    }
    while asked && fault != Fault::Closes && stream.read(&mut part).await.is_ok_and(|count| count > 0) {}
}

fn admin(bootstrap_servers: String) -> KafkaAdmin {
    let connection = Connection { bootstrap_servers, tls: None, sasl: None };
    KafkaAdmin::new(&connection, &Hidden::default().with(SECRET)).with_deadline(DEADLINE)
}

fn topic() -> KafkaEffect {
    KafkaEffect::CreateTopic {
        name: TOPIC.into(),
        partitions: 1,
        replication_factor: 1,
        config: BTreeMap::new(),
    }
}

async fn asked(admin: &KafkaAdmin, call: Call) -> Result<(), tidemark_operator::core::facts::Failure> {
    match call {
        Call::Read => {
            let question = KafkaQuestion {
                table_topics: vec![TOPIC.into()],
                topics: [TOPIC.to_owned()].into(),
                prefix: "shop".into(),
                group_prefix: "tidemark-shop".into(),
                epochs: false,
            };
            look(edge::kafka::look::observe(admin, &question).await)
        }
        Call::Write => edge::kafka::act::execute(admin, &topic()).await,
    }
}

/// Every fault at a look and at a step.
pub(super) async fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for call in Call::ALL {
        for fault in Fault::ALL {
            rows.push(row(call, fault).await);
        }
    }
    rows.extend(brokers_that_refuse().await);
    rows
}

async fn row(call: Call, fault: Fault) -> Row {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        if fault == Fault::Refused {
            return;
        }
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, fault));
            }
        }
    });
    if fault == Fault::Refused {
        // The task has dropped the listener when it has ended.
        server.await.unwrap();
    }
    told(fault.title(), call, &address.to_string()).await
}

async fn told(title: &str, call: Call, address: &str) -> Row {
    let admin = admin(address.to_owned());
    let mut failure = failed(&format!("kafka, {call:?}, {title}"), 4 * DEADLINE, asked(&admin, call)).await;
    failure.message = stable(&failure.message.replace(address, "ADDRESS"));
    Row::new(("kafka", call, title), None, Effect::Kafka(topic()), failure)
}

/// Without the times that librdkafka gives.
fn stable(text: &str) -> String {
    let number = regex::Regex::new("[0-9]+ms").unwrap();
    number.replace_all(text, "N ms").into_owned()
}

/// What brokers refuse of a look.
async fn brokers_that_refuse() -> Vec<Row> {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, 1, 1).unwrap();
    cluster.request_errors(Key::ListOffsets, &[Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 50]);
    let row = told("brokers refuse the offsets of a topic", Call::Read, &cluster.bootstrap_servers()).await;
    assert!(!row.told.contains(SECRET));
    vec![row]
}
