//! Words of other systems, as they are shown.

use super::*;

const CANARY: &str = "c4nary pa55'w<r>d\\\"&";

fn hidden() -> Hidden {
    Hidden::of_login(&Credentials::new("shop", CANARY))
}

fn shown(text: &str) -> String {
    Text::new(text).shown(&hidden())
}

#[test]
fn whatever_a_server_sends_becomes_one_short_line_that_a_terminal_shows_as_it_is() {
    for (sent, seen) in [
        ("", ""),
        ("plain words: ok", "plain words: ok"),
        ("two\r\nlines\tand  more ", "two lines and more"),
        ("\u{1b}[31mred\u{1b}[0m and \u{1b}]0;title\u{7}gone", "red and gone"),
        ("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
        ("\u{9b}2Jcleared \u{1b}", "cleared"),
        ("a\0b\u{8}c\u{7f}", "abc"),
        ("abc\u{202e}fed\u{200b}g", "abcfedg"),
        ("ümlaut ✓", "ümlaut ✓"),
    ] {
        assert_eq!(shown(sent), seen, "{sent:?}");
    }
    assert_eq!(Text::of_bytes(&[0xff, 0xfe, b'a', 0x80, b'b', 0]).shown(&hidden()), "ab");
}

#[test]
fn a_line_of_megabytes_is_cut() {
    for text in ["x".repeat(10 << 20), "\u{1b}[".repeat(5 << 20), " ".repeat(10 << 20), "ü".repeat(5 << 20)]
    {
        let text = shown(&text);
        assert!(text.chars().count() <= LIMIT, "{}", text.len());
    }
}

#[test]
fn a_secret_is_shown_in_none_of_the_forms_in_which_servers_repeat_it() {
    let pieces = ["c4nary", "pa55", "YzRuYXJ5"];
    let json = serde_json::json!({ "password": CANARY }).to_string();
    let login = base64(format!("shop:{CANARY}").as_bytes());
    for sent in [
        CANARY.to_owned(),
        format!("login of shop with {CANARY}{CANARY} failed"),
        format!("{}{CANARY}", "x".repeat(LIMIT - 4)),
        format!("{}{CANARY}", "\u{7}".repeat((64 << 10) - 7)),
        format!("IDENTIFIED BY '{}'", CANARY.replace('\'', "''")),
        format!("Authorization: Basic {login}"),
        format!("token {}", base64(CANARY.as_bytes())),
        "?password=c4nary%20pa55%27w%3Cr%3Ed%5C%22%26&x".to_owned(),
        "<p>c4nary pa55'w&lt;r&gt;d\\\"&amp;</p>".to_owned(),
        json,
        // Shown, it would be whole again.
        CANARY.replace("pa55", "pa\u{200b}5\u{1b}[0m5"),
        CANARY.replace(' ', "\n"),
    ] {
        let text = shown(&sent);
        assert!(!pieces.iter().any(|piece| text.contains(piece)), "{sent:?} became {text:?}");
    }
    assert_eq!(shown(&format!("login with {CANARY} failed")), "login with *** failed");
    assert_eq!(Text::new("a word").shown(&Hidden::default().with("")), "a word");
    assert!(!format!("{:?} {:?}", Text::new(CANARY), hidden()).contains("c4nary"));
}

#[test]
fn base64_is_as_every_server_writes_it() {
    assert_eq!(
        ["", "f", "fo", "foo", "foob"].map(|text| base64(text.as_bytes())),
        ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]
    );
}
