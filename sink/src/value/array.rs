//! Arrays: Debezium's JSON and PostgreSQL's text, into array columns and into texts. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tidemark_crds::layout::Wire;

use super::placeholder::is_flattened;
use super::room::with_room;
use super::{Input, Pushed, ValueError, scalar};
use crate::decode::json::{Cursor, JsonText, Raw};
use crate::decode::postgres_text;
use crate::native::Column;
use crate::plan::ColumnPlan;

/// Appends an array of an event to an array column.
pub(super) fn push_event(
    column: &mut Column,
    plan: &ColumnPlan,
    array: &[u8],
    input: Input,
) -> Result<Pushed, ValueError> {
    if is_flattened(array)? {
        return Err(ValueError::NotCarried);
    }
    let mut cursor = Cursor::new(array);
    cursor.expect(b'[', "expected an array")?;
    let (mut first, mut worst) = (true, Pushed::AsIs);
    while cursor.next_item(&mut first, b']')? {
        let value = cursor.value()?;
        if matches!(value, Raw::Array(_)) {
            // PostgreSQL's arrays of arrays have no fixed depth: there is no type for them.
            return Err(ValueError::NotCarried);
        }
        worst = worst.max(push_element(column, plan, value, input)?);
    }
    column.end_array();
    Ok(worst)
}

fn push_element(
    column: &mut Column,
    plan: &ColumnPlan,
    value: Raw<'_>,
    input: Input,
) -> Result<Pushed, ValueError> {
    let mut element = column.element().ok_or(ValueError::Malformed)?;
    if value != Raw::Null {
        return scalar::push(&mut element, plan, value, input);
    }
    if plan.null_elements {
        element.push_default();
        Ok(Pushed::AsIs)
    } else {
        Err(ValueError::Null)
    }
}

/// Appends an array of an event to a column of texts, as PostgreSQL prints it.
pub(super) fn push_event_text(
    column: &mut Column,
    plan: &ColumnPlan,
    array: &[u8],
) -> Result<(), ValueError> {
    if is_flattened(array)? {
        return Err(ValueError::NotCarried);
    }
    with_room(|out| {
        let mut cursor = Cursor::new(array);
        cursor.expect(b'[', "expected an array")?;
        let mut first = true;
        out.push(b'{');
        while cursor.next_item(&mut first, b']')? {
            if out.len() > 1 {
                out.push(b',');
            }
            match (cursor.value()?, plan.wire) {
                (Raw::Null, _) => out.extend_from_slice(b"NULL"),
                (Raw::Text(text), Wire::Base64) => {
                    let bytes = STANDARD.decode(text.unescape()?).map_err(|_| ValueError::Malformed)?;
                    let mut hex = Vec::with_capacity(2 * bytes.len() + 2);
                    postgres_text::hex(&bytes, &mut hex);
                    postgres_text::element(&hex, out);
                }
                (Raw::Text(text), Wire::Text | Wire::Json | Wire::Uuid) => {
                    postgres_text::element(&text.unescape()?, out);
                }
                (Raw::Number(number), Wire::Int) => out.extend_from_slice(number),
                _ => return Err(ValueError::Malformed),
            }
        }
        out.push(b'}');
        if column.push_text(out) { Ok(()) } else { Err(ValueError::Malformed) }
    })
}

/// Appends an array from PostgreSQL's text to an array column.
pub(super) fn push_text(
    column: &mut Column,
    plan: &ColumnPlan,
    text: &[u8],
    input: Input,
) -> Result<Pushed, ValueError> {
    if plan.form.vector {
        return push_vector(column, plan, text, input);
    }
    let mut rest = without_bounds(text).strip_prefix(b"{").ok_or(ValueError::Malformed)?;
    let mut worst = Pushed::AsIs;
    if rest == b"}" {
        column.end_array();
        return Ok(worst);
    }
    loop {
        let (element, behind) = split_element(rest)?;
        let pushed = match element {
            Element::Null => push_element(column, plan, Raw::Null, input)?,
            Element::Plain(text) => push_text_element(column, plan, text, input)?,
            Element::Quoted(text) => with_room(|room| {
                let mut bytes = text.iter();
                while let Some(byte) = bytes.next() {
                    let byte = if *byte == b'\\' { bytes.next() } else { Some(byte) };
                    room.push(*byte.ok_or(ValueError::Malformed)?);
                }
                push_text_element(column, plan, room, input)
            })?,
        };
        worst = worst.max(pushed);
        match behind.split_first() {
            Some((b',', behind)) => rest = behind,
            Some((b'}', b"")) => break,
            _ => return Err(ValueError::Malformed),
        }
    }
    column.end_array();
    Ok(worst)
}

fn push_text_element(
    column: &mut Column,
    plan: &ColumnPlan,
    text: &[u8],
    input: Input,
) -> Result<Pushed, ValueError> {
    let mut element = column.element().ok_or(ValueError::Malformed)?;
    scalar::push_postgres_text(&mut element, plan, text, input)
}

/// pgvector's `[1,2.5]`.
fn push_vector(
    column: &mut Column,
    plan: &ColumnPlan,
    text: &[u8],
    input: Input,
) -> Result<Pushed, ValueError> {
    let mut cursor = Cursor::new(text);
    cursor.expect(b'[', "expected a vector")?;
    let (mut first, mut worst) = (true, Pushed::AsIs);
    while cursor.next_item(&mut first, b']')? {
        let Raw::Number(number) = cursor.value()? else { return Err(ValueError::Malformed) };
        worst = worst.max(push_text_element(column, plan, number, input)?);
    }
    column.end_array();
    Ok(worst)
}

enum Element<'a> {
    Null,
    Plain(&'a [u8]),
    /// Between the quotes, with its backslashes.
    Quoted(&'a [u8]),
}

/// Takes an element off the front of an array's text.
fn split_element(text: &[u8]) -> Result<(Element<'_>, &[u8]), ValueError> {
    match text.first() {
        // An array of arrays: no column of the type holds it.
        Some(b'{') => Err(ValueError::OutOfRange),
        Some(b'"') => {
            let inside = &text[1..];
            let mut at = 0;
            loop {
                match inside.get(at).ok_or(ValueError::Malformed)? {
                    b'\\' => at += 2,
                    b'"' => return Ok((Element::Quoted(&inside[..at]), &inside[at + 1..])),
                    _ => at += 1,
                }
            }
        }
        _ => {
            let end =
                text.iter().position(|byte| matches!(byte, b',' | b'}')).ok_or(ValueError::Malformed)?;
            let (plain, rest) = text.split_at(end);
            let element = if plain == b"NULL" { Element::Null } else { Element::Plain(plain) };
            Ok((element, rest))
        }
    }
}

/// An array's text without bounds: `[0:1]={a,b}` is `{a,b}`, since events do not have them.
pub(super) fn without_bounds(text: &[u8]) -> &[u8] {
    match (text.first(), text.iter().position(|byte| *byte == b'=')) {
        (Some(b'['), Some(at)) => &text[at + 1..],
        _ => text,
    }
}

/// PostgreSQL's text as if it had come as text in an event.
pub(super) fn as_raw(text: &[u8]) -> Raw<'_> {
    // Nothing is escaped, so a backslash in it is just a backslash.
    Raw::Text(JsonText { raw: text, escaped: false })
}
