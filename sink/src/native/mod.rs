//! ClickHouse's Native format: typed column builders, blocks, compressed frames. Pure.
//!
//! Own code, because the block is built column by column while events are decoded, and because the
//! `clickhouse` crate's block builder neither compresses nor takes columns that are already in wire form.

mod block;
mod column;
mod frame;

pub use block::{BlockColumn, encode_block};
pub use column::{Column, Corrupt, ElementColumn, UnsupportedType};
pub use frame::FrameWriter;

/// Appends a variable-length unsigned integer (LEB128).
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or(0);
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Takes a variable-length unsigned integer off the front of `input`.
pub(crate) fn take_varint(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..63).step_by(7) {
        let (&byte, rest) = input.split_first()?;
        *input = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
