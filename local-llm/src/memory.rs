//! How much memory a model needs, and how much is available.

use std::fs;

use crate::gguf::Header;

/// How much memory a model needs, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// The weights alone, each held once: the minimum for running the model.
    pub least: u64,
    /// The same, plus the second form of some weights that kernels keep, and the keys and values of the longest
    /// conversation.
    pub most: u64,
}

impl Header {
    /// The memory that the model needs once it is loaded.
    #[must_use]
    pub fn memory(&self) -> Memory {
        let held = self.tensors.iter().map(crate::gguf::Tensor::held);
        let (least, most) = held.fold((0u64, 0u64), |(least, most), (once, all)| (least + once, most + all));
        let own = |part| self.own(part).unwrap_or(0);
        let heads = own("attention.head_count").max(1);
        let head = self.own("attention.key_length").unwrap_or(own("embedding_length") / heads);
        let groups = self.own("attention.head_count_kv").unwrap_or(heads);
        // Keys and values, four bytes per number.
        let each = own("block_count").saturating_mul(groups).saturating_mul(head).saturating_mul(8);
        Memory { least, most: most.saturating_add(each.saturating_mul(self.context())) }
    }
}

/// Memory that this process can still allocate, in bytes; `None` where the system does not report it.
#[must_use]
pub fn available() -> Option<u64> {
    let read = |path: &str| fs::read_to_string(path).ok();
    let machine = of_machine(&read("/proc/meminfo")?)?;
    let group = read("/proc/self/cgroup").and_then(|groups| of_group(&groups, read));
    Some(group.map_or(machine, |group| group.min(machine)))
}

/// Memory according to `/proc/meminfo`, in bytes: what is free or can be freed, and free swap space.
fn of_machine(text: &str) -> Option<u64> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    let kilobytes = field("MemAvailable")?.saturating_add(field("SwapFree").unwrap_or(0));
    Some(kilobytes.saturating_mul(1024))
}

/// Memory that the control groups (version 2) around the process still allow, in bytes; the tightest one counts. Cached
/// pages of files can be freed, so they do not count as used.
fn of_group(groups: &str, read: impl Fn(&str) -> Option<String>) -> Option<u64> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut left: Option<u64> = None;
    let mut path = path.trim_end_matches('/');
    loop {
        let file = |name: &str| read(&format!("/sys/fs/cgroup{path}/{name}"));
        let number = |name: &str| file(name)?.trim().parse::<u64>().ok();
        if let (Some(most), Some(used)) = (number("memory.max"), number("memory.current")) {
            let stat = file("memory.stat").unwrap_or_default();
            let cached = stat.lines().filter_map(|line| {
                let (name, count) = line.split_once(' ')?;
                matches!(name, "active_file" | "inactive_file").then(|| count.parse::<u64>().ok())?
            });
            let free = most.saturating_sub(used.saturating_sub(cached.sum()));
            left = Some(left.map_or(free, |left| left.min(free)));
        }
        match path.rsplit_once('/') {
            Some((above, _)) => path = above,
            None => return left,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_read() {
        let text = "MemTotal: 100 kB\nMemFree: 10 kB\nMemAvailable:    50 kB\nSwapFree:  7 kB\n";
        assert_eq!(of_machine(text), Some(57 * 1024));
        assert_eq!(of_machine("nonsense"), None);
    }

    #[test]
    fn the_tightest_group_counts_and_cached_files_do_not() {
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
        assert_eq!(of_group("0::/a/b\n", read), Some(600));
        assert_eq!(of_group("0::/\n", read), None);
        assert_eq!(of_group("4:memory:/x\n", read), None);
    }
}
