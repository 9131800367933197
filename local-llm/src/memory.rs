//! The memory that a model needs and the memory that is available.

use std::fs;

use crate::gguf::Header;
use crate::tensor_info::TensorInfo;

/// The memory that a model needs, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryEstimate {
    /// The minimum for running the model: one copy of the weights.
    pub min_bytes: u64,
    /// The maximum: the weights, the repacked copies that kernels keep of some weights, and the KV cache at the full
    /// context length.
    pub max_bytes: u64,
}

impl Header {
    /// The memory that the model needs once it is loaded.
    #[must_use]
    pub fn memory_estimate(&self) -> MemoryEstimate {
        let sizes = self.tensors.iter().map(TensorInfo::memory_bytes);
        let (min, max) =
            sizes.fold((0u64, 0u64), |(min, max), (tensor_min, tensor_max)| (min + tensor_min, max + tensor_max));
        let count = |key| self.architecture_u64(key).unwrap_or(0);
        let heads = count("attention.head_count").max(1);
        let head_size = self.architecture_u64("attention.key_length").unwrap_or(count("embedding_length") / heads);
        let kv_heads = self.architecture_u64("attention.head_count_kv").unwrap_or(heads);
        // The KV cache holds a key and a value, whose elements have four bytes each.
        let bytes_per_position =
            count("block_count").saturating_mul(kv_heads).saturating_mul(head_size).saturating_mul(8);
        MemoryEstimate {
            min_bytes: min,
            max_bytes: max.saturating_add(bytes_per_position.saturating_mul(self.context_length())),
        }
    }
}

/// The memory that this process can still allocate, in bytes; `None` if the system does not report it.
#[must_use]
pub fn available_bytes() -> Option<u64> {
    let read = |path: &str| fs::read_to_string(path).ok();
    let machine = machine_memory(&read("/proc/meminfo")?)?;
    let cgroup = read("/proc/self/cgroup").and_then(|cgroups| cgroup_memory(&cgroups, read));
    Some(cgroup.map_or(machine, |cgroup| cgroup.min(machine)))
}

/// The available memory and the free swap space in bytes, according to `/proc/meminfo`.
fn machine_memory(text: &str) -> Option<u64> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    let kilobytes = field("MemAvailable")?.saturating_add(field("SwapFree").unwrap_or(0));
    Some(kilobytes.saturating_mul(1024))
}

/// The memory that the control groups (version 2) of the process still allow, in bytes: the minimum over the group and
/// all its parents. The kernel can free cached pages of files, so they do not count as used.
fn cgroup_memory(cgroups: &str, read: impl Fn(&str) -> Option<String>) -> Option<u64> {
    let path = cgroups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut available: Option<u64> = None;
    let mut path = path.trim_end_matches('/');
    loop {
        let read_file = |name: &str| read(&format!("/sys/fs/cgroup{path}/{name}"));
        let read_number = |name: &str| read_file(name)?.trim().parse::<u64>().ok();
        if let (Some(max), Some(used)) = (read_number("memory.max"), read_number("memory.current")) {
            let stat = read_file("memory.stat").unwrap_or_default();
            let cached = stat.lines().filter_map(|line| {
                let (name, count) = line.split_once(' ')?;
                matches!(name, "active_file" | "inactive_file").then(|| count.parse::<u64>().ok())?
            });
            let free = max.saturating_sub(used.saturating_sub(cached.sum()));
            available = Some(available.map_or(free, |available| available.min(free)));
        }
        match path.rsplit_once('/') {
            Some((parent, _)) => path = parent,
            None => return available,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_the_machine_is_parsed() {
        let text = "MemTotal: 100 kB\nMemFree: 10 kB\nMemAvailable:    50 kB\nSwapFree:  7 kB\n";
        assert_eq!(machine_memory(text), Some(57 * 1024));
        assert_eq!(machine_memory("nonsense"), None);
    }

    #[test]
    fn the_smallest_limit_applies_and_cached_files_are_not_counted() {
        let read = |path: &str| {
            let text = match path {
                "/sys/fs/cgroup/a/b/memory.max" => "max\n",
                "/sys/fs/cgroup/a/memory.max" => "1000\n",
                "/sys/fs/cgroup/a/memory.current" => "700\n",
                "/sys/fs/cgroup/a/memory.stat" => "anon 400\nactive_file 100\ninactive_file 200\n",
                _ => return None,
            };
            Some(text.to_owned())
        };
        assert_eq!(cgroup_memory("0::/a/b\n", read), Some(600));
        assert_eq!(cgroup_memory("0::/\n", read), None);
        assert_eq!(cgroup_memory("4:memory:/x\n", read), None);
    }
}
