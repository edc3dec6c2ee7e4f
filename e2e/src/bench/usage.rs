//! CPU time and memory of a process, from `/proc`. Reads the file system.

use std::fs;
use std::time::Duration;

use anyhow::{Context, ensure};

/// Length of the ticks in which the kernel tells CPU time: `USER_HZ` is 100 on every platform of ours.
const TICK: Duration = Duration::from_millis(10);

/// Returns the CPU time, user and system, of a process and of its threads that ended.
///
/// A process that ended and is not yet reaped has its final figure.
pub fn cpu_time(process: u32) -> anyhow::Result<Duration> {
    let fields = stat(process)?;
    let ticks = |index: usize| -> anyhow::Result<u32> {
        fields.get(index).context("too few fields")?.parse().context("not a number")
    };
    // Counted from the field behind the program's name: utime and stime.
    let total = ticks(11).and_then(|user| Ok(user + ticks(12)?));
    Ok(TICK * total.with_context(|| format!("reading /proc/{process}/stat"))?)
}

/// Returns whether a process has ended and waits to be reaped.
pub fn is_zombie(process: u32) -> anyhow::Result<bool> {
    Ok(stat(process)?.first().is_some_and(|state| state == "Z"))
}

/// Returns the highest resident memory since the start or the last [`reset_peak_memory`], in bytes.
pub fn peak_memory(process: u32) -> anyhow::Result<u64> {
    of_status(process, "VmHWM:")
}

/// Returns the resident memory, in bytes.
pub fn memory(process: u32) -> anyhow::Result<u64> {
    of_status(process, "VmRSS:")
}

/// Returns an amount of `/proc/PID/status` in bytes.
fn of_status(process: u32, name: &str) -> anyhow::Result<u64> {
    let path = format!("/proc/{process}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let kibibytes = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|number| number.trim().parse::<u64>().ok());
    Ok(kibibytes.with_context(|| format!("{path} has no {name}"))? * 1024)
}

/// Lets the peak of the resident memory begin anew at what the process holds now.
pub fn reset_peak_memory(process: u32) -> anyhow::Result<()> {
    let path = format!("/proc/{process}/clear_refs");
    fs::write(&path, "5").with_context(|| format!("writing {path}"))
}

/// Returns the load average of the last minute.
pub fn load_average() -> anyhow::Result<f64> {
    let text = fs::read_to_string("/proc/loadavg").context("reading /proc/loadavg")?;
    text.split(' ').next().and_then(|first| first.parse().ok()).context("/proc/loadavg has no number")
}

/// Returns the fields of `/proc/PID/stat` behind the program's name, beginning with the state.
fn stat(process: u32) -> anyhow::Result<Vec<String>> {
    let path = format!("/proc/{process}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    // The name may hold spaces and parentheses; the last parenthesis ends it.
    let (_, rest) = text.rsplit_once(')').with_context(|| format!("{path} has no name"))?;
    let fields: Vec<String> = rest.split_whitespace().map(str::to_owned).collect();
    ensure!(fields.len() > 12, "{path} has only {} fields", fields.len());
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_work_shows_as_cpu_time_and_held_memory_as_peak() {
        let own = std::process::id();
        let before = cpu_time(own).unwrap();
        let mut held = vec![1_u64; 8 << 20];
        while cpu_time(own).unwrap() < before + Duration::from_millis(50) {
            for value in &mut held {
                *value = value.wrapping_mul(3);
            }
        }
        assert!(peak_memory(own).unwrap() > 64 << 20);
        assert!(memory(own).unwrap() > 64 << 20);
        assert!(!is_zombie(own).unwrap());
    }
}
