//! Remembers the servers that do not answer the discovery of the new protocol, so that orch waits for such an answer
//! only once.
//!
//! A server that answers it with an error needs no entry: the connection continues with the old protocol at once.

use std::io;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::folder::NoFollowFile;
use crate::model::{Digest, McpServerSpec, McpTransport, canonical_json};

/// The maximum number of servers in the file. The oldest entries make way for new ones.
const MAX_SERVERS: usize = 256;
/// The maximum size of the file, in bytes.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// The file with the servers, as digests of their commands or addresses.
#[derive(Clone, Debug)]
pub(super) struct LegacyServers(pub(super) Option<NoFollowFile>);

/// The content of the file.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Content {
    legacy: Vec<String>,
}

impl LegacyServers {
    /// Whether a server is known not to answer the discovery. Blocks.
    pub(super) fn contains(&self, server: &McpServerSpec) -> bool {
        let content = self.0.as_ref().map(read).unwrap_or_default();
        content.legacy.contains(&server_key(server))
    }

    /// Adds or removes a server. Blocks.
    pub(super) fn set(&self, server: &McpServerSpec, is_legacy: bool) -> io::Result<()> {
        let Some(file) = &self.0 else { return Ok(()) };
        let (mut content, key) = (read(file), server_key(server));
        if content.legacy.contains(&key) == is_legacy {
            return Ok(());
        }
        content.legacy.retain(|known| *known != key);
        if is_legacy {
            content.legacy.push(key);
        }
        let surplus = content.legacy.len().saturating_sub(MAX_SERVERS);
        content.legacy.drain(..surplus);
        file.replace_unsynced(json!(content).to_string().as_bytes())
    }
}

/// Reads the file. A file that is missing, too large or damaged has no entries: it is only a cache.
fn read(file: &NoFollowFile) -> Content {
    let is_small = file.metadata().is_ok_and(|metadata| metadata.len() <= MAX_FILE_BYTES);
    let bytes = if is_small { file.read().unwrap_or_default() } else { Vec::new() };
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// What identifies the program or the address of a server.
fn server_key(server: &McpServerSpec) -> String {
    let value = match &server.transport {
        McpTransport::Stdio { command, .. } => json!({ "command": command }),
        McpTransport::Http { url, .. } => json!({ "url": url }),
    };
    Digest::compute(canonical_json(&value).as_bytes()).as_str().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::{FolderAccess, NoFollowFolder};
    use crate::model::McpAccess;

    fn server(program: &str) -> McpServerSpec {
        McpServerSpec {
            name: "a".to_owned(),
            transport: McpTransport::Stdio { command: vec![program.to_owned()], env: Vec::new(), sandbox: None },
            tools: None,
            access: McpAccess::Read,
        }
    }

    #[test]
    fn a_server_stays_in_the_file_until_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let file = NoFollowFolder::open(folder.path(), FolderAccess::Private).unwrap().file("legacy.json");
        let servers = LegacyServers(Some(file.clone()));
        assert!(!servers.contains(&server("a")));
        servers.set(&server("a"), true).unwrap();
        servers.set(&server("b"), true).unwrap();
        let again = LegacyServers(Some(file.clone()));
        assert!(again.contains(&server("a")) && again.contains(&server("b")) && !again.contains(&server("c")));
        again.set(&server("a"), false).unwrap();
        assert!(!servers.contains(&server("a")) && servers.contains(&server("b")));
        for number in 0..MAX_SERVERS {
            servers.set(&server(&number.to_string()), true).unwrap();
        }
        assert!(!servers.contains(&server("b")) && servers.contains(&server("0")));
        file.replace(b"{\"legacy\": 1}").unwrap();
        assert!(!servers.contains(&server("0")));
        servers.set(&server("a"), true).unwrap();
        assert!(servers.contains(&server("a")));
        assert!(!LegacyServers(None).contains(&server("a")) && LegacyServers(None).set(&server("a"), true).is_ok());
    }
}
