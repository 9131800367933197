//! The pages in which a server lists its tools.

use std::collections::HashSet;

use serde_json::{Map, Value};

/// The maximum number of tools of a server.
pub const MAX_TOOLS: usize = 512;
/// The maximum size of all definitions of a server, in bytes.
const MAX_LISTING_BYTES: usize = 4 << 20;
/// The maximum number of pages in which a server lists its tools.
const MAX_PAGES: usize = 64;
/// The maximum length of the cursor of a page, in bytes.
const MAX_CURSOR_BYTES: usize = 4 << 10;

/// One page of a server's tools.
pub(super) struct ToolsPage {
    tools: Vec<Value>,
    next_cursor: Option<String>,
}

impl ToolsPage {
    /// Reads the result of `tools/list` with the page of this number. The error is the reason why it is none.
    pub(super) fn read(result: Value, number: usize) -> Result<Self, String> {
        let mut members = match result {
            Value::Object(members) => members,
            _ => Map::new(),
        };
        let Some(Value::Array(tools)) = members.remove("tools") else {
            return Err("its list of tools has no `tools`".to_owned());
        };
        let next_cursor = match members.remove("nextCursor") {
            Some(Value::String(cursor)) if cursor.len() > MAX_CURSOR_BYTES => {
                let limit = MAX_CURSOR_BYTES >> 10;
                return Err(format!(
                    "the `nextCursor` of page {number} of its list of tools has more than {limit} KiB"
                ));
            }
            Some(Value::String(cursor)) => Some(cursor).filter(|cursor| !cursor.is_empty()),
            None | Some(Value::Null) => None,
            Some(_) => return Err("the `nextCursor` of its list of tools is not a text".to_owned()),
        };
        Ok(Self { tools, next_cursor })
    }
}

/// The pages that a server sent so far.
#[derive(Default)]
pub(super) struct ToolPages {
    /// The definitions of the tools, as the server sent them.
    pub(super) tools: Vec<Value>,
    bytes: usize,
    cursors: HashSet<String>,
    /// Why orch does not read the rest.
    pub(super) cut_off: Option<String>,
}

impl ToolPages {
    /// The number of the next page, from 1.
    pub(super) fn next_number(&self) -> usize {
        self.cursors.len() + 1
    }

    /// Adds a page. Returns the cursor of the next page if there is one and orch reads it.
    pub(super) fn push(&mut self, page: ToolsPage) -> Option<String> {
        for tool in page.tools {
            self.bytes += tool.to_string().len();
            if self.tools.len() == MAX_TOOLS {
                self.cut_off = Some(format!("it lists more than {MAX_TOOLS} tools"));
                return None;
            }
            if self.bytes > MAX_LISTING_BYTES {
                self.cut_off = Some(format!("its definitions have more than {} MiB", MAX_LISTING_BYTES >> 20));
                return None;
            }
            self.tools.push(tool);
        }
        let cursor = page.next_cursor?;
        if !self.cursors.insert(cursor.clone()) || self.cursors.len() > MAX_PAGES {
            self.cut_off = Some("its list of tools does not end".to_owned());
            return None;
        }
        Some(cursor)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn page(result: Value) -> ToolsPage {
        ToolsPage::read(result, 1).unwrap()
    }

    /// A page without tools that is not the last one.
    fn page_before(cursor: &str) -> ToolsPage {
        page(json!({ "tools": [], "nextCursor": cursor }))
    }

    #[test]
    fn a_list_that_does_not_end_is_cut_off() {
        let mut same = ToolPages::default();
        assert_eq!(same.push(page_before("a")).as_deref(), Some("a"));
        assert_eq!(same.push(page_before("a")), None);
        let mut endless = ToolPages::default();
        let read = (0..1000).take_while(|number| endless.push(page_before(&number.to_string())).is_some()).count();
        assert_eq!(read, MAX_PAGES);
        assert_eq!(endless.cut_off.as_deref(), Some("its list of tools does not end"));
        let mut many = ToolPages::default();
        let tools: Vec<Value> = (0..=MAX_TOOLS).map(|number| json!({ "name": number.to_string() })).collect();
        assert_eq!(many.push(page(json!({ "tools": tools, "nextCursor": "b" }))), None);
        assert_eq!((many.tools.len(), many.cut_off.as_deref()), (MAX_TOOLS, Some("it lists more than 512 tools")));
        let mut large = ToolPages::default();
        let tool = json!({ "name": "a", "description": "x".repeat(MAX_LISTING_BYTES) });
        assert_eq!(large.push(page(json!({ "tools": [tool] }))), None);
        let reason = "its definitions have more than 4 MiB";
        assert_eq!((large.tools.len(), large.cut_off.as_deref()), (0, Some(reason)));
    }

    #[test]
    fn what_is_no_page_is_an_error() {
        for wrong in [json!({ "tool": [] }), json!([]), json!({ "tools": [], "nextCursor": 5 })] {
            assert!(ToolsPage::read(wrong, 1).is_err());
        }
        let with_cursor = |length| json!({ "tools": [], "nextCursor": "c".repeat(length) });
        assert!(ToolsPage::read(with_cursor(MAX_CURSOR_BYTES), 3).is_ok());
        let reason = ToolsPage::read(with_cursor(MAX_CURSOR_BYTES + 1), 3).err();
        assert_eq!(reason.unwrap(), "the `nextCursor` of page 3 of its list of tools has more than 4 KiB");
    }
}
