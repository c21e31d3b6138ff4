//! `PersistentVolumeClaim`.

use proto_kube::name;

use crate::check::Field;
use crate::meta;

/// The ways in which a volume can be mounted.
pub(crate) const MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// Rule: `accessModes`, which may be alone only with one pod.
pub(crate) fn access_modes(modes: &Field<'_>) {
    let (mut alone, mut shared) = (false, false);
    for mode in modes.items() {
        match mode.text() {
            "ReadWriteOncePod" => alone = true,
            text if MODES.contains(&text) => shared = true,
            _ => mode.shown_at(modes.path.clone()).not_supported(MODES),
        }
    }
    if alone && shared {
        modes.forbidden("may not use ReadWriteOncePod with other access modes");
    }
}

/// Rule: a `PersistentVolumeClaimSpec`.
pub(crate) fn spec(spec: &Field<'_>) {
    let modes = spec.at("accessModes");
    modes.needs("at least 1 access mode is required");
    meta::label_selector(&spec.at("selector"));
    access_modes(&modes);
    let resources = spec.at("resources");
    let storage = resources.at("requests").at("storage").shown_at(resources.path.key("storage"));
    if storage.needs_value("") && storage.quantity().is_some_and(|amount| amount.millis() <= 0) {
        storage.invalid("must be greater than zero");
    }
    spec.at("storageClassName").shaped(name::subdomain);
    spec.at("volumeMode").maybe_one_of(&["Block", "Filesystem"]);
    let (source, reference) = (spec.at("dataSource"), spec.at("dataSourceRef"));
    for part in [&source, &reference].into_iter().filter(|p| p.is_set()) {
        data_source(part);
    }
    if source.is_set() && reference.is_set() {
        let detail = if !reference.at("namespace").is_empty() {
            Some("may not be specified when dataSourceRef.namespace is specified")
        } else {
            let same =
                ["apiGroup", "kind", "name"].iter().all(|k| source.at(k).value == reference.at(k).value);
            (!same).then_some("must match dataSourceRef")
        };
        if let Some(detail) = detail {
            spec.invalid_value(source.path.to_string(), detail);
        }
    }
    spec.at("volumeAttributesClassName").shaped(name::subdomain);
}

fn data_source(source: &Field<'_>) {
    source.at("name").needs("");
    source.at("kind").needs("");
    let group = source.at("apiGroup");
    if group.is_empty() && source.at("kind").text() != "PersistentVolumeClaim" {
        let shown = source.at("kind").text();
        source.invalid_value(shown, "must be 'PersistentVolumeClaim' when referencing the default apiGroup");
    }
    group.shaped(name::subdomain);
    source.at("namespace").shaped(name::label);
}
