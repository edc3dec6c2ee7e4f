//! Room for a value on its way into its column, kept from value to value. Pure.

use std::cell::Cell;

/// Room beyond this is given back: a value of that size is rare.
const KEEP_BYTES: usize = 1 << 20;

thread_local! {
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Lends an empty buffer; inside it, another one.
#[inline]
pub(super) fn with_room<T>(use_it: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut room = ROOM.take();
    let result = use_it(&mut room);
    if room.capacity() <= KEEP_BYTES {
        room.clear();
        ROOM.set(room);
    }
    result
}
