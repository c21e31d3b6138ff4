//! What a word such as `po`, `pods` or `deployments.apps` means, and what there is.

use anyhow::bail;
use proto_kube::{Resource, resource};

use super::Cluster;
use crate::args::Format;
use crate::output::table;

/// The resource that a word names: plural, singular, kind or short name, with or without its group.
pub(crate) fn find(word: &str) -> anyhow::Result<&'static Resource> {
    let word = word.to_lowercase();
    let (name, group) =
        word.split_once('.').map_or((word.as_str(), None), |(name, group)| (name, Some(group)));
    let of_group = |r: &&Resource| {
        group.is_none_or(|g| {
            g == r.group || g.strip_prefix(r.version).is_some_and(|g| g.trim_start_matches('.') == r.group)
        })
    };
    let named = |r: &&Resource| {
        r.plural == name || r.singular == name || r.short.contains(&name) || r.kind.to_lowercase() == name
    };
    let kept = |r: &&Resource| matches!(r.storage, resource::Storage::Kept(_));
    match resource::all().iter().filter(kept).filter(of_group).find(named) {
        Some(resource) => Ok(resource),
        None => bail!("the cluster has no resource type {word:?}; `cleat ctl api-resources` lists them"),
    }
}

/// All of a category, or the one resource: `all`, `pods`, `pods,services`.
pub(super) fn find_all(words: &str) -> anyhow::Result<Vec<&'static Resource>> {
    let mut found: Vec<&'static Resource> = Vec::new();
    for word in words.split(',') {
        let category = resource::all().iter().filter(|r| r.categories.contains(&word));
        let category: Vec<&Resource> =
            category.filter(|r| resource::preferred(r.group_resource()) == Some(r)).collect();
        if category.is_empty() { found.push(find(word)?) } else { found.extend(category) }
    }
    Ok(found)
}

/// `cleat ctl api-resources`.
pub(super) fn list(cluster: &Cluster) {
    let kept = |r: &&Resource| matches!(r.storage, resource::Storage::Kept(_));
    if cluster.output == Format::Name {
        for resource in resource::all().iter().filter(kept) {
            println!("{}", resource.group_resource());
        }
        return;
    }
    let row = |r: &Resource| {
        vec![
            r.plural.to_owned(),
            r.short.join(","),
            r.api_version(),
            r.namespaced.to_string(),
            r.kind.to_owned(),
        ]
    };
    let rows: Vec<Vec<String>> = resource::all().iter().filter(kept).map(row).collect();
    print!("{}", table(&["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"], &rows));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for (word, plural, version) in [
            ("po", "pods", "v1"),
            ("Pod", "pods", "v1"),
            ("deploy", "deployments", "v1"),
            ("deployments.apps", "deployments", "v1"),
            ("hpa", "horizontalpodautoscalers", "v2"),
            ("hpa.v1.autoscaling", "horizontalpodautoscalers", "v1"),
            ("ev", "events", "v1"),
            ("events.events.k8s.io", "events", "v1"),
        ] {
            let found = find(word).unwrap();
            assert_eq!((found.plural, found.version), (plural, version), "{word}");
        }
        assert!(find("tokenreviews").is_err());
        assert!(find_all("all").unwrap().len() > 5);
        assert_eq!(find_all("po,svc").unwrap().len(), 2);
    }
}
