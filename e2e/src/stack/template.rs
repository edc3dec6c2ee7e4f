//! Fills in the configuration templates of `e2e/config`. Pure but for the read of the template.

use std::collections::BTreeMap;

use anyhow::{Context, bail};

use super::cache::e2e_folder;

/// The values of a template's `${NAME}` places.
pub(super) type Values = BTreeMap<&'static str, String>;

/// Reads the template `path`, relative to `e2e/config`, and fills it in.
pub(super) fn render_file(path: &str, values: &Values) -> anyhow::Result<String> {
    let file = e2e_folder().join("config").join(path);
    let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    render(&text, values).with_context(|| format!("filling in {}", file.display()))
}

/// Replaces each `${NAME}` by its value.
///
/// A name is of capital letters, digits and underscores; anything else in braces
/// stays, since Kafka Connect has placeholders of its own. A name without a value
/// is an error.
pub(super) fn render(text: &str, values: &Values) -> anyhow::Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        match after.split_once('}') {
            Some((name, tail)) if is_name(name) => {
                let Some(value) = values.get(name) else { bail!("no value for ${{{name}}}") };
                out.push_str(value);
                rest = tail;
            }
            _ => {
                out.push_str("${");
                rest = after;
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_filled_and_other_braces_stay() {
        let values = Values::from([("PORT", "1".to_owned())]);
        let filled = render("a=${PORT}:${PORT} ${file:x} ${", &values).unwrap();
        assert_eq!(filled, "a=1:1 ${file:x} ${");
    }

    #[test]
    fn a_place_without_a_value_is_an_error_that_names_it() {
        let error = render("${HOST}", &Values::new()).unwrap_err();
        assert_eq!(error.to_string(), "no value for ${HOST}");
    }
}
