//! ClickHouse's compressed frames: checksum, method, sizes, LZ4 data. Pure.

/// Raw bytes in one frame: large enough for LZ4 to find repetitions, small enough to stay in cache.
const FRAME_BYTES: usize = 256 * 1024;
const METHOD_LZ4: u8 = 0x82;
const HEADER_BYTES: usize = 9;

/// Collects bytes and emits them as compressed frames.
#[derive(Debug, Default)]
pub struct FrameWriter {
    raw: Vec<u8>,
    frames: Vec<u8>,
    total: u64,
}

impl FrameWriter {
    /// Builds an empty writer.
    pub fn new() -> Self {
        Self { raw: Vec::with_capacity(FRAME_BYTES), frames: Vec::new(), total: 0 }
    }

    /// Appends bytes.
    pub fn write(&mut self, mut bytes: &[u8]) {
        self.total += bytes.len() as u64;
        while self.raw.len() + bytes.len() >= FRAME_BYTES {
            let (now, later) = bytes.split_at(FRAME_BYTES - self.raw.len());
            self.raw.extend_from_slice(now);
            self.flush();
            bytes = later;
        }
        self.raw.extend_from_slice(bytes);
    }

    /// Bytes written so far, before compression.
    pub fn raw_bytes(&self) -> u64 {
        self.total
    }

    /// Ends the last frame and returns all of them.
    pub fn finish(mut self) -> Vec<u8> {
        self.flush();
        self.frames
    }

    fn flush(&mut self) {
        if self.raw.is_empty() {
            return;
        }
        let start = self.frames.len();
        let room = lz4_flex::block::get_maximum_output_size(self.raw.len());
        self.frames.resize(start + 16 + HEADER_BYTES + room, 0);
        let body = start + 16 + HEADER_BYTES;
        let written = lz4_flex::block::compress_into(&self.raw, &mut self.frames[body..])
            .expect("the buffer has the maximum output size");
        self.frames.truncate(body + written);
        let size = |n: usize| u32::try_from(n).expect("a frame is far below 4 GiB").to_le_bytes();
        self.frames[start + 16] = METHOD_LZ4;
        self.frames[start + 17..start + 21].copy_from_slice(&size(written + HEADER_BYTES));
        self.frames[start + 21..start + 25].copy_from_slice(&size(self.raw.len()));
        let hash = cityhash_rs::cityhash_102_128(&self.frames[start + 16..]);
        // ClickHouse stores the two halves of the hash the other way round.
        self.frames[start..start + 16].copy_from_slice(&hash.rotate_left(64).to_le_bytes());
        self.raw.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_hold_what_was_written() {
        let data: Vec<u8> = (0..700_000_u32).map(|i| u8::try_from(i / 3 % 251).unwrap()).collect();
        let mut writer = FrameWriter::new();
        data.chunks(977).for_each(|chunk| writer.write(chunk));
        assert_eq!(writer.raw_bytes(), data.len() as u64);
        let frames = writer.finish();
        let (mut rest, mut back) = (frames.as_slice(), Vec::new());
        while !rest.is_empty() {
            let word = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap()) as usize;
            let (compressed, raw) = (word(17), word(21));
            back.extend(lz4_flex::block::decompress(&rest[25..16 + compressed], raw).unwrap());
            rest = &rest[16 + compressed..];
        }
        assert_eq!(back, data);
    }
}
