//! Kafka Connect behind TLS: a server of its own on loopback, with certificates that one authority vouches for and another
//! does not.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, Stream};
use tidemark_crds::pipeline::CertificateCheck;
use tidemark_operator::core::credentials::ConnectLogin;
use tidemark_operator::core::facts::{ConnectFacts, Observation};
use tidemark_operator::edge::connect::client::{Connect, Options};
use tidemark_operator::edge::connect::look::observe;
use tidemark_runtime::credentials::Credentials;
use tidemark_runtime::foreign::Hidden;

/// Certificates of one day, made anew for each run.
struct Certificates(tempfile::TempDir);

impl Certificates {
    fn new() -> Self {
        let made = Self(tempfile::tempdir().unwrap());
        std::fs::write(made.path("openssl.cnf"), "[req]\ndistinguished_name = name\n[name]\n").unwrap();
        let authority = ["-addext", "basicConstraints=critical,CA:TRUE"];
        made.certificate("authority", &authority);
        made.certificate("another", &authority);
        for (name, alternative) in [("server", "IP:127.0.0.1"), ("elsewhere", "DNS:connect.example")] {
            let (ca, key) = (made.path("authority.pem"), made.path("authority.key"));
            let (ca, key) = (ca.to_str().unwrap(), key.to_str().unwrap());
            let alternative = format!("subjectAltName={alternative}");
            let leaf = ["-CA", ca, "-CAkey", key, "-addext", &alternative];
            made.certificate(name, &[&leaf[..], &["-addext", "basicConstraints=critical,CA:FALSE"]].concat());
        }
        made
    }

    fn path(&self, file: &str) -> std::path::PathBuf {
        self.0.path().join(file)
    }

    fn certificate(&self, name: &str, arguments: &[&str]) {
        let made = std::process::Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-days",
                "1",
            ])
            .args(["-subj", &format!("/CN=Tidemark test {name}"), "-config", "openssl.cnf"])
            .args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")])
            .args(arguments)
            .current_dir(self.0.path())
            .output()
            .expect("openssl makes the certificates");
        assert!(made.status.success(), "{name}: {}", String::from_utf8_lossy(&made.stderr));
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.path(file)).unwrap()
    }
}

/// Workers with the plugin and without the connector, until the test ends. Their address, and what was asked.
fn workers(certificate: &str, key: &str) -> (String, Arc<std::sync::Mutex<Vec<String>>>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = Stream::new(&mut connection, &mut stream);
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            while !request.ends_with(b"\r\n\r\n") {
                match tls.read(&mut buffer) {
                    Ok(count) if count > 0 => request.extend_from_slice(&buffer[..count]),
                    _ => break,
                }
            }
            let request = String::from_utf8_lossy(&request).into_owned();
            let (status, body) = if request.starts_with("GET /connector-plugins ") {
                ("200 OK", r#"[{"class":"io.debezium.connector.postgresql.PostgresConnector"}]"#)
            } else {
                ("404 Not Found", r#"{"error_code":404,"message":"Connector tidemark-shop-shop not found"}"#)
            };
            seen.lock().unwrap().push(request);
            let length = body.len();
            let answer =
                format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
            let _ = tls.write_all(answer.as_bytes());
            connection.send_close_notify();
            let _ = connection.complete_io(&mut stream);
        }
    });
    (url, asked)
}

async fn look(url: &str, ca: &str, check: CertificateCheck) -> Observation<ConnectFacts> {
    let login =
        ConnectLogin { credentials: Some(Credentials::new("connect", "hunter2")), ca: Some(ca.to_owned()) };
    let options = Options { url: url.to_owned(), login, check, hidden: Hidden::default() };
    observe(&Connect::new(&options).unwrap(), "tidemark-shop-shop").await
}

#[tokio::test]
async fn workers_that_the_authority_vouches_for_are_asked_and_others_are_told_nothing() {
    use CertificateCheck::{VerifyCa, VerifyFull};
    let certificates = Certificates::new();
    for (what, server, ca, check, refused) in [
        ("as it should be", "server", "authority", VerifyFull, None),
        ("another name, which does not count", "elsewhere", "authority", VerifyCa, None),
        ("another name", "elsewhere", "authority", VerifyFull, Some("connect.example")),
        ("another authority", "server", "another", VerifyFull, Some("UnknownIssuer")),
        ("another authority, and no name", "server", "another", VerifyCa, Some("UnknownIssuer")),
    ] {
        let read = |name: &str, kind: &str| certificates.read(&format!("{name}.{kind}"));
        let (url, asked) = workers(&read(server, "pem"), &read(server, "key"));
        let seen = look(&url, &read(ca, "pem"), check).await;
        match (&seen, refused) {
            (Observation::Known(facts), None) => assert!(facts.plugin_installed, "{what}"),
            (Observation::Unreachable(failure), Some(why)) => {
                let message = &failure.message;
                assert!(
                    message.contains(why) && message.contains("spec.source.connect.tls"),
                    "{what}: {message}"
                );
                let asked = asked.lock().unwrap();
                assert!(asked.iter().all(String::is_empty), "{what}: {asked:?}");
            }
            _ => panic!("{what}: {seen:?}"),
        }
    }
}
