//! What Kafka Connect says, as the client reads it.

use super::*;

#[test]
fn an_error_shows_connects_message_without_the_password() {
    let body = serde_json::json!({"database.password": "s3cret", "a": "b"});
    let hidden = secret_values(&body).into_iter().fold(Hidden::default(), Hidden::with);
    let answer = br#"{"error_code":400,"message":"login with s3cret\nfailed"}"#;
    let failure = of_status(StatusCode::BAD_REQUEST, Some(answer), &hidden);
    assert_eq!(failure.message, "kafka connect: login with *** failed");
    assert_eq!(failure.class, FailureClass::Remote);
}

#[test]
fn what_is_not_connects_is_not_shown() {
    let server = StatusCode::INTERNAL_SERVER_ERROR;
    for answer in [
        "<html>board</html>".to_owned(),
        "{\"message\":\"board\"}".to_owned(),
        "{\"kind\":\"Status\",\"code\":500,\"message\":\"board\"}".to_owned(),
        "{\"error_code\":404,\"message\":\"board\"}".to_owned(),
        "{\"error_code\":500,\"message\":\"board".to_owned(),
        "\u{1b}[31mboard".repeat(1 << 16),
    ] {
        let failure = of_status(server, Some(answer.as_bytes()), &Hidden::default());
        assert_eq!(failure.message, "kafka connect: http status 500 Internal Server Error");
    }
    let words = br#"{"error_code":500,"message":"board"}"#;
    assert!(of_status(server, Some(words), &Hidden::default()).message.contains("board"));
    let failure = of_status(server, None, &Hidden::default());
    assert!(failure.message.ends_with("is it Kafka Connect that listens there?"), "{failure:?}");
}

fn options(url: &str) -> Options {
    Options {
        url: url.to_owned(),
        login: ConnectLogin::default(),
        check: CertificateCheck::VerifyFull,
        hidden: Hidden::default(),
    }
}

#[test]
fn an_address_that_is_no_url_is_refused() {
    assert!(Connect::new(&options("connect:8083")).is_err());
}

#[test]
fn an_address_that_is_never_called_is_named_with_its_field() {
    let failure = Connect::new(&options("http://169.254.169.254/latest")).unwrap_err();
    assert!(failure.message.starts_with("spec.source.connect.url "), "{failure:?}");
    assert!(failure.message.contains("nothing in 169.254.0.0/16 is called"), "{failure:?}");
    assert_eq!(failure.class, FailureClass::Remote);
}

#[test]
fn an_authority_that_is_none_is_named() {
    let login = ConnectLogin { ca: Some("no pem".into()), ..ConnectLogin::default() };
    let failure = Connect::new(&Options { login, ..options("https://connect") }).unwrap_err();
    assert!(failure.message.starts_with("spec.source.connect.tls.ca: "), "{failure:?}");
}
