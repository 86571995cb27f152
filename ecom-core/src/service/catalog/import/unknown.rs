//! Names of fields that an import does not know.

use std::collections::BTreeMap;

use serde_ignored::Path;

/// The most names that a report has, and the most characters of each.
const MAX_NAMES: usize = 100;
const MAX_NAME: usize = 100;
/// The name under which a report counts the fields beyond that.
const MORE: &str = "(more)";

/// The names of unknown fields, with the number of their occurrences.
#[derive(Debug, Default)]
pub(super) struct Unknown {
    names: BTreeMap<String, u64>,
    changed: bool,
}

impl Unknown {
    pub fn add(&mut self, name: &str) {
        self.changed = true;
        if let Some(count) = self.names.get_mut(name) {
            *count += 1;
            return;
        }
        let name = if self.names.len() < MAX_NAMES { name } else { MORE };
        *self.names.entry(name.to_owned()).or_default() += 1;
    }

    /// Returns the names, if there are others than at the last call.
    pub fn news(&mut self) -> Option<BTreeMap<String, u64>> {
        std::mem::take(&mut self.changed).then(|| self.names.clone())
    }
}

/// Returns the name of a field, such as `images[].caption`: the same for every element of a list.
pub(super) fn name(path: &Path<'_>) -> String {
    fn write(path: &Path<'_>, to: &mut String) {
        match path {
            Path::Root => {}
            Path::Seq { parent, .. } => {
                write(parent, to);
                to.push_str("[]");
            }
            Path::Map { parent, key } => {
                write(parent, to);
                if !to.is_empty() {
                    to.push('.');
                }
                to.extend(key.chars().take(MAX_NAME));
            }
            Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
                write(parent, to);
            }
        }
    }
    let mut name = String::new();
    write(path, &mut name);
    shortened(name)
}

/// Returns the name of a column that a column map does not name.
pub(super) fn of_column(name: &str) -> String {
    shortened(format!("columns.{name}"))
}

fn shortened(name: String) -> String {
    match name.char_indices().nth(MAX_NAME) {
        None => name,
        Some((end, _)) => name.get(..end).map(|start| format!("{start}…")).unwrap_or_default(),
    }
}
