//! `facts.txt`: what no package tells. Its head explains the words.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

use super::definitions::Definitions;

/// The facts by type.
pub(super) struct Facts {
    types: BTreeMap<String, Own>,
    none: Own,
}

/// The facts of a type.
#[derive(Default)]
pub(super) struct Own {
    presence: BTreeMap<String, &'static str>,
    pub(super) tags: BTreeMap<String, u32>,
    /// Types whose fields stand here in JSON, and their tags.
    pub(super) inlined: Vec<(String, u32)>,
    /// `enum` and `default`, each with `field=value`.
    pub(super) marks: Vec<(String, String)>,
    /// Whole lines of the table.
    pub(super) fields: BTreeMap<String, String>,
    pub(super) kinds: Vec<String>,
}

impl Own {
    pub(super) fn presence(&self, field: &str) -> Option<&'static str> {
        self.presence.get(field).copied()
    }
}

impl Facts {
    pub(super) fn parse(text: &str, definitions: &Definitions) -> Result<Self> {
        let mut facts = Self { types: BTreeMap::new(), none: Own::default() };
        for line in text.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
            facts.line(line, definitions).with_context(|| line.to_owned())?;
        }
        facts.check(definitions)?;
        Ok(facts)
    }

    /// Refuses facts about types and fields that there are not.
    fn check(&self, definitions: &Definitions) -> Result<()> {
        for (name, own) in self.types.iter().filter(|(_, own)| own.fields.is_empty()) {
            let definition = definitions.of(name).with_context(|| format!("no type is named {name}"))?;
            let marked = own.marks.iter().filter_map(|(_, mark)| mark.split('=').next());
            let told = own.presence.keys().chain(own.tags.keys()).map(String::as_str).chain(marked);
            if let Some(field) = told.into_iter().find(|field| definition["properties"].get(field).is_none())
            {
                bail!("{name} has no field {field}");
            }
        }
        Ok(())
    }

    pub(super) fn of(&self, name: &str) -> &Own {
        self.types.get(name).unwrap_or(&self.none)
    }

    fn line(&mut self, line: &str, definitions: &Definitions) -> Result<()> {
        let mut words = line.splitn(3, ' ');
        let (Some(short), Some(word), Some(rest)) = (words.next(), words.next(), words.next()) else {
            bail!("a fact has three parts");
        };
        let full = |short: &str| match (definitions.full(short), short.strip_prefix("meta.v1.")) {
            (Some(full), _) => full.to_owned(),
            (None, Some(kind)) => format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}"),
            (None, None) => format!("io.k8s.api.{short}"),
        };
        let own = self.types.entry(full(short)).or_default();
        let pair = |pair: &str| -> Result<(String, u32)> {
            let (field, tag) = pair.split_once(['=', ' ']).context("a name and a tag")?;
            Ok((field.to_owned(), tag.parse().context("a tag is a number")?))
        };
        match word {
            "pointer" => own.presence.extend(rest.split(' ').map(|f| (f.to_owned(), "pointer"))),
            "value" => own.presence.extend(rest.split(' ').map(|f| (f.to_owned(), "value"))),
            "always" => own.presence.extend(rest.split(' ').map(|f| (f.to_owned(), "always"))),
            "tag" => own.tags.extend(rest.split(' ').map(pair).collect::<Result<Vec<_>>>()?),
            "inline" => {
                let (name, tag) = pair(rest)?;
                own.inlined.push((full(&name), tag));
            }
            "enum" | "default" => own.marks.push((word.to_owned(), rest.to_owned())),
            "field" => {
                let name = rest.split(' ').next().unwrap_or_default();
                own.fields.insert(name.to_owned(), rest.to_owned());
            }
            "kind" => own.kinds.push(rest.to_owned()),
            _ => bail!("unknown word {word}"),
        }
        Ok(())
    }
}
