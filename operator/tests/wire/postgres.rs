//! PostgreSQL's protocol.

use tidemark_crds::pipeline::TlsMode;
use tidemark_operator::core::effect::{Effect, PostgresEffect, Publishes};
use tidemark_operator::edge;
use tidemark_operator::edge::postgres::client::PostgresTarget;
use tidemark_operator::edge::postgres::look::SourceQuestion;
use tidemark_runtime::credentials::Credentials;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::server::PAGE;
use super::{Call, ENOUGH, Row, SECRET, SOON, failed, look};

const MARK: &str = "tidemark uid/shop/shop";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Refused,
    Closes,
    Garbage,
    Silent,
    TooMany,
    NoTls,
}

impl Fault {
    const ALL: [Self; 6] =
        [Self::Refused, Self::Closes, Self::Garbage, Self::Silent, Self::TooMany, Self::NoTls];

    fn title(self) -> &'static str {
        match self {
            Self::Refused => "connection refused",
            Self::Closes => "closes after the startup packet",
            Self::Garbage => "another protocol",
            Self::Silent => "no answer in time",
            Self::TooMany => "too many connections",
            Self::NoTls => "TLS required and not offered",
        }
    }
}

/// `ErrorResponse` as a server without a free connection sends it.
fn too_many() -> Vec<u8> {
    let mut fields = Vec::new();
    for (kind, text) in
        [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', "53300"), (b'M', "sorry, too many clients already")]
    {
        fields.push(kind);
        fields.extend_from_slice(text.as_bytes());
        fields.push(0);
    }
    fields.push(0);
    let length = u32::try_from(fields.len() + 4).unwrap();
    [b"E".as_slice(), &length.to_be_bytes(), &fields].concat()
}

async fn serve(mut stream: TcpStream, fault: Fault) {
    // The startup packet or the request for TLS: its length, then the rest.
    let mut length = [0; 4];
    if stream.read_exact(&mut length).await.is_err() {
        return;
    }
    let rest = usize::try_from(u32::from_be_bytes(length)).unwrap() - 4;
    if stream.read_exact(&mut vec![0; rest]).await.is_err() {
        return;
    }
    let answer = match fault {
        Fault::Refused | Fault::Closes => return,
        Fault::Garbage => format!("HTTP/1.1 400 Bad Request\r\n\r\n{PAGE}").into_bytes(),
        Fault::Silent => Vec::new(),
        Fault::TooMany => too_many(),
        Fault::NoTls => b"N".to_vec(),
    };
    let _ = stream.write_all(&answer).await;
    if fault == Fault::Garbage {
        let _ = stream.shutdown().await;
    }
    // Until the other side gives up.
    while stream.read(&mut [0; 1024]).await.is_ok_and(|count| count > 0) {}
}

/// Every fault at a look and at a step.
pub(super) async fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for call in Call::ALL {
        for fault in Fault::ALL {
            rows.push(row(call, fault).await);
        }
    }
    rows
}

async fn row(call: Call, fault: Fault) -> Row {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
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
    let deadline = if fault == Fault::Silent { SOON } else { ENOUGH };
    let target = PostgresTarget {
        host: "127.0.0.1".into(),
        port,
        database: "shop".into(),
        credentials: Credentials::new("tidemark", SECRET),
        tls: if fault == Fault::NoTls { TlsMode::VerifyFull } else { TlsMode::Disable },
        ca: (fault == Fault::NoTls).then(|| include_str!("authority.pem").to_owned()),
        deadline,
    };
    let publication = PostgresEffect::CreatePublication {
        name: "tidemark_shop".into(),
        tables: vec![],
        options: Publishes::Operations,
        comment: MARK.into(),
    };
    let made = async {
        match call {
            Call::Read => {
                let question = SourceQuestion {
                    tables: vec![],
                    publication: "tidemark_shop".into(),
                    slot: "tidemark_shop".into(),
                };
                look(edge::postgres::look::observe(&target, &question, MARK).await)
            }
            Call::Write => edge::postgres::act::carry_out(&target, MARK, &publication).await,
        }
    };
    let mut failure = failed(&format!("postgres, {call:?}, {}", fault.title()), deadline, made).await;
    failure.message = failure.message.replace(&port.to_string(), "PORT");
    Row::new(("postgres", call, fault.title()), None, Effect::Postgres(publication), failure)
}
