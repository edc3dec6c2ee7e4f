//! How much memory rows may take. Pure, but for reading the container's limit.

/// Bytes of rows without a limit of the container, and the most under one.
const USUAL: usize = 64 << 20;
const MOST: usize = 160 << 20;
const LEAST: usize = 16 << 20;
/// A limit above this one is the machine's, and not meant for this process.
const CONTAINER: u64 = 2 << 30;

/// Bytes that rows may take over all tables, with the room that their columns keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Bytes in all.
    pub budget: usize,
}

impl Memory {
    /// From the limit of the control group that the process is in.
    pub fn of_container() -> Self {
        let limit = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
            .iter()
            .find_map(|path| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok());
        Self::of_limit(limit)
    }

    fn of_limit(limit: Option<u64>) -> Self {
        let budget = match limit.filter(|limit| *limit <= CONTAINER) {
            // The rest is for what is sent, librdkafka's queues and the program itself.
            Some(limit) => usize::try_from(limit / 3).unwrap_or(USUAL).clamp(LEAST, MOST),
            None => USUAL,
        };
        Self { budget }
    }

    /// Bytes of one batch at most, so that one fills while another is written.
    pub fn batch(self) -> usize {
        self.budget * 2 / 5
    }

    /// Bytes from which on batches are sent before they are old enough.
    pub fn short(self) -> usize {
        self.budget * 4 / 5
    }

    /// Bytes below which tables that were paused are read again.
    pub fn relaxed(self) -> usize {
        self.budget / 2
    }
}

/// The largest tables whose pause brings what is used below what is wanted; `sizes` are bytes by place.
pub fn largest(mut sizes: Vec<(usize, usize)>, mut used: usize, wanted: usize) -> Vec<usize> {
    sizes.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    let mut chosen = Vec::new();
    for (place, bytes) in sizes {
        if used <= wanted || bytes == 0 {
            break;
        }
        used -= bytes.min(used);
        chosen.push(place);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_container_gets_a_small_budget_and_a_machine_the_usual() {
        assert_eq!(Memory::of_limit(None).budget, USUAL);
        assert_eq!(Memory::of_limit(Some(64 << 30)).budget, USUAL);
        assert_eq!(Memory::of_limit(Some(512 << 20)).budget, MOST);
        assert_eq!(Memory::of_limit(Some(128 << 20)).budget, (128 << 20) / 3);
        assert_eq!(Memory::of_limit(Some(1 << 20)).budget, LEAST);
    }

    #[test]
    fn the_largest_tables_are_paused_first_and_no_more_than_needed() {
        let sizes = vec![(0, 10), (1, 50), (2, 30), (3, 0)];
        assert_eq!(largest(sizes.clone(), 90, 45), [1]);
        assert_eq!(largest(sizes.clone(), 90, 9), [1, 2, 0]);
        assert_eq!(largest(sizes, 90, 100), Vec::<usize>::new());
    }
}
