//! Words of other systems: the one way from what a server sent into an error, a status, an event or a log. Pure.
//!
//! A server can send anything: the page of somebody else's administration, a terminal's commands, megabytes, or the
//! password that it was called with. What is read of it as text is a [`Text`], which nothing prints; what comes out of
//! [`Text::shown`] is one short line of visible characters without the secrets that are [`Hidden`].

use serde::Deserialize;

use crate::credentials::Credentials;

/// Longest text that is shown, in characters.
pub const LIMIT: usize = 512;
/// What is looked at of a text, in bytes: more is read by nobody.
const WINDOW: usize = 64 << 10;
/// What stands in the place of a secret.
const MASK: &str = "***";

/// Text that another system sent.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Text(String);

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{} bytes of another system]", self.0.len())
    }
}

impl Text {
    /// Takes what was sent.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Takes what was sent as bytes; what is no UTF-8 is left out when it is shown.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(String::from_utf8_lossy(&bytes[..bytes.len().min(WINDOW + 1)]).into_owned())
    }

    /// What can be shown of it: at most [`LIMIT`] visible characters on one line, the secrets left out.
    pub fn shown(&self, hidden: &Hidden) -> String {
        // The rest of a secret that the window cuts would not be known for one.
        let seen = window(&self.0, hidden.longest());
        let text = hidden.mask(&visible(&hidden.mask(seen)));
        shorten(&text, LIMIT)
    }

    /// Whether it is one of the words that a system is known to say.
    pub fn is(&self, word: &str) -> bool {
        self.0 == word
    }

    /// The text itself, to be read for what is known of its form; what is found is taken out by another [`Text`].
    pub fn lines(&self) -> impl DoubleEndedIterator<Item = &str> {
        window(&self.0, 0).lines()
    }
}

/// Secrets that are in no text that is shown, however a server writes them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Hidden(Vec<String>);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{} forms of secrets]", self.0.len())
    }
}

impl Hidden {
    /// Of a login: its password, alone and with its user in HTTP's form.
    pub fn of_login(login: &Credentials) -> Self {
        let password = login.password.expose();
        let mut hidden = Self::default().with(password);
        if !password.is_empty() {
            hidden.add(base64(format!("{}:{password}", login.username).as_bytes()));
        }
        hidden
    }

    /// With one more secret, in the forms in which servers repeat what they were sent.
    #[must_use]
    pub fn with(mut self, secret: &str) -> Self {
        if !secret.is_empty() {
            let percent: String = secret
                .bytes()
                .map(|byte| match byte {
                    b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                        char::from(byte).to_string()
                    }
                    _ => format!("%{byte:02X}"),
                })
                .collect();
            let html = secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            let json = serde_json::Value::from(secret).to_string();
            self.add(percent.to_lowercase());
            self.add(percent);
            self.add(html.replace('"', "&quot;").replace('\'', "&#39;"));
            self.add(html);
            self.add(json[1..json.len() - 1].to_owned());
            self.add(secret.replace('\'', "''"));
            self.add(secret.replace('\\', "\\\\").replace('\'', "\\'"));
            self.add(base64(secret.as_bytes()));
            self.add(secret.to_owned());
            // One that has line breaks or the like is shown without.
            self.add(visible(secret));
        }
        self
    }

    /// With everything that another one hides.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        other.0.iter().for_each(|form| self.add(form.clone()));
        self
    }

    fn add(&mut self, form: String) {
        if !form.is_empty() && !self.0.contains(&form) {
            self.0.push(form);
            // The longest first: one that is a part of another would leave the rest of it.
            self.0.sort_by_key(|form| std::cmp::Reverse(form.len()));
        }
    }

    fn longest(&self) -> usize {
        self.0.first().map_or(0, String::len)
    }

    fn mask(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, form| text.replace(form.as_str(), MASK))
    }
}

/// One line of at most `limit` visible characters: what an error's own words come to.
pub fn line(text: &str, limit: usize) -> String {
    shorten(&visible(window(text, 0)), limit)
}

/// The beginning of a text, less its last bytes where it goes on.
fn window(text: &str, less: usize) -> &str {
    if text.len() <= WINDOW {
        return text;
    }
    &text[..text.floor_char_boundary(WINDOW.saturating_sub(less))]
}

/// Without what a terminal obeys or what hides or turns other characters; white space is one space.
fn visible(text: &str) -> String {
    let mut seen = String::with_capacity(text.len().min(WINDOW));
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' || c == '\u{9b}' {
            let kind = if c == '\u{9b}' { Some('[') } else { rest.next() };
            match kind {
                // CSI: parameters up to a final byte.
                Some('[') => drop(rest.by_ref().find(|c| ('@'..='~').contains(c))),
                // OSC and other strings: up to BEL or the string's end.
                Some(']' | 'P' | 'X' | '^' | '_') => {
                    while let Some(c) = rest.next() {
                        if c == '\u{7}' || (c == '\u{1b}' && rest.next_if_eq(&'\\').is_some()) {
                            break;
                        }
                    }
                }
                _ => {}
            }
        } else if c.is_whitespace() {
            if !seen.ends_with(' ') && !seen.is_empty() {
                seen.push(' ');
            }
        } else if !c.is_control() && !is_unseen(c) {
            seen.push(c);
        }
    }
    seen.truncate(seen.trim_end().len());
    seen
}

/// Characters without a width or that turn the direction, and what stands for bytes that are none.
fn is_unseen(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff0}'..='\u{ffff}' | '\u{e0000}'..='\u{e0fff}')
}

fn shorten(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    text.chars().take(limit.saturating_sub(1)).chain(['…']).collect()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let of = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = of(0) << 16 | of(1) << 8 | of(2);
        for at in 0..=3 {
            let digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
#[path = "foreign_tests.rs"]
mod tests;
