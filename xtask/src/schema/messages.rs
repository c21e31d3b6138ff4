//! The protobuf tags that prost's structs tell.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Tags by type and field, both without regard to case and underscores: prost respells names.
pub(super) struct Messages {
    tags: HashMap<(String, String), u32>,
}

impl Messages {
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let mut messages = Self { tags: HashMap::new() };
        messages.folder(&folder.join("src"), "io.k8s")?;
        Ok(messages)
    }

    pub(super) fn tag(&self, name: &str, field: &str) -> Option<u32> {
        self.tags.get(&(name.to_lowercase(), field.to_lowercase())).copied()
    }

    fn folder(&mut self, folder: &Path, package: &str) -> Result<()> {
        for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().replace('_', "-");
            if path.is_dir() {
                self.folder(&path, &format!("{package}.{name}"))?;
            } else {
                let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                self.module(&text, package);
            }
        }
        Ok(())
    }

    fn module(&mut self, text: &str, package: &str) {
        let mut message = String::new();
        let mut tag = None;
        for line in text.lines().map(str::trim) {
            if let Some(rest) = line.strip_prefix("pub struct ") {
                let name: String = rest.chars().take_while(|c| c.is_alphanumeric()).collect();
                message = format!("{package}.{name}").to_lowercase();
            } else if let Some((_, rest)) = line.split_once("tag = \"") {
                tag = rest.split('"').next().and_then(|n| n.parse().ok());
            } else if let (Some(rest), Some(tag)) = (line.strip_prefix("pub "), tag.take()) {
                let name = rest.split(':').next().unwrap_or_default().trim_start_matches("r#");
                self.tags.insert((message.clone(), name.replace('_', "").to_lowercase()), tag);
            }
        }
    }
}
